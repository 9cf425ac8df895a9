"""Hand a model over to Triton Inference Server: a model repository for its ONNX Runtime backend."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import onnx

from kzoo.errors import ExportError
from kzoo.export.exporter import to_bundle, to_onnx
from kzoo.export.weights import mapped
from kzoo.models import TransformerModel
from kzoo.replace import put_in_place, staging
from kzoo.runtime import TASKS
from kzoo.runtime.bundle import Bundle
from kzoo.runtime.manifest import EXPLANATION

# How long the first of some requests waits for others to share a batch with.
_QUEUE_DELAY_MICROSECONDS = 1000

_CONFIG_FILE, _LABELS_FILE, _GRAPH_FILE = "config.pbtxt", "labels.txt", "model.onnx"

_TYPES: dict[int, str] = {
    onnx.TensorProto.BOOL: "TYPE_BOOL",
    onnx.TensorProto.UINT8: "TYPE_UINT8",
    onnx.TensorProto.UINT16: "TYPE_UINT16",
    onnx.TensorProto.UINT32: "TYPE_UINT32",
    onnx.TensorProto.UINT64: "TYPE_UINT64",
    onnx.TensorProto.INT8: "TYPE_INT8",
    onnx.TensorProto.INT16: "TYPE_INT16",
    onnx.TensorProto.INT32: "TYPE_INT32",
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.FLOAT16: "TYPE_FP16",
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.DOUBLE: "TYPE_FP64",
    onnx.TensorProto.BFLOAT16: "TYPE_BF16",
}


def to_triton(
    source: keras.Model | str | os.PathLike[str],
    repository: str | os.PathLike[str],
    *,
    name: str | None = None,
    version: int = 1,
    replace: bool = False,
    max_batch_size: int = 32,
    **options: Any,
) -> list[pathlib.Path]:
    """Put a model into a Triton model repository: `NAME/VERSION/model.onnx`, and `NAME/config.pbtxt` beside it.

    The server joins requests to batches where all inputs and outputs of a graph have a batch axis. An encoder-decoder
    becomes two models, `NAME_encoder` and `NAME_decoder`. Texts are the client's to tokenize: the tokenizer lies
    beside the graph. Other models and other versions in the repository stay as they are.

    Args:
        source: the folder of a finished bundle; or a model, which is exported and verified first.
        repository: the folder that Triton is started on.
        name: what the model is asked for by; the bundle's or the model's own name unless given.
        version: the number that Triton knows it under; of several it serves the highest.
        replace: whether that version may be replaced, and a configuration that says something else.
        max_batch_size: how many examples the server may put into one batch; 0 for no batches.
        options: for a model, those of `to_bundle`, or of `to_onnx` where it is none of the zoo's.

    Returns:
        The folders of the models in the repository.

    Raises:
        ExportError: the model cannot be exported, or something else stands in its place; nothing was written.
        BundleError: the bundle is missing or damaged.

    Example:
        >>> import tempfile, keras, kzoo
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)], name="scores")
        >>> (folder,) = kzoo.export.to_triton(model, tempfile.mkdtemp())
        >>> sorted(path.name for path in folder.iterdir())
        ['1', 'config.pbtxt']
    """
    if version < 1:
        raise ExportError(f"version is {version}: Triton counts versions from 1.")
    if max_batch_size < 0:
        raise ExportError(f"max_batch_size is {max_batch_size}: give 1 or more, or 0 for no batches.")
    if isinstance(source, keras.Model):
        bundle, own = None, source.name
    else:
        bundle = Bundle.open(source)
        own = bundle.manifest.name
        if options:
            raise ExportError(f"A finished bundle is taken as it is: leave out {', '.join(sorted(options))}.")
    title = re.sub(r"[^A-Za-z0-9._-]", "-", name or own).lstrip("._-") or "model"
    root = pathlib.Path(repository).absolute()
    with staging(root / title) as folder:
        if bundle is None:
            parts = _export(source, folder / "exported", title, options)
        else:
            parts = _Parts.of_bundle(bundle)
        targets = {role: root / (title if role == "model" else f"{title}_{role}") for role in parts.graphs}
        for role, target in targets.items():
            _write(folder / role, target.name, version, parts, role, max_batch_size)
            _refuse(folder / role, target, version, replace)
        for role, target in targets.items():
            _put(folder / role, target, version)
    return list(targets.values())


@dataclass(frozen=True)
class _Parts:
    """What goes into the repository: graphs by role, what lies beside each, and the names of the classes."""

    graphs: dict[str, pathlib.Path]
    labels: list[str] | None
    tokenizer: pathlib.Path | None

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> _Parts:
        manifest = bundle.manifest
        return cls(
            graphs={
                role: bundle.path(graph.file)
                for role, graph in manifest.graphs.items()
                if role != EXPLANATION
            },
            labels=manifest.labels,
            tokenizer=bundle.path(manifest.text.tokenizer) if manifest.text is not None else None,
        )


def _export(model: keras.Model, folder: pathlib.Path, name: str, options: dict[str, Any]) -> _Parts:
    if isinstance(model, TransformerModel) and model.task in TASKS:
        to_bundle(model, folder, name=name, **options)
        return _Parts.of_bundle(Bundle.open(folder))
    to_onnx(model, folder / _GRAPH_FILE, **options)
    return _Parts({"model": folder / _GRAPH_FILE}, getattr(model, "labels", None), None)


def _write(
    folder: pathlib.Path, name: str, version: int, parts: _Parts, role: str, max_batch_size: int
) -> None:
    """Write a model's folder as the server reads it."""
    graph = parts.graphs[role]
    config = _configure(name, mapped(graph), parts.labels, max_batch_size)
    place = folder / str(version)
    place.mkdir(parents=True)
    # What was exported just now is not needed twice.
    bring = shutil.move if graph.is_relative_to(folder.parent) else shutil.copyfile
    data = graph.with_name(f"{graph.name}.data")
    bring(graph, place / _GRAPH_FILE)
    if data.is_file():
        # Under its own name, which the graph speaks of.
        bring(data, place / data.name)
    if parts.tokenizer is not None:
        shutil.copyfile(parts.tokenizer, place / parts.tokenizer.name)
    (folder / _CONFIG_FILE).write_text(config, encoding="utf-8")
    if _LABELS_FILE in config:
        lines = "".join(f"{' '.join(label.split())}\n" for label in parts.labels or [])
        (folder / _LABELS_FILE).write_text(lines, encoding="utf-8")


def _refuse(folder: pathlib.Path, target: pathlib.Path, version: int, replace: bool) -> None:
    """Refuse to put a model's folder where something else is.

    Raises:
        ExportError: `target` is no model of a repository, or has that version, or another configuration.
    """
    if not target.exists():
        return
    held = {path.name for path in target.iterdir()} if target.is_dir() else None
    if held is None or (held and _CONFIG_FILE not in held and not any(name.isdigit() for name in held)):
        raise ExportError(
            f"'{target}' is not a model of a Triton repository: give another name or repository."
        )
    if replace:
        return
    if str(version) in held:
        raise ExportError(
            f"'{target}' has a version {version} already: give another version, or replace=True to replace it."
        )
    for path in folder.iterdir():
        if path.is_file() and path.name in held and path.read_bytes() != (target / path.name).read_bytes():
            raise ExportError(
                f"'{target / path.name}' does not say what this model needs, or was changed by hand: give another "
                "name, or replace=True to write it anew."
            )


def _put(folder: pathlib.Path, target: pathlib.Path, version: int) -> None:
    if not target.is_dir():
        put_in_place(folder, target)
        return
    put_in_place(folder / str(version), target / str(version))
    # Where a version was replaced, the old one stands here now.
    shutil.rmtree(folder / str(version), ignore_errors=True)
    put_in_place(folder, target / _CONFIG_FILE, is_file=True)


def _configure(name: str, graph: onnx.ModelProto, labels: list[str] | None, max_batch_size: int) -> str:
    """Return the text of a model's `config.pbtxt`."""
    tensors = [*graph.graph.input, *graph.graph.output]
    if not all(_shape(tensor)[:1] == ["batch"] for tensor in tensors):
        max_batch_size = 0
    fields: dict[str, Any] = {
        "name": name,
        "backend": "onnxruntime",
        "default_model_filename": _GRAPH_FILE,
        "max_batch_size": max_batch_size,
        "input": [_describe(tensor, max_batch_size) for tensor in graph.graph.input],
        "output": [_describe(tensor, max_batch_size, labels) for tensor in graph.graph.output],
        "instance_group": [{"count": 1, "kind": _Word("KIND_AUTO")}],
        "version_policy": {"latest": {"num_versions": 1}},
    }
    if max_batch_size:
        fields["dynamic_batching"] = {
            "preferred_batch_size": sorted({max(1, max_batch_size // part) for part in (4, 2, 1)}),
            "max_queue_delay_microseconds": _QUEUE_DELAY_MICROSECONDS,
        }
    return "\n".join(_lines(fields)) + "\n"


def _describe(
    tensor: onnx.ValueInfoProto, max_batch_size: int, labels: list[str] | None = None
) -> dict[str, Any]:
    shape = _shape(tensor)[1 if max_batch_size else 0 :]
    dims = [-1 if isinstance(size, str) else size for size in shape]
    fields: dict[str, Any] = {
        "name": tensor.name,
        "data_type": _Word(_TYPES[tensor.type.tensor_type.elem_type]),
        "dims": dims,
    }
    if not dims:
        # The server knows no tensor without dimensions.
        fields |= {"dims": [1], "reshape": {"shape": []}}
    if labels and max_batch_size and dims == [len(labels)]:
        fields["label_filename"] = _LABELS_FILE
    return fields


def _shape(tensor: onnx.ValueInfoProto) -> list[int | str]:
    """Return a tensor's sizes; those that are free as names."""
    return [
        size.dim_value if size.HasField("dim_value") else size.dim_param
        for size in tensor.type.tensor_type.shape.dim
    ]


class _Word(str):
    """A name that protobuf's text shows without quotes."""


def _lines(fields: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Yield the lines of a message in protobuf's text format."""
    for name, value in fields.items():
        messages = value if isinstance(value, list) and value and isinstance(value[0], dict) else [value]
        for message in messages:
            if isinstance(message, dict):
                yield f"{indent}{name} {{"
                yield from _lines(message, f"{indent}  ")
                yield f"{indent}}}"
            else:
                yield f"{indent}{name}: {_value(message)}"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, _Word) or not isinstance(value, str):
        return str(value)
    shown = (
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\' else f"\\{byte:03o}"
        for byte in value.encode()
    )
    return f'"{"".join(shown)}"'
