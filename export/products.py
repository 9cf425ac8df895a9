"""The products in a graph: which matrix each multiplies with, which bias it adds, and what makes and reads them."""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from kzoo.export.editing import FEWEST_WEIGHTS, RUNTIME_DOMAIN, all_nodes, attribute
from kzoo.export.weights import stored_values


@dataclass(frozen=True)
class Matrix:
    """A matrix that a node multiplies with, as it is stored: output columns as rows, if transposed."""

    name: str
    transposed: bool = False


class Products:
    """A float32 graph, read for its products with weights.

    Args:
        proto: the graph; its weights are initializers.
        spared: weights that are left out of account.
        folder: where the weights' values are, if the graph is from `kzoo.export.weights.mapped`.

    Attributes:
        graph: of the proto.
        initializers: by name.
        makers: the node that makes each tensor.
        read: how many nodes read each tensor, those of branches and bodies too; that it is an output counts as one.
        readers: the node that reads each tensor which is read once.
        tables: matrices of which rows are looked up.
        made: weights and tensors that were added to it.
    """

    def __init__(
        self, proto: onnx.ModelProto, spared: Collection[str] = (), folder: pathlib.Path | None = None
    ) -> None:
        self.proto = proto
        self.folder = folder
        self.spared = frozenset(spared)
        self.graph = proto.graph
        self.initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        self.makers = {name: node for node in self.graph.node for name in node.output}
        self.read = Counter(name for node in all_nodes(self.graph) for name in node.input)
        self.read.update(value.name for value in self.graph.output)
        self.readers = {name: node for node in self.graph.node for name in node.input if self.read[name] == 1}
        self.made: set[str] = set()
        self.tables = {
            node.input[0]
            for node in self.graph.node
            if node.op_type == "Gather" and self.is_matrix(node.input[0]) and attribute(node, "axis", 0) == 0
        }

    def is_matrix(self, name: str) -> bool:
        """Return whether a tensor is a float32 weight with two dimensions that is large enough to count."""
        tensor = self.initializers.get(name)
        return (
            tensor is not None
            and name not in self.spared
            and tensor.data_type == onnx.TensorProto.FLOAT
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
            if maker is not None and maker.op_type == "Transpose" and self.is_matrix(maker.input[0]):
                return Matrix(maker.input[0], transposed=list(attribute(maker, "perm", [1, 0])) == [1, 0])
            return Matrix(node.input[1]) if self.is_matrix(node.input[1]) else None
        if node.op_type == "Gemm" and self.is_matrix(node.input[1]):
            plain = [attribute(node, name, 1.0) for name in ("alpha", "beta")] == [1.0, 1.0]
            plain = plain and (not own_bias(node) or self.is_vector(own_bias(node)))
            transposed = bool(attribute(node, "transB", 0))
            return Matrix(node.input[1], transposed) if plain and not attribute(node, "transA", 0) else None
        if node.op_type == "Attention" and node.domain == RUNTIME_DOMAIN and self.is_matrix(node.input[1]):
            whole = any(attribute(node, name, None) for name in ("qkv_hidden_sizes", "do_rotary"))
            caches = any(node.input[4:5]) or any(node.output[1:])
            return None if whole or caches else Matrix(node.input[1])
        return None

    def bias_of(self, node: onnx.NodeProto) -> tuple[str, onnx.NodeProto | None]:
        """Return a product's bias, "" for none, and the node that adds it, if that is another."""
        reader = self.readers.get(node.output[0])
        if node.op_type == "Attention" or reader is None or own_bias(node):
            return own_bias(node), None
        bias = next((name for name in reader.input if self.is_vector(name)), "")
        if reader.op_type not in ("Add", "BiasGelu") or not bias or self.initializers[bias].dims[0] == 1:
            return "", None
        return bias, reader

    def is_vector(self, name: str) -> bool:
        """Return whether a tensor is a weight with one dimension, as biases are."""
        return name in self.initializers and len(self.initializers[name].dims) == 1

    def array(self, name: str) -> np.ndarray:
        """Return the numbers of a weight."""
        return stored_values(self.initializers[name], self.folder)

    def matrix(self, matrix: Matrix) -> np.ndarray:
        """Return the numbers of a matrix as it is multiplied with."""
        array = self.array(matrix.name)
        return array.T if matrix.transposed else array

    def store(self, name: str, array: np.ndarray | np.generic) -> str:
        """Return the name of a weight, which is there afterwards."""
        if name not in self.made:
            self.made.add(name)
            self.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name


def own_bias(node: onnx.NodeProto) -> str:
    """Return the bias that a product has itself, and "" if it has none."""
    return node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 else ""
