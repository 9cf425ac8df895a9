"""Few numbers that are far larger than the others, kept from taking the 8 bits that all the others need.

Encoders of BERT's kind have them: at a text's first token one unit of a feed-forward gives several times what all the
others give, and so does an entry of the norm before it (Sun et al., 2024, "Massive Activations in Large Language
Models"). Two remedies, neither of which changes what a graph gives in float32:

- a feed-forward is split, and the few units stay in float32 (Dettmers et al., 2022, "LLM.int8()", section 3);
- a norm gives its large entries divided, and the matrix that reads them has these rows multiplied (Xiao et al., 2022,
  "SmoothQuant", section 4).
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx

from kzoo.export.editing import new_node, replace_nodes
from kzoo.export.products import Matrix, Products
from kzoo.export.quantization import Observe

# Units that are set apart: a multiple of what processors add at once, so that the others are one too where all were.
_APART = 16
# Entries of a norm that may be made smaller: all those above the largest that is left.
_EVENED = 8
# How many times as large as what is left the largest must be, for eight bits to gain by it.
_OUTSTANDING = 1.5
_ACTIVATIONS = ("BiasGelu", "FastGelu", "Gelu", "QuickGelu", "Relu")
# Norms, and which of their inputs are factors and sums of what they give.
_NORMS = {
    "LayerNormalization": (1, 2),
    "SimplifiedLayerNormalization": (1,),
    "SkipLayerNormalization": (2, 3),
    "SkipSimplifiedLayerNormalization": (2,),
}


@dataclass(frozen=True)
class Outliers:
    """What stands out in a graph's feed-forwards.

    Attributes:
        units: which hidden units, int64 (16,), by the name of the matrix that they are multiplied with.
        factors: how many times too large the entries that come in are, float32 (hidden_dim,), 1 for most, by the name
            of the matrix that they are multiplied with.
    """

    units: dict[str, np.ndarray] = field(default_factory=dict)
    factors: dict[str, np.ndarray] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.units or self.factors)


@dataclass(frozen=True)
class _FeedForward:
    """The nodes of one: the product that begins it, what comes between, last first, and the product that ends it."""

    expand: onnx.NodeProto
    between: list[onnx.NodeProto]
    contract: onnx.NodeProto
    columns: Matrix
    rows: Matrix


def find_outliers(proto: onnx.ModelProto, observe: Observe) -> Outliers:
    """Return what stands out in a graph's feed-forwards.

    Args:
        proto: a float32 graph whose weights are initializers.
        observe: runs it on some batches.
    """
    graph = Products(proto)
    found = list(_feed_forwards(graph))
    tensors = [(each.contract.input[0], each.rows.name) for each in found]
    tensors += [(each.expand.input[0], each.columns.name) for each in found if _is_evenable(graph, each)]
    sizes = _largest(tensors, observe)
    units, factors = {}, {}
    for each in found:
        rows, columns = sizes[each.rows.name], sizes.get(each.columns.name)
        if _stands_out(rows, _APART):
            units[each.rows.name] = np.sort(np.argsort(-rows, kind="stable")[:_APART])
        if columns is not None and _stands_out(columns, _EVENED):
            left = np.sort(columns)[-1 - _EVENED]
            factors[each.columns.name] = np.maximum(columns / left, 1.0).astype(np.float32)
    return Outliers(units, factors)


def set_apart(proto: onnx.ModelProto, outliers: Outliers, folder: pathlib.Path | None = None) -> list[str]:
    """Even out what comes into feed-forwards, and split off the units that stand out.

    Args:
        proto: the graph, changed in place; in float32 it gives what it gave.
        outliers: as `find_outliers` returns them.
        folder: where the weights' values are, if the graph is from `kzoo.export.weights.mapped`.

    Returns:
        The names of the weights that are for these units, and are to stay in float32.
    """
    _Evening(Products(proto, folder=folder), outliers.factors).apply()
    splitting = _Splitting(Products(proto, folder=folder), outliers.units)
    splitting.apply()
    return [*dict.fromkeys(splitting.apart)]  # where blocks share weights, they are there more than once


def _largest(tensors: list[tuple[str, str]], observe: Observe) -> dict[str, np.ndarray]:
    """Return the largest size of each entry of tensors, (entries,), by the matrices that are multiplied with them."""
    names = sorted({name for name, _ in tensors})
    sizes: dict[str, np.ndarray] = {}
    for values in observe(names) if names else ():
        entries = {
            name: np.abs(np.nan_to_num(value)).reshape(-1, value.shape[-1]).max(axis=0, initial=0.0)
            for name, value in zip(names, values, strict=True)
        }
        for name, matrix in tensors:
            sizes[matrix] = np.maximum(sizes.get(matrix, 0.0), entries[name])
    return sizes


def _stands_out(sizes: np.ndarray, count: int) -> bool:
    """Return whether without the `count` largest entries the others could have finer steps."""
    if len(sizes) <= 2 * count:
        return False
    left = np.sort(sizes)[-1 - count]
    return bool(left > 0 and sizes.max() > _OUTSTANDING * left)


def _is_evenable(graph: Products, whole: _FeedForward) -> bool:
    """Return whether a norm alone makes what comes in, with weights that nothing else is to be changed for."""
    norm = graph.makers.get(whole.expand.input[0])
    return (
        norm is not None
        and norm.op_type in _NORMS
        and all(graph.is_vector(norm.input[place]) for place in _scaling(norm))
        and graph.read[whole.expand.input[1]] == 1
    )


def _feed_forwards(graph: Products) -> Iterator[_FeedForward]:
    narrowing, _ = graph.feed_forward()
    outputs = {value.name for value in graph.graph.output}
    for node in graph.graph.node:
        rows = graph.weight(node)
        if rows is None or rows.name not in narrowing or node.op_type == "Attention":
            continue
        adder = graph.bias_of(node)[1]
        if adder is not None and adder.op_type != "Add":
            continue
        between: list[onnx.NodeProto] = []
        tensor = node.input[0]
        while tensor and tensor not in outputs and graph.read[tensor] == 1 and tensor in graph.makers:
            maker = graph.makers[tensor]
            columns = graph.weight(maker)
            if columns is not None and maker.op_type != "Attention":
                yield _FeedForward(maker, between, node, columns, rows)
                break
            tensor = _passed(graph, maker) if maker.op_type in (*_ACTIVATIONS, "Add") else ""
            between.append(maker)


def _passed(graph: Products, node: onnx.NodeProto) -> str:
    """Return the one input of a node that is no bias, and "" if there are several, or a bias is for all at once."""
    passed = [name for name in node.input if name and not graph.is_vector(name)]
    biases = [graph.initializers[name] for name in node.input if graph.is_vector(name)]
    return passed[0] if len(passed) == 1 and all(bias.dims[0] > 1 for bias in biases) else ""


def _scaling(norm: onnx.NodeProto) -> list[int]:
    """Return which inputs of a norm there are that what it gives is in proportion to, taken together."""
    return [place for place in _NORMS[norm.op_type] if place < len(norm.input) and norm.input[place]]


class _Evening:
    """Divides what norms give to feed-forwards, and multiplies the rows that read it."""

    def __init__(self, graph: Products, factors: dict[str, np.ndarray]) -> None:
        self.graph = graph
        self.factors = factors

    def apply(self) -> None:
        """Change the graph."""
        added = {}
        for whole in _feed_forwards(self.graph):
            if whole.columns.name in self.factors:
                norm = self.graph.makers[whole.expand.input[0]]
                added[norm.output[0]] = self._even(whole, norm)
        nodes = [
            each
            for node in self.graph.graph.node
            for each in (node, *(added[name] for name in node.output if name in added))
        ]
        replace_nodes(self.graph.graph, nodes)

    def _even(self, whole: _FeedForward, norm: onnx.NodeProto) -> onnx.NodeProto:
        """Let a feed-forward read from a norm of its own, which is returned: others may read from the old one."""
        factors = self.factors[whole.columns.name]
        output = f"{norm.output[0]}/even"
        made = new_node(norm.op_type, list(norm.input), [output], norm.domain)
        made.attribute.extend(norm.attribute)
        for place in _scaling(norm):
            name = norm.input[place]
            made.input[place] = self.graph.store(f"{output}/{name}", self.graph.array(name) / factors)
        rows = self.graph.store(
            f"{whole.columns.name}/even", self.graph.matrix(whole.columns) * factors[:, None]
        )
        _replace_inputs(whole.expand, [output, rows, *whole.expand.input[2:]])
        return made


class _Splitting:
    """Writes feed-forwards as two each."""

    def __init__(self, graph: Products, units: dict[str, np.ndarray]) -> None:
        self.graph = graph
        self.units = units
        self.apart: list[str] = []
        self.added: set[int] = set()  # nodes that add a bias which is added elsewhere now

    def apply(self) -> None:
        """Change the graph."""
        found = {id(each.contract): each for each in _feed_forwards(self.graph)}
        nodes: list[onnx.NodeProto] = []
        for node in self.graph.graph.node:
            whole = found.get(id(node))
            if whole is not None and whole.rows.name in self.units:
                nodes += self._split(whole)
            elif id(node) not in self.added:
                nodes.append(node)
        replace_nodes(self.graph.graph, nodes)

    def _split(self, whole: _FeedForward) -> list[onnx.NodeProto]:
        """Return the nodes of both parts, and of their sum; what made the one before is read by nobody then."""
        apart = self.units[whole.rows.name]
        others = np.setdiff1d(np.arange(self.graph.matrix(whole.rows).shape[0]), apart)
        output = whole.contract.output[0]
        nodes = self._part(whole, others, "others")
        total = nodes[-1].output[0]
        bias, adder = self.graph.bias_of(whole.contract)
        if bias:
            # Here, where the product that is rounded can add it itself.
            total = f"{output}/biased"
            nodes.append(new_node("Add", [nodes[-1].output[0], bias], [total]))
        if adder is not None:
            self.added.add(id(adder))
            output = adder.output[0]
        nodes += self._part(whole, apart, "apart")
        return [*nodes, new_node("Add", [nodes[-1].output[0], total], [output])]

    def _part(self, whole: _FeedForward, units: np.ndarray, part: str) -> list[onnx.NodeProto]:
        """Return the nodes of a feed-forward of some units, which end in the tensor `OUTPUT/PART`."""

        def cut(name: str) -> str:
            return self.graph.store(f"{name}/{part}", self.graph.array(name)[units])

        first = self.graph.store(f"{whole.columns.name}/{part}", self.graph.matrix(whole.columns)[:, units])
        last = self.graph.store(f"{whole.rows.name}/{part}", self.graph.matrix(whole.rows)[units])
        if part == "apart":
            self.apart += [first, last]
        nodes: list[onnx.NodeProto] = []
        tensor = whole.expand.input[0]
        for node in (whole.expand, *reversed(whole.between)):
            biases = [cut(name) for name in node.input if self.graph.is_vector(name)]
            inputs = [tensor, *([first] if node is whole.expand else []), *biases]
            tensor = f"{node.output[0]}/{part}"
            nodes.append(new_node(node.op_type, inputs, [tensor], node.domain))
            nodes[-1].attribute.extend(node.attribute)
            if node is whole.expand:
                _replace_inputs(nodes[-1], inputs)
        return [*nodes, new_node("MatMul", [tensor, last], [f"{whole.contract.output[0]}/{part}"])]


def _replace_inputs(node: onnx.NodeProto, inputs: list[str]) -> None:
    """Let a product read other tensors, its matrix as it is multiplied with."""
    kept = [each for each in node.attribute if each.name != "transB"]
    node.ClearField("input")
    node.ClearField("attribute")
    node.input.extend(inputs)
    node.attribute.extend(kept)
