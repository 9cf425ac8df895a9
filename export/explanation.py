"""The graph of a bundle's explanations, made small: weights in 8 bits, and none that the other graph holds."""

from __future__ import annotations

import hashlib
import pathlib

import numpy as np
import onnx
from onnx import helper

from kzoo.errors import ExportError
from kzoo.export.editing import inner_graphs, replace_nodes
from kzoo.export.precision import INTEGERS
from kzoo.export.products import Matrix
from kzoo.export.quantization import Quantizing
from kzoo.export.weights import EXTERNAL_DATA_BYTES, mapped, stored_values


def shrink_explanation(path: pathlib.Path, model: pathlib.Path, dtype: str) -> None:
    """Write the graph of explanations anew, without the weights that it has in common with the model's graph.

    Args:
        path: its float32 `.onnx` file.
        model: the finished graph beside it, which it then reads its weights from.
        dtype: the precision of that graph; if of integers, weights are kept in 8 bits as they are there, and
            multiplied with in float32, as derivatives have to be.

    Raises:
        ExportError: what is left does not fit into one file.
    """
    folder = path.parent
    proto = mapped(path)
    if dtype in INTEGERS:
        _Storing(proto, "int8", folder=folder).apply()
    there = {_content(stored_values(tensor, folder)): tensor for tensor in mapped(model).graph.initializer}
    kept = []
    for tensor in proto.graph.initializer:
        array = stored_values(tensor, folder)
        found = there.get(_content(array))
        if found is not None and found.data_location == onnx.TensorProto.EXTERNAL:
            shared = onnx.TensorProto()
            shared.CopyFrom(found)
            shared.name = tensor.name
            kept.append(shared)
        else:
            kept.append(onnx.numpy_helper.from_array(np.asarray(array), tensor.name))
    if sum(tensor.ByteSize() for tensor in kept) >= EXTERNAL_DATA_BYTES:
        raise ExportError(
            "The graph of explanations does not fit into one file: export without explanations."
        )
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    _shorten_names(proto.graph)
    for file in (path, path.with_name(f"{path.name}.data")):
        file.unlink(missing_ok=True)
    path.write_bytes(proto.SerializeToString())


def _shorten_names(graph: onnx.GraphProto) -> None:
    """Number what is computed on the way: names of derivatives take more room than a small model's weights."""
    if any(any(inner_graphs(node)) for node in graph.node):
        return
    outputs = {value.name for value in graph.output}
    made = [name for node in graph.node for name in node.output if name and name not in outputs]
    short = {name: f"t{number}" for number, name in enumerate(made)}
    for node in graph.node:
        node.name = ""
        node.input[:] = [short.get(name, name) for name in node.input]
        node.output[:] = [short.get(name, name) for name in node.output]


def _content(array: np.ndarray) -> tuple[str, tuple[int, ...], str]:
    return str(array.dtype), array.shape, hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


class _Storing(Quantizing):
    """Weights that are kept in 8 bits, and made float32 again before they are used."""

    def apply(self) -> None:
        """Change the graph."""
        for node in self.graph.node:
            if node.op_type == "Gather" and node.input[0] in self.tables:
                self._look_up(node.input[0], node.input[1], node.output[0])
            else:
                self.nodes.append(node)
        read = {name for node in self.nodes for name in node.input}
        matrices = [name for name in self.initializers if name in read and self.is_matrix(name)]
        restored = []
        for name in matrices:
            inputs = self._columns(Matrix(name))
            restored.append(helper.make_node("DequantizeLinear", inputs, [name], name=name, axis=1))
            self.graph.initializer.remove(self.initializers[name])
        replace_nodes(self.graph, [*restored, *self.nodes])
