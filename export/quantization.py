"""A float32 graph with its weights in 8 or 4 bits.

ONNX Runtime 1.31 has such passes too: its `quantize_dynamic` gives an embedding table one scale for all its rows, and
fails on fused graphs; its 4-bit quantizer wants one more package.
"""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from kzoo.export.editing import FEWEST_WEIGHTS, RUNTIME_DOMAIN, attribute, replace_nodes
from kzoo.export.weights import stored_values

_FLOAT = onnx.TensorProto.FLOAT
_BLOCK = 32

# Gives the values that tensors take on the calibration data, batch by batch.
Observe = Callable[[list[str]], Iterable[list[np.ndarray]]]


@dataclass(frozen=True)
class Matrix:
    """A matrix that a node multiplies with, as it is stored: output columns as rows, if transposed."""

    name: str
    transposed: bool = False


class Quantizing:
    """Weights in 8 or 4 bits; with 8, products of integers."""

    def __init__(
        self,
        proto: onnx.ModelProto,
        dtype: str,
        spared: Collection[str] = (),
        folder: pathlib.Path | None = None,
    ) -> None:
        self.proto = proto
        self.folder = folder
        self.spared = frozenset(spared)
        self.graph = proto.graph
        self.dtype = dtype
        self.initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        self.makers = {name: node for node in self.graph.node for name in node.output}
        self.ranges: dict[str, tuple[float, float]] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.made: set[str] = set()
        self.read = Counter(name for node in self.graph.node for name in node.input)
        self.read.update(value.name for value in self.graph.output)
        self.readers = {name: node for node in self.graph.node for name in node.input if self.read[name] == 1}
        # Nodes that add a bias which a product of 8 bits adds itself.
        self.biased: set[int] = set()
        # Rows of a table have a scale each, which does for looking them up and for multiplying with them.
        self.tables = {
            node.input[0]
            for node in self.graph.node
            if node.op_type == "Gather" and self._is_matrix(node.input[0]) and attribute(node, "axis", 0) == 0
        }

    def calibrate(self, observe: Observe) -> None:
        """Note between which bounds the inputs of products lie."""
        names = sorted({node.input[0] for node in self.graph.node if self.weight(node) is not None})
        for values in observe(names):
            for name, array in zip(names, values, strict=True):
                low, high = self.ranges.get(name, (0.0, 0.0))
                self.ranges[name] = min(low, float(array.min())), max(high, float(array.max()))

    def apply(self) -> None:
        """Change the graph."""
        for node in self.graph.node:
            weight = self.weight(node)
            if node.op_type == "Gather" and node.input[0] in self.tables:
                self._look_up(node.input[0], node.input[1], node.output[0])
            elif node.op_type == "EmbedLayerNormalization" and self._comes_apart(node):
                self._take_apart(node)
            elif id(node) in self.biased:
                if node.op_type == "BiasGelu":
                    self._add("Gelu", [node.input[0]], node.output[0], domain=RUNTIME_DOMAIN)
            elif weight is None:
                self.nodes.append(node)
            elif self.dtype == "int4" and weight.name not in self.tables:
                self._multiply_by_4_bits(node, weight)
            else:
                self._multiply_by_8_bits(node, weight)
        replace_nodes(self.graph, self.nodes)
        if not any(entry.domain == RUNTIME_DOMAIN for entry in self.proto.opset_import):
            self.proto.opset_import.append(helper.make_opsetid(RUNTIME_DOMAIN, 1))

    def _is_matrix(self, name: str) -> bool:
        tensor = self.initializers.get(name)
        return (
            tensor is not None
            and name not in self.spared
            and tensor.data_type == _FLOAT
            and len(tensor.dims) == 2
            and tensor.dims[0] * tensor.dims[1] >= FEWEST_WEIGHTS
        )

    def feed_forward(self) -> tuple[list[str], list[str]]:
        """Return the matrices of products that yield half of what they sum over or less, and of what feeds them.

        In a Transformer the former end a feed-forward, and the latter begin it.
        """
        sizes: dict[str, tuple[int, int]] = {}
        for node in self.graph.node:
            weight = self.weight(node)
            if weight is not None and node.op_type != "Attention" and weight.name not in self.tables:
                rows, columns = self.initializers[weight.name].dims
                sizes[weight.name] = (columns, rows) if weight.transposed else (rows, columns)
        narrowing = [name for name, (summed, yielded) in sizes.items() if summed >= 2 * yielded]
        widths = {sizes[name][0] for name in narrowing}
        feeding = [
            name for name, (_, yielded) in sizes.items() if yielded in widths and name not in narrowing
        ]
        return narrowing, feeding

    def weight(self, node: onnx.NodeProto) -> Matrix | None:
        """Return the matrix that a node multiplies its first input with, if it can be quantized."""
        if node.op_type == "MatMul":
            maker = self.makers.get(node.input[1])
            if maker is not None and maker.op_type == "Transpose" and self._is_matrix(maker.input[0]):
                return Matrix(maker.input[0], transposed=list(attribute(maker, "perm", [1, 0])) == [1, 0])
            return Matrix(node.input[1]) if self._is_matrix(node.input[1]) else None
        if node.op_type == "Gemm" and self._is_matrix(node.input[1]):
            plain = [attribute(node, name, 1.0) for name in ("alpha", "beta")] == [1.0, 1.0]
            plain = plain and (not _bias(node) or self.is_vector(_bias(node)))
            transposed = bool(attribute(node, "transB", 0))
            return Matrix(node.input[1], transposed) if plain and not attribute(node, "transA", 0) else None
        if node.op_type == "Attention" and node.domain == RUNTIME_DOMAIN and self._is_matrix(node.input[1]):
            whole = any(attribute(node, name, None) for name in ("qkv_hidden_sizes", "do_rotary"))
            caches = any(node.input[4:5]) or any(node.output[1:])
            return None if whole or caches else Matrix(node.input[1])
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
        epsilon = attribute(node, "epsilon", 1e-12)
        self._add("LayerNormalization", [total, *node.input[5:7]], output, axis=-1, epsilon=epsilon)

    def _multiply_by_8_bits(self, node: onnx.NodeProto, weight: Matrix) -> None:
        values, scales = self._columns(weight)
        quantized, scale, zero = self._quantized(node.input[0])
        inputs = [quantized, values, scale, scales, zero]
        output, bias = self._with_bias(node)
        product = f"{output}/product" if node.op_type == "Attention" else output
        inputs += ["", bias] if bias else []
        self._add("MatMulIntegerToFloat", inputs, product, domain=RUNTIME_DOMAIN)
        if node.op_type == "Attention":
            self._attend(node, product)

    def _with_bias(self, node: onnx.NodeProto) -> tuple[str, str]:
        """Return what a product gives with its bias, and that bias, "" for none; nobody else adds it then."""
        bias, adder = self.bias_of(node)
        if adder is None:
            return node.output[0], bias
        self.biased.add(id(adder))
        return (adder if adder.op_type == "Add" else node).output[0], bias

    def bias_of(self, node: onnx.NodeProto) -> tuple[str, onnx.NodeProto | None]:
        """Return a product's bias, "" for none, and the node that adds it, if that is another."""
        reader = self.readers.get(node.output[0])
        if node.op_type == "Attention" or reader is None or _bias(node):
            return _bias(node), None
        bias = next((name for name in reader.input if self.is_vector(name)), "")
        if reader.op_type not in ("Add", "BiasGelu") or not bias or self.initializers[bias].dims[0] == 1:
            return "", None
        return bias, reader

    def is_vector(self, name: str) -> bool:
        """Return whether a tensor is a weight with one dimension, as biases are."""
        return name in self.initializers and len(self.initializers[name].dims) == 1

    def _multiply_by_4_bits(self, node: onnx.NodeProto, weight: Matrix) -> None:
        name = f"{weight.name}/int4"
        array = self.array(weight.name)
        columns = array if weight.transposed else array.T
        if name not in self.made:
            packed, scales = _in_blocks(columns)
            self._store(name, packed)
            self._store(f"{name}/scale", scales)
        bias = _bias(node)
        product = f"{node.output[0]}/product" if node.op_type == "Attention" or bias else node.output[0]
        self._add(
            "MatMulNBits",
            [node.input[0], name, f"{name}/scale"],
            product,
            domain=RUNTIME_DOMAIN,
            K=columns.shape[1],
            N=columns.shape[0],
            bits=4,
            block_size=_BLOCK,
            # The runtime may multiply in int8.
            accuracy_level=4,
        )
        if node.op_type == "Attention":
            self._attend(node, product)
        elif bias:
            self._add("Add", [product, bias], node.output[0])

    def _attend(self, node: onnx.NodeProto, product: str) -> None:
        """Write what attention makes of its queries, keys and values side by side.

        The runtime has QAttention, which takes longer, and knows neither 4 bits nor a bias of scores.
        """
        parts = [f"{product}/{part}" for part in ("query", "key", "value")]
        self._add("Split", [product], *parts, axis=-1, num_outputs=3)
        inputs = [*parts, *node.input[2:4], *node.input[5:6]]
        attention = helper.make_node(
            "MultiHeadAttention", inputs, node.output[:1], name=node.name, domain=RUNTIME_DOMAIN
        )
        attention.attribute.extend(node.attribute)
        self.nodes.append(attention)

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
            array = self.array(name)
            scales = _scales(array, axis=1)
            self._store(names[0], _rounded(array, scales))
            self._store(names[1], scales)
        return names

    def _columns(self, weight: Matrix) -> tuple[str, str]:
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
            array = self.array(weight.name)
            array = array.T if weight.transposed else array
            steps = _scales(array, axis=0)
            self._store(names[0], np.ascontiguousarray(_rounded(array, steps)))
            self._store(names[1], steps[0])
        return names

    def array(self, name: str) -> np.ndarray:
        """Return the numbers of a weight."""
        return stored_values(self.initializers[name], self.folder)

    def _store(self, name: str, array: np.ndarray | np.generic) -> None:
        self.made.add(name)
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))

    def _add(self, op_type: str, inputs: list[str], *outputs: str, **attributes: Any) -> None:
        self.made.update(outputs)
        self.nodes.append(helper.make_node(op_type, inputs, outputs, name=outputs[0], **attributes))


def spared_weights(proto: onnx.ModelProto) -> list[list[str]]:
    """Return which matrices stay in float32 where all in int8 are too far from it: in turn, as long as they are.

    What enters the second product of a feed-forward has outliers, which leave little of the 8 bits to the rest.
    """
    narrowing, feeding = Quantizing(proto, "int8").feed_forward()
    return [spared for spared in (narrowing, narrowing + feeding) if spared]


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


def _bias(node: onnx.NodeProto) -> str:
    """Return the bias that a product has itself, and "" if it has none."""
    return node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 else ""
