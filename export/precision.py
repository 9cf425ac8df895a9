"""Smaller and faster: a finished float32 graph, written again in another precision.

The passes are our own, because those of ONNX Runtime 1.31 were tried and fell short: `quantize_dynamic` gives an
embedding table one scale for all its rows, leaves Gemm alone, and takes twenty times as long for BERT-base; its 4-bit
quantizer wants one more package; its `float16` squares in half precision what a variance sums up, and loses the types
behind `com.microsoft` nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from kzoo.errors import ExportError, did_you_mean

_MICROSOFT = "com.microsoft"
_FLOAT, _HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


@dataclass(frozen=True)
class Bounds:
    """How far a graph of some precision may be from its float32 self.

    Attributes:
        tolerance: bound on `|difference| / (1 + |expected|)` of each number of an output.
        cosine: least cosine of an output, as one long vector.
        repeated: the same as `tolerance`, for the same graph on another machine: what `kzoo verify` holds it to.
    """

    tolerance: float
    cosine: float
    repeated: float


BOUNDS = {
    "float16": Bounds(tolerance=0.02, cosine=0.9999, repeated=0.02),
    "int8": Bounds(tolerance=0.5, cosine=0.98, repeated=0.1),
    "int8_static": Bounds(tolerance=0.5, cosine=0.97, repeated=0.1),
    "int4": Bounds(tolerance=1.0, cosine=0.85, repeated=0.1),
}
DTYPES = ("float32", "bfloat16", *BOUNDS)

# Of fewer weights than this, the file hardly shrinks, and a head of few classes suffers.
_FEWEST = 4096
_BLOCK = 32

# Gives the values that tensors take on the calibration data, batch by batch.
Observe = Callable[[list[str]], Iterable[list[np.ndarray]]]


def check_dtype(dtype: str, calibrated: bool = False) -> None:
    """Refuse an unknown precision, and calibration data that are missing or of no use.

    Raises:
        ExportError: naming the nearest valid precision.
    """
    if dtype not in DTYPES:
        raise ExportError(f"Unknown dtype '{dtype}'.{did_you_mean(dtype, DTYPES)}")
    if dtype == "bfloat16":
        raise ExportError(
            "ONNX Runtime multiplies no bfloat16 numbers on CPUs, and a graph that cannot be compared with Keras is "
            "not written: choose dtype='float16' for GPUs, 'int8' for CPUs."
        )
    if dtype == "int8_static" and not calibrated:
        raise ExportError(
            "dtype='int8_static' needs calibration=, some typical batches; dtype='int8' does without."
        )
    if calibrated and dtype != "int8_static":
        raise ExportError(f"calibration= is for dtype='int8_static'; dtype='{dtype}' makes no use of it.")


def reduce_precision(proto: onnx.ModelProto, dtype: str, observe: Observe | None = None) -> None:
    """Write a graph anew in another precision, in place; its inputs and outputs stay as they are.

    Args:
        proto: a float32 graph whose weights are initializers.
        dtype: a key of `BOUNDS`.
        observe: for `"int8_static"`, runs the calibration data.
    """
    if dtype == "float16":
        _Halving(proto).apply()
    else:
        quantizing = _Quantizing(proto, dtype)
        if observe is not None:
            quantizing.calibrate(observe)
        quantizing.apply()


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


class _Halving:
    """Products in 16 bits, sums in float32, anything else in the widest type that it meets.

    What follows from small constants alone (an epsilon, a gain) is weak: it takes the type of what it meets, unless
    that cannot hold it.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.graph = proto.graph
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
                if len(tensor.dims) > 1 and np.prod(tensor.dims) >= _FEWEST and self._fits(tensor.name):
                    self.types[tensor.name] = _HALF
                    tensor.CopyFrom(_halved(tensor, tensor.name))
        for node in self.graph.node:
            self._visit(node)
        self._keep_outputs()
        _replace_nodes(self.graph, self.nodes)

    def _visit(self, node: onnx.NodeProto) -> None:
        floats = [name for name in node.input if name in self.types]
        wanted = self._wanted(node, floats)
        if wanted is not None:
            node.input[:] = [self._as(name, wanted) if name in self.types else name for name in node.input]
            for inner in _inner_nodes(node):
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
        if next(_inner_nodes(node), None) is not None:
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
        array = numpy_helper.to_array(tensor)
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
                self.graph.initializer.append(_halved(self.initializers[name], other))
            else:
                self.nodes.append(helper.make_node("Cast", [name], [other], name=other, to=wanted))
        return self.casts[name, wanted]

    def _keep_outputs(self) -> None:
        """Give float32 outputs under the names that they had."""
        renamed = {
            value.name: f"{value.name}/reduced"
            for value in self.graph.output
            if self.types.get(value.name) == _HALF
        }
        for node in [*self.nodes, *(inner for outer in self.nodes for inner in _inner_nodes(outer))]:
            node.input[:] = [renamed.get(name, name) for name in node.input]
            node.output[:] = [renamed.get(name, name) for name in node.output]
        self.nodes += [
            helper.make_node("Cast", [inner], [name], name=f"{name}/float", to=_FLOAT)
            for name, inner in renamed.items()
        ]


@dataclass(frozen=True)
class _Weight:
    """A matrix that a node multiplies with, as it is stored: output columns as rows, if transposed."""

    name: str
    transposed: bool = False


class _Quantizing:
    """Weights in 8 or 4 bits; with 8, products of integers."""

    def __init__(self, proto: onnx.ModelProto, dtype: str) -> None:
        self.proto = proto
        self.graph = proto.graph
        self.dtype = dtype
        self.initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        self.makers = {name: node for node in self.graph.node for name in node.output}
        self.ranges: dict[str, tuple[float, float]] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.made: set[str] = set()
        self.read = Counter(name for node in self.graph.node for name in node.input)
        # Rows of a table have a scale each, which does for looking them up and for multiplying with them.
        self.tables = {
            node.input[0]
            for node in self.graph.node
            if node.op_type == "Gather"
            and self._is_matrix(node.input[0])
            and _attribute(node, "axis", 0) == 0
        }

    def calibrate(self, observe: Observe) -> None:
        """Note between which bounds the inputs of products lie."""
        names = sorted({node.input[0] for node in self.graph.node if self._weight(node) is not None})
        for values in observe(names):
            for name, array in zip(names, values, strict=True):
                low, high = self.ranges.get(name, (0.0, 0.0))
                self.ranges[name] = min(low, float(array.min())), max(high, float(array.max()))

    def apply(self) -> None:
        """Change the graph."""
        for node in self.graph.node:
            weight = self._weight(node)
            if node.op_type == "Gather" and node.input[0] in self.tables:
                self._look_up(node.input[0], node.input[1], node.output[0])
            elif node.op_type == "EmbedLayerNormalization" and self._comes_apart(node):
                self._take_apart(node)
            elif weight is None:
                self.nodes.append(node)
            elif self.dtype == "int4" and weight.name not in self.tables:
                self._multiply_by_4_bits(node, weight)
            else:
                self._multiply_by_8_bits(node, weight)
        _replace_nodes(self.graph, self.nodes)
        if not any(entry.domain == _MICROSOFT for entry in self.proto.opset_import):
            self.proto.opset_import.append(helper.make_opsetid(_MICROSOFT, 1))

    def _is_matrix(self, name: str) -> bool:
        tensor = self.initializers.get(name)
        return (
            tensor is not None
            and tensor.data_type == _FLOAT
            and len(tensor.dims) == 2
            and tensor.dims[0] * tensor.dims[1] >= _FEWEST
        )

    def _weight(self, node: onnx.NodeProto) -> _Weight | None:
        """Return the matrix that a node multiplies its first input with, if it can be quantized."""
        if node.op_type == "MatMul":
            maker = self.makers.get(node.input[1])
            if maker is not None and maker.op_type == "Transpose" and self._is_matrix(maker.input[0]):
                return _Weight(maker.input[0], transposed=list(_attribute(maker, "perm", [1, 0])) == [1, 0])
            return _Weight(node.input[1]) if self._is_matrix(node.input[1]) else None
        if node.op_type == "Gemm" and self._is_matrix(node.input[1]):
            plain = [_attribute(node, name, 1.0) for name in ("alpha", "beta")] == [1.0, 1.0]
            transposed = bool(_attribute(node, "transB", 0))
            return _Weight(node.input[1], transposed) if plain and not _attribute(node, "transA", 0) else None
        if node.op_type == "Attention" and node.domain == _MICROSOFT and self._is_matrix(node.input[1]):
            whole = any(_attribute(node, name, None) for name in ("qkv_hidden_sizes", "do_rotary"))
            caches = any(node.input[4:5]) or any(node.output[1:])
            return None if whole or caches else _Weight(node.input[1])
        return None

    def _look_up(self, table: str, rows: str, output: str) -> None:
        values, scales = self._rows(table)
        self._add("Gather", [values, rows], f"{output}/int8")
        self._add("Gather", [scales, rows], f"{output}/scale")
        self._add("Cast", [f"{output}/int8"], f"{output}/float", to=_FLOAT)
        self._add("Mul", [f"{output}/float", f"{output}/scale"], output)

    def _comes_apart(self, node: onnx.NodeProto) -> bool:
        """Return whether a sum of embeddings looks words up in a table worth quantizing, and has but one result."""
        return self._is_matrix(node.input[2]) and not any(self.read[name] for name in node.output[1:])

    def _take_apart(self, node: onnx.NodeProto) -> None:
        """Write a normalized sum of embeddings as what it stands for, words looked up in int8."""
        inputs = dict(enumerate(node.input))
        output = node.output[0]
        self._look_up(inputs[2], inputs[0], f"{output}/words")
        if inputs.get(8):
            self._add("Gather", [inputs[3], inputs[8]], f"{output}/positions")
        else:
            self._store(f"{output}/start", np.array([0]))
            self._add("Shape", [inputs[0]], f"{output}/length", start=1, end=2)
            bounds = [f"{output}/start", f"{output}/length", f"{output}/start"]
            self._add("Slice", [inputs[3], *bounds], f"{output}/positions")
        self._add("Add", [f"{output}/words", f"{output}/positions"], f"{output}/placed")
        total = f"{output}/placed"
        if inputs.get(1):
            self._add("Gather", [inputs[4], inputs[1]], f"{output}/types")
            self._add("Add", [total, f"{output}/types"], f"{output}/sum")
            total = f"{output}/sum"
        epsilon = _attribute(node, "epsilon", 1e-12)
        self._add("LayerNormalization", [total, *node.input[5:7]], output, axis=-1, epsilon=epsilon)

    def _multiply_by_8_bits(self, node: onnx.NodeProto, weight: _Weight) -> None:
        values, scales = self._columns(weight)
        quantized, scale, zero = self._quantized(node.input[0])
        product = self._product(node)
        inputs = [quantized, values, scale, scales, zero]
        self._add("MatMulIntegerToFloat", inputs, product, domain=_MICROSOFT)
        self._finish(node, product)

    def _multiply_by_4_bits(self, node: onnx.NodeProto, weight: _Weight) -> None:
        name = f"{weight.name}/int4"
        array = self._array(weight.name)
        columns = array if weight.transposed else array.T
        if name not in self.made:
            packed, scales = _in_blocks(columns)
            self._store(name, packed)
            self._store(f"{name}/scale", scales)
        product = self._product(node)
        self._add(
            "MatMulNBits",
            [node.input[0], name, f"{name}/scale"],
            product,
            domain=_MICROSOFT,
            K=columns.shape[1],
            N=columns.shape[0],
            bits=4,
            block_size=_BLOCK,
            # The runtime may multiply in int8.
            accuracy_level=4,
        )
        self._finish(node, product)

    def _product(self, node: onnx.NodeProto) -> str:
        """Return the name of a node's product, before anything is made of it."""
        return f"{node.output[0]}/product" if node.op_type == "Attention" or _bias(node) else node.output[0]

    def _finish(self, node: onnx.NodeProto, product: str) -> None:
        """Write what a node makes of its product."""
        if node.op_type == "Attention":
            # The runtime has QAttention, which takes longer, and knows neither 4 bits nor a bias of scores.
            parts = [f"{product}/{part}" for part in ("query", "key", "value")]
            self._add("Split", [product], *parts, axis=-1, num_outputs=3)
            inputs = [*parts, *node.input[2:4], *node.input[5:6]]
            attention = helper.make_node(
                "MultiHeadAttention", inputs, node.output[:1], name=node.name, domain=_MICROSOFT
            )
            attention.attribute.extend(node.attribute)
            self.nodes.append(attention)
        elif _bias(node):
            self._add("Add", [product, node.input[2]], node.output[0])

    def _quantized(self, name: str) -> tuple[str, str, str]:
        """Return an activation in 8 bits, its scale and its zero point, made once for all who read it."""
        names = f"{name}/uint8", f"{name}/uint8_scale", f"{name}/uint8_zero"
        if names[0] in self.made:
            return names
        if name in self.ranges:
            low, high = self.ranges[name]
            scale = max(high - low, 1e-12) / 255
            self._store(names[1], np.float32(scale))
            self._store(names[2], np.uint8(np.clip(round(-low / scale), 0, 255)))
            self._add("QuantizeLinear", [name, *names[1:]], names[0])
        else:
            self._add("DynamicQuantizeLinear", [name], *names)
        return names

    def _rows(self, name: str) -> tuple[str, str]:
        """Return a table in int8, and its scales, one a row, in a column."""
        names = f"{name}/int8", f"{name}/scale"
        if names[0] not in self.made:
            array = self._array(name)
            scales = _scales(array, axis=1)
            self._store(names[0], _rounded(array, scales))
            self._store(names[1], scales)
        return names

    def _columns(self, weight: _Weight) -> tuple[str, str]:
        """Return a matrix in int8, as it is multiplied with, and its scales, one a column."""
        if weight.name in self.tables and weight.transposed:
            rows, scales = self._rows(weight.name)
            names = f"{rows}/transposed", f"{scales}/flat"
            if names[0] not in self.made:
                self._store(f"{scales}/shape", np.array([-1]))
                self._add("Transpose", [rows], names[0], perm=[1, 0])
                self._add("Reshape", [scales, f"{scales}/shape"], names[1])
            return names
        names = f"{weight.name}/columns_int8", f"{weight.name}/columns_scale"
        if names[0] not in self.made:
            array = self._array(weight.name)
            array = array.T if weight.transposed else array
            steps = _scales(array, axis=0)
            self._store(names[0], np.ascontiguousarray(_rounded(array, steps)))
            self._store(names[1], steps[0])
        return names

    def _array(self, name: str) -> np.ndarray:
        return numpy_helper.to_array(self.initializers[name])

    def _store(self, name: str, array: np.ndarray | np.generic) -> None:
        self.made.add(name)
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))

    def _add(self, op_type: str, inputs: list[str], *outputs: str, **attributes: Any) -> None:
        self.made.update(outputs)
        self.nodes.append(helper.make_node(op_type, inputs, outputs, name=outputs[0], **attributes))


def _halved(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name)


def _scales(array: np.ndarray, axis: int) -> np.ndarray:
    """Return what int8 steps are worth, for each row or column; along `axis` there is one."""
    largest = np.abs(array).max(axis=axis, keepdims=True)
    return np.where(largest > 0, largest, 1).astype("float32") / np.float32(127)


def _rounded(array: np.ndarray, scales: np.ndarray) -> np.ndarray:
    return np.rint(array / scales).astype("int8")


def _in_blocks(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a matrix's columns, given as rows, in 4 bits as the operator MatMulNBits reads them.

    Returns:
        Two numbers a byte, (columns, blocks, 16), and the scale of each block, (columns, blocks).
    """
    count, length = columns.shape
    blocks = -(-length // _BLOCK)
    padded = np.zeros((count, blocks * _BLOCK), "float32")
    padded[:, :length] = columns
    grouped = padded.reshape(count, blocks, _BLOCK)
    # Numbers go from -8 to 7: the largest in size, of whichever sign, becomes -8.
    place = np.abs(grouped).argmax(axis=-1)[..., None]
    scales = np.take_along_axis(grouped, place, axis=-1) / np.float32(-8)
    steps = np.where(scales == 0, 1, scales)
    numbers = (np.clip(np.rint(grouped / steps), -8, 7) + 8).astype("uint8")
    return numbers[..., 0::2] | (numbers[..., 1::2] << 4), scales[..., 0]


def _bias(node: onnx.NodeProto) -> bool:
    return node.op_type == "Gemm" and len(node.input) > 2 and bool(node.input[2])


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = next((attribute for attribute in node.attribute if attribute.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def _constant_type(node: onnx.NodeProto) -> int:
    """Return the type that a node gives whatever its inputs are."""
    if node.op_type == "Cast":
        return int(_attribute(node, "to", _FLOAT))
    value = _attribute(node, "value", None)
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


def _inner_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a node's branches and bodies, at any depth."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield inner
                yield from _inner_nodes(inner)


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Give a graph other nodes, without those and the weights that nobody reads."""
    read = {value.name for value in graph.output}
    kept = []
    for node in reversed(nodes):
        if read.intersection(node.output):
            kept.append(node)
            read.update(name for inner in (node, *_inner_nodes(node)) for name in inner.input)
    weights = [tensor for tensor in graph.initializer if tensor.name in read]
    for field in ("value_info", "node", "initializer"):
        graph.ClearField(field)
    graph.node.extend(reversed(kept))
    graph.initializer.extend(weights)
