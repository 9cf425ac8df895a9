"""Which of a model's layers made the node that ONNX Runtime, or ONNX' checker, refuses."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable

import keras
import onnx

from kzoo.errors import ExportError
from kzoo.export.editing import all_nodes
from kzoo.export.verification import open_graph
from kzoo.export.weights import mapped


def blamed(error: ExportError, graph: onnx.ModelProto, path: pathlib.Path, model: keras.Model) -> ExportError:
    """Return an error that also names the layer and the operation, where they can be told.

    Args:
        error: what was said of the graph.
        graph: the graph that was refused.
        path: where it was written, if it was.
        model: what it was converted from.
    """
    node = _named(graph, str(error))
    if node is None and path.is_file():
        node = _first_refused(mapped(path), path)
    if node is None:
        return error
    return ExportError(
        f"{_maker(graph, node, model)} became a node {node.op_type}, which is refused: write it with other "
        f"keras.ops, or leave it out. Nothing was written. {error}"
    )


def _named(proto: onnx.ModelProto, message: str) -> onnx.NodeProto | None:
    """Return the innermost node whose name stands in a message."""

    def stands(name: str) -> bool:
        return bool(name and re.search(rf"(?<![\w/]){re.escape(name)}(?![\w/])", message))

    found = [node for node in all_nodes(proto.graph) if stands(node.name)]
    return max(found, key=lambda node: len(node.name), default=None)


def _first_refused(proto: onnx.ModelProto, path: pathlib.Path) -> onnx.NodeProto | None:
    """Return the node with which a graph stops to load: its beginning, up to that one, no longer does."""
    low, high = 0, len(proto.graph.node)
    if not high or _loads(proto, high, path):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _loads(proto, middle, path) else (low, middle)
    return proto.graph.node[low]


def _loads(proto: onnx.ModelProto, count: int, path: pathlib.Path) -> bool:
    part = onnx.ModelProto()
    part.CopyFrom(proto)
    del part.graph.node[count:], part.graph.output[:]
    # What nobody reads is an output, or the runtime would leave out what makes it.
    read = {name for node in all_nodes(part.graph) for name in node.input}
    made = [name for node in part.graph.node for name in node.output if name and name not in read]
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    place = path.with_name("part.onnx")
    place.write_bytes(part.SerializeToString())
    try:
        open_graph(place)
    except ExportError:
        return False
    finally:
        place.unlink()
    return True


def _maker(proto: onnx.ModelProto, node: onnx.NodeProto, model: keras.Model) -> str:
    """Return what made a node, in words: the layer in whose scope it is, or the nearest node with one."""
    layers = {
        layer.name: layer
        for layer in model._flatten_layers(include_self=False)
        if not isinstance(layer, keras.layers.InputLayer)
    }
    nodes = all_nodes(proto.graph)
    seen, near = {id(node)}, [node]
    # The list grows while it is gone through.
    for other in near:
        for name in (other.name, *other.output, *other.input):
            layer = _innermost(name.split("/"), layers)
            if layer is not None:
                return f"The layer '{layer.name}' ({type(layer).__name__})"
        tensors = {name for name in (*other.input, *other.output) if name}
        joined = [each for each in nodes if id(each) not in seen and tensors & {*each.input, *each.output}]
        seen.update(map(id, joined))
        near.extend(joined)
    return "What the model computes"


def _innermost(scopes: Iterable[str], layers: dict[str, keras.layers.Layer]) -> keras.layers.Layer | None:
    found = None
    for scope in scopes:
        # TensorFlow counts the calls of a layer behind its name.
        plain = re.sub(r"_\d+$", "", scope)
        found = layers.get(plain) or layers.get(scope) or found
    return found
