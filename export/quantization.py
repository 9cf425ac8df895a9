"""A float32 graph with its weights in 8 or 4 bits.

ONNX Runtime 1.31 has such passes too: its `quantize_dynamic` gives an embedding table one scale for all its rows, and
fails on fused graphs; its 4-bit quantizer wants one more package.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
import onnx
from onnx import helper

from kzoo.export.editing import RUNTIME_DOMAIN, attribute, replace_nodes
from kzoo.export.products import Matrix, Products, own_bias

_FLOAT = onnx.TensorProto.FLOAT
_BLOCK = 32

# Gives the values that tensors take on the calibration data, batch by batch.
Observe = Callable[[list[str]], Iterable[list[np.ndarray]]]


class Quantizing(Products):
    """Weights in 8 or 4 bits; with 8, products of integers."""

    def __init__(
        self,
        proto: onnx.ModelProto,
        dtype: str,
        spared: Collection[str] = (),
        folder: pathlib.Path | None = None,
    ) -> None:
        super().__init__(proto, spared, folder)
        self.dtype = dtype
        self.ranges: dict[str, tuple[float, float]] = {}
        self.nodes: list[onnx.NodeProto] = []
        # Nodes that add a bias which a product of 8 bits adds itself.
        self.biased: set[int] = set()

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

    def _look_up(self, table: str, rows: str, output: str) -> None:
        values, scales = self._rows(table)
        self._add("Gather", [values, rows], f"{output}/int8")
        self._add("Gather", [scales, rows], f"{output}/scale")
        self._add("Cast", [f"{output}/int8"], f"{output}/float", to=_FLOAT)
        self._add("Mul", [f"{output}/float", f"{output}/scale"], output)

    def _comes_apart(self, node: onnx.NodeProto) -> bool:
        """Return whether a sum of embeddings looks words up in a table worth quantizing, and has but one result."""
        return self.is_matrix(node.input[2]) and not any(self.read[name] for name in node.output[1:])

    def _take_apart(self, node: onnx.NodeProto) -> None:
        """Write a normalized sum of embeddings as what it stands for, words looked up in int8."""
        inputs = dict(enumerate(node.input))
        output = node.output[0]
        self._look_up(inputs[2], inputs[0], f"{output}/words")
        if inputs.get(8):
            self._add("Gather", [inputs[3], inputs[8]], f"{output}/positions")
        else:
            self.store(f"{output}/start", np.array([0]))
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

    def _multiply_by_4_bits(self, node: onnx.NodeProto, weight: Matrix) -> None:
        name = f"{weight.name}/int4"
        columns = self.matrix(weight).T
        if name not in self.made:
            packed, scales = _in_blocks(columns)
            self.store(name, packed)
            self.store(f"{name}/scale", scales)
        bias = own_bias(node)
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
            self.store(names[1], np.float32(scale))
            self.store(names[2], np.uint8(np.clip(round(-low / scale), 0, 255)))
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
            self.store(names[0], _rounded(array, scales))
            self.store(names[1], scales)
        return names

    def _columns(self, weight: Matrix) -> tuple[str, str]:
        """Return a matrix in int8, as it is multiplied with, and its scales, one a column."""
        if weight.name in self.tables and weight.transposed:
            rows, scales = self._rows(weight.name)
            names = f"{rows}/transposed", f"{scales}/flat"
            if names[0] not in self.made:
                self.store(f"{scales}/shape", np.array([-1]))
                self._add("Transpose", [rows], names[0], perm=[1, 0])
                self._add("Reshape", [scales, f"{scales}/shape"], names[1])
            return names
        names = f"{weight.name}/columns_int8", f"{weight.name}/columns_scale"
        if names[0] not in self.made:
            array = self.matrix(weight)
            steps = _scales(array, axis=0)
            self.store(names[0], np.ascontiguousarray(_rounded(array, steps)))
            self.store(names[1], steps[0])
        return names

    def _add(self, op_type: str, inputs: list[str], *outputs: str, **attributes: Any) -> None:
        self.made.update(outputs)
        self.nodes.append(helper.make_node(op_type, inputs, outputs, name=outputs[0], **attributes))


def spared_weights(proto: onnx.ModelProto) -> list[list[str]]:
    """Return which matrices stay in float32 where all in int8 are too far from it: in turn, as long as they are.

    What enters the second product of a feed-forward has outliers, which leave little of the 8 bits to the rest.
    """
    narrowing, feeding = Products(proto).feed_forward()
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
