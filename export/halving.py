"""A float32 graph with its products in 16 bits, and sums in 32.

ONNX Runtime 1.31 has such a pass; by its source it squares in half precision what a variance sums up, and loses the
types behind `com.microsoft` nodes.
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from kzoo.export.editing import FEWEST_WEIGHTS, attribute, inner_nodes, replace_nodes
from kzoo.export.weights import stored_values

_FLOAT, _HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16

# The kernels of these keep sums and statistics in float32, whatever the type of their inputs.
_PRODUCTS = {
    "Attention",
    "BiasGelu",
    "Conv",
    "ConvTranspose",
    "Einsum",
    "EmbedLayerNormalization",
    "FastGelu",
    "FusedMatMul",
    "Gelu",
    "Gemm",
    "GroupQueryAttention",
    "LayerNormalization",
    "MatMul",
    "MultiHeadAttention",
    "QuickGelu",
    "RMSNormalization",
    "RotaryEmbedding",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
}
# Sums, and what overflows or loses its digits.
_DELICATE = {
    "BatchNormalization",
    "CumSum",
    "Exp",
    "GroupNormalization",
    "InstanceNormalization",
    "Log",
    "LogSoftmax",
    "Pow",
    "Range",
    "Reciprocal",
    "Resize",
    "Softmax",
    "Softplus",
    "Sqrt",
}


# What hides a key from a query, -1e9, is beyond 16 bits. This much of it is not, nor is twice that, and scores vanish
# beside it: queries that see no key attend to all that are hidden once, as they do in float32.
_FITTING = 3.2e-5


class Halving:
    """Products in 16 bits, sums in float32, anything else in the widest type that it meets.

    What follows from small constants alone (an epsilon, a gain) is weak: it takes the type of what it meets, unless
    that cannot hold it.
    """

    def __init__(self, proto: onnx.ModelProto, folder: pathlib.Path | None = None) -> None:
        self.graph = proto.graph
        self.folder = folder
        self.opset = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
        self.initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        # Of float tensors alone; None where weak.
        self.types: dict[str, int | None] = {
            value.name: _FLOAT for value in self.graph.input if value.type.tensor_type.elem_type == _FLOAT
        }
        self.nodes: list[onnx.NodeProto] = []
        self.casts: dict[tuple[str, int], str] = {}

    def apply(self) -> None:
        """Change the graph."""
        for tensor in self.graph.initializer:
            if tensor.data_type == _FLOAT:
                self.types[tensor.name] = None
                if (
                    len(tensor.dims) > 1
                    and np.prod(tensor.dims) >= FEWEST_WEIGHTS
                    and self._fits(tensor.name)
                ):
                    self.types[tensor.name] = _HALF
                    tensor.CopyFrom(self._halved(tensor, tensor.name))
        for node in self.graph.node:
            self._visit(node)
        self._keep_outputs()
        replace_nodes(self.graph, self.nodes)

    def _fit_bias(self, node: onnx.NodeProto) -> None:
        """Let what is added to an attention's scores fit 16 bits, what hides keys and what does not."""
        place = {"MultiHeadAttention": 5, "Attention": 5 if node.domain else 3}.get(node.op_type)
        if place is None or len(node.input) <= place or self.types.get(node.input[place], _HALF) == _HALF:
            return
        bias = node.input[place]
        hides, less, fitting = (f"{bias}/{part}" for part in ("hides", "less", "fitting"))
        if fitting not in self.types:
            for name, value in (("bias/far", float(np.finfo("float16").min)), ("bias/share", _FITTING)):
                if name not in self.initializers:
                    self.initializers[name] = numpy_helper.from_array(np.asarray(value, np.float32), name)
                    self.graph.initializer.append(self.initializers[name])
            self.nodes += [
                helper.make_node("Less", [bias, "bias/far"], [hides], name=hides),
                helper.make_node("Mul", [bias, "bias/share"], [less], name=less),
                helper.make_node("Where", [hides, less, bias], [fitting], name=fitting),
            ]
            self.types[fitting] = _FLOAT
        node.input[place] = fitting

    def _visit(self, node: onnx.NodeProto) -> None:
        self._fit_bias(node)
        floats = [name for name in node.input if name in self.types]
        wanted = self._wanted(node, floats)
        if wanted is not None:
            node.input[:] = [self._as(name, wanted) if name in self.types else name for name in node.input]
            for inner in inner_nodes(node):
                inner.input[:] = [
                    self._as(name, _FLOAT) if name in self.types else name for name in inner.input
                ]
        self.nodes.append(node)
        for index, name in enumerate(node.output):
            if name and self._is_float(node, index, bool(floats)):
                self.types[name] = wanted

    def _wanted(self, node: onnx.NodeProto, floats: list[str]) -> int | None:
        """Return the type that a node computes in, None to leave it as it is."""
        types = {self.types[name] for name in floats}
        if node.op_type in _PRODUCTS:
            return _HALF
        if node.op_type in _DELICATE or node.op_type.startswith("Reduce") or not self._takes_half(node):
            return _FLOAT
        if not types:
            return _FLOAT
        if _FLOAT in types:
            return _FLOAT
        if _HALF in types:
            return _HALF if all(self._fits(name) for name in floats) else _FLOAT
        return None

    def _takes_half(self, node: onnx.NodeProto) -> bool:
        if next(inner_nodes(node), None) is not None:
            return False
        schema = _schema(node, self.opset)
        return schema is not None and any(
            "tensor(float16)" in constraint.allowed_type_strs for constraint in schema.type_constraints
        )

    def _fits(self, name: str) -> bool:
        """Return whether 16 bits hold all of a constant: nothing becomes infinite, and no constant becomes 0."""
        if self.types[name] is not None:
            return True
        tensor = self.initializers.get(name)
        if tensor is None:
            return True
        array = stored_values(tensor, self.folder)
        with np.errstate(over="ignore"):
            halved = array.astype(np.float16).astype("float32")
        overflows = bool((np.isinf(halved) & np.isfinite(array)).any())
        return not overflows and (array.size > 1 or bool((halved != 0) == (array != 0)))

    def _is_float(self, node: onnx.NodeProto, index: int, has_floats: bool) -> bool:
        """Return whether an output is one of float numbers."""
        if node.op_type in ("Cast", "ConstantOfShape", "Constant"):
            return _constant_type(node) == _FLOAT
        schema = _schema(node, self.opset)
        if schema is None:
            return has_floats and not (node.op_type == "EmbedLayerNormalization" and index == 1)
        kind = _formal(schema.outputs, index).type_str
        sources = [
            name for place, name in enumerate(node.input) if _formal(schema.inputs, place).type_str == kind
        ]
        if sources:
            return sources[0] in self.types
        return kind == "tensor(float)" or (
            has_floats and kind in {each.type_param_str for each in schema.type_constraints}
        )

    def _as(self, name: str, wanted: int) -> str:
        """Return a tensor in the type that is wanted, cast once for all who ask."""
        if self.types[name] == wanted or (self.types[name] is None and wanted == _FLOAT):
            return name
        if (name, wanted) not in self.casts:
            other = f"{name}/{helper.tensor_dtype_to_string(wanted).rpartition('.')[2].lower()}"
            self.casts[name, wanted], self.types[other] = other, wanted
            if self.types[name] is None and name in self.initializers:
                self.graph.initializer.append(self._halved(self.initializers[name], other))
            else:
                self.nodes.append(helper.make_node("Cast", [name], [other], name=other, to=wanted))
        return self.casts[name, wanted]

    def _halved(self, tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
        return numpy_helper.from_array(stored_values(tensor, self.folder).astype(np.float16), name)

    def _keep_outputs(self) -> None:
        """Give float32 outputs under the names that they had."""
        renamed = {
            value.name: f"{value.name}/reduced"
            for value in self.graph.output
            if self.types.get(value.name) == _HALF
        }
        for node in [*self.nodes, *(inner for outer in self.nodes for inner in inner_nodes(outer))]:
            node.input[:] = [renamed.get(name, name) for name in node.input]
            node.output[:] = [renamed.get(name, name) for name in node.output]
        self.nodes += [
            helper.make_node("Cast", [inner], [name], name=f"{name}/float", to=_FLOAT)
            for name, inner in renamed.items()
        ]


def _constant_type(node: onnx.NodeProto) -> int:
    """Return the type that a node gives whatever its inputs are."""
    if node.op_type == "Cast":
        return int(attribute(node, "to", _FLOAT))
    value = attribute(node, "value")
    if value is None:
        is_float = node.op_type == "ConstantOfShape" or any("float" in each.name for each in node.attribute)
        return _FLOAT if is_float else onnx.TensorProto.INT64
    return int(value.data_type)


def _schema(node: onnx.NodeProto, opset: int) -> Any:
    """Return what ONNX says of an operator, None if it is not ONNX' own."""
    if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type):
        return None
    return onnx.defs.get_schema(node.op_type, opset, "")


def _formal(parameters: Any, index: int) -> Any:
    """Return an input or output of a schema; the last one may repeat."""
    return parameters[min(index, len(parameters) - 1)]
