"""What is in an ONNX file, and where ONNX Runtime would run it; read without the onnx package."""

from __future__ import annotations

import math
import mmap
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kzoo.errors import BundleError
from kzoo.runtime.bundle import Bundle
from kzoo.runtime.external import weight_files
from kzoo.runtime.metadata import decode_metadata
from kzoo.runtime.protobuf import read_fields, read_number
from kzoo.runtime.session import Device, open_recording_session
from kzoo.runtime.tables import draw_sizes, draw_table

# Field numbers of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_METADATA = 7, 8, 14
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_OPERATION, _NODE_ATTRIBUTE = 4, 5
_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 6, 11
_TENSOR_DIMS = 1
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
# How many items of a list are shown, and how many letters of anything.
_MOST_ITEMS, _LONGEST = 5, 100
_DEEPEST = 4


@dataclass
class GraphContents:
    """What an ONNX file holds.

    Attributes:
        operations: number of nodes of each operation, the most frequent first, those inside branches and loops too.
        opset: version of ONNX' own operators.
        initializers: number of stored tensors.
        parameters: number of values in them.
        files: the file, and those beside it that hold its weights, with their sizes in bytes.
        facts: what the graph says of itself: name, task, labels, preprocessing.
    """

    operations: dict[str, int] = field(default_factory=dict)
    opset: int = 0
    initializers: int = 0
    parameters: int = 0
    files: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return sum(self.operations.values())


@dataclass(frozen=True)
class PlacedNode:
    """A node and the provider that runs it: `CUDA`, `CPU`, ...; a node may have no name."""

    provider: str
    operation: str
    name: str

    def __str__(self) -> str:
        return f"{self.operation} {self.name}".rstrip()


@dataclass(frozen=True)
class Inspection:
    """What an ONNX file holds, and where its nodes run.

    Attributes:
        contents: what is in the file.
        device: what it was loaded on, `"cpu"` or `"cuda"`.
        placed: its nodes as ONNX Runtime hands them out. Before, it folds constants and fuses; it fuses again
            afterwards. So they are not quite those of the file.
    """

    contents: GraphContents
    device: str
    placed: list[PlacedNode]

    @property
    def left_on_cpu(self) -> list[PlacedNode]:
        """The nodes that run on the CPU although the graph runs on a GPU."""
        return [node for node in self.placed if self.device != "cpu" and node.provider == "CPU"]

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it."""
        return {
            **asdict(self.contents),
            "nodes": self.contents.nodes,
            "device": self.device,
            "placed": [asdict(node) for node in self.placed],
            "left_on_cpu": [asdict(node) for node in self.left_on_cpu],
        }

    def draw(self, role: str) -> str:
        """Return it as a table, for a terminal."""
        providers = list(dict.fromkeys(node.provider for node in self.placed))
        placed = Counter((node.operation, node.provider) for node in self.placed)
        names = list(dict.fromkeys([*self.contents.operations, *(node.operation for node in self.placed)]))

        def row(name: str, in_file: int, *by_provider: int) -> tuple[str, ...]:
            return (name, *(f"{count:,}" if count else "" for count in (in_file, *by_provider)))

        rows = [
            row(
                name,
                self.contents.operations.get(name, 0),
                *(placed[name, provider] for provider in providers),
            )
            for name in names
        ]
        totals = Counter(node.provider for node in self.placed)
        rows.append(row("all nodes", self.contents.nodes, *(totals[provider] for provider in providers)))
        lines = [
            draw_table((role, "in the file", *(f"run by {provider}" for provider in providers)), rows),
            "",
            f"{self.contents.parameters:,} parameters in {self.contents.initializers:,} tensors; "
            f"{draw_sizes(self.contents.files)}; opset {self.contents.opset}",
            *(f"{name}: {_brief(value)}" for name, value in self.contents.facts.items()),
        ]
        if self.left_on_cpu:
            lines.append("on the CPU although the graph runs on the GPU:")
            lines += [f"  {node}" for node in self.left_on_cpu]
        return "\n".join(lines)


def inspect(path: str | os.PathLike[str], device: Device = "auto") -> Inspection:
    """Count what is in an ONNX file, and ask ONNX Runtime which provider it gives each node to.

    Args:
        path: the file.
        device: as in `open_session`.

    Raises:
        BundleError: it is no ONNX file, or ONNX Runtime cannot load it.
        KzooError: the device cannot be used.
    """
    contents = read_contents(path)
    session = open_recording_session(path, device)
    placed = [
        PlacedNode(provider.removesuffix("ExecutionProvider"), operation, name)
        for provider, operation, name in session.placements()
    ]
    return Inspection(contents, session.device, placed)


def graph_files(path: str | os.PathLike[str]) -> dict[str, Path]:
    """Return the ONNX files of a bundle by role, or a bare file under the role `model`.

    Raises:
        BundleError: there is no bundle, or it is damaged.
    """
    file = Path(path)
    if file.is_file():
        return {"model": file}
    bundle = Bundle.open(file)
    return {role: bundle.path(graph.file) for role, graph in bundle.manifest.graphs.items()}


def read_contents(path: str | os.PathLike[str]) -> GraphContents:
    """Count what is in an ONNX file, without reading its weights.

    Raises:
        BundleError: it cannot be read, or is no ONNX file.

    Example:
        >>> read_contents("bundles/topic/model.onnx").parameters  # doctest: +SKIP
        109483778
    """
    file = Path(path)
    contents = GraphContents()
    external = weight_files(file)
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            contents.files[file.name] = len(content)
            _read_model(content, contents)
    except ValueError:
        raise BundleError(f"'{file}' is no ONNX file, or is damaged.") from None
    if not contents.operations:
        raise BundleError(f"'{file}' is no ONNX file: it has no nodes.")
    for name in sorted(external):
        beside = file.parent / Path(name).name
        if beside.is_file():
            contents.files[beside.name] = beside.stat().st_size
    contents.operations = dict(Counter(contents.operations).most_common())
    return contents


def _is_shallow(value: Any, depth: int = _DEEPEST) -> bool:
    """Return whether there are lists in lists no deeper than some, so that what walks through them comes back."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return items is None or (depth > 0 and all(_is_shallow(item, depth - 1) for item in items))


def _brief(value: Any) -> str:
    """Return a fact in a line of a terminal."""
    if isinstance(value, dict):
        said = [f"{key} {_brief(item)}" for key, item in value.items() if item is not None]
    elif isinstance(value, list):
        more = [f"and {len(value) - _MOST_ITEMS:,} more"] if len(value) > _MOST_ITEMS else []
        said = [*map(_brief, value[:_MOST_ITEMS]), *more]
    else:
        said = [str(value)]
    text = "".join(letter if letter.isprintable() else " " for letter in ", ".join(said))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _read_model(content: mmap.mmap, contents: GraphContents) -> None:
    entries = {}
    for number, _, start, end in read_fields(content, 0, len(content)):
        if number == _MODEL_GRAPH:
            _read_graph(content, start, end, contents)
        elif number == _MODEL_OPSET:
            parts = {part: (left, right) for part, _, left, right in read_fields(content, start, end)}
            domain = _text(content, *parts[_OPSET_DOMAIN]) if _OPSET_DOMAIN in parts else ""
            if domain in ("", "ai.onnx") and _OPSET_VERSION in parts:
                contents.opset = read_number(content, parts[_OPSET_VERSION][0])[0]
        elif number == _MODEL_METADATA:
            entry = _read_entry(content, start, end)
            entries[entry.get(_ENTRY_KEY, "")] = entry.get(_ENTRY_VALUE, "")
    contents.facts = {name: value for name, value in decode_metadata(entries).items() if _is_shallow(value)}


def _read_graph(content: mmap.mmap, start: int, end: int, contents: GraphContents) -> None:
    for number, _, left, right in read_fields(content, start, end):
        if number == _GRAPH_NODE:
            _read_node(content, left, right, contents)
        elif number == _GRAPH_INITIALIZER:
            contents.initializers += 1
            contents.parameters += math.prod(_read_tensor(content, left, right))


def _read_node(content: mmap.mmap, start: int, end: int, contents: GraphContents) -> None:
    for number, _, left, right in read_fields(content, start, end):
        if number == _NODE_OPERATION:
            name = _text(content, left, right)
            contents.operations[name] = contents.operations.get(name, 0) + 1
        elif number == _NODE_ATTRIBUTE:
            for part, _, first, last in read_fields(content, left, right):
                if part in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                    _read_graph(content, first, last, contents)


def _read_tensor(content: mmap.mmap, start: int, end: int) -> list[int]:
    """Return a tensor's dimensions."""
    dims: list[int] = []
    for number, _, left, right in read_fields(content, start, end):
        if number == _TENSOR_DIMS:
            while left < right:
                size, left = read_number(content, left)
                dims.append(size)
    return dims


def _read_entry(content: mmap.mmap, start: int, end: int) -> dict[int, str]:
    return {part: _text(content, first, last) for part, _, first, last in read_fields(content, start, end)}


def _text(content: mmap.mmap, start: int, end: int) -> str:
    return content[start:end].decode("utf-8")
