"""Tokens of a batch as rows of a matrix: the layout that ONNX Runtime's CPU kernels are fastest on.

What works on each token alone (products, normalizations, activations, sums) needs no (batch, length, width): on
(tokens, width) a product takes its bias along, and a normalization stays the vectorised one, where ONNX Runtime would
otherwise join it with the residual into an operator whose CPU kernel is slower than the two. Attention
and the graph's outputs get their batch back. Where a graph is told which tokens are padding, the rows are the others
alone, and padding is zero in what comes out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import onnx

from kzoo.errors import ExportError, did_you_mean
from kzoo.export.editing import RUNTIME_DOMAIN, GraphEditor, attribute, new_node
from kzoo.export.padding import Packing

_UNARY = {"BiasGelu", "FastGelu", "Gelu", "QuickGelu", "Relu", "Tanh", "Sigmoid", "Erf", "LayerNormalization"}
_SUMS = {"Add", "Sub", "Mul", "Div"}
_RESIDUALS = {"SkipLayerNormalization", "SkipSimplifiedLayerNormalization"}
_ATTENTION = {"Attention", "MultiHeadAttention"}


def check_target(target: str) -> None:
    """Refuse an unknown target.

    Raises:
        ExportError: naming the nearest valid one.
    """
    if target not in TARGETS:
        raise ExportError(f"Unknown target '{target}'.{did_you_mean(target, TARGETS)}")


def flatten_tokens(graph: GraphEditor, keep_padding: bool = False) -> None:
    """Lay out as rows whatever is connected with an attention through nodes that work on each token alone.

    Args:
        graph: the graph.
        keep_padding: whether padding has rows too, where it could be left out.
    """
    for seed in [
        node for node in graph.nodes if node.op_type in _ATTENTION and node.domain == RUNTIME_DOMAIN
    ]:
        if graph.holds(seed):
            region = _Region(graph, seed)
            if len(region.nodes) > 1:
                region.rewrite(keep_padding)
    _part_residuals(graph)


def _part_residuals(graph: GraphEditor) -> None:
    """Write a sum and its RMS normalization as the two, for the same reason; ONNX Runtime leaves them so."""
    for node in [node for node in graph.nodes if node.op_type == "SkipSimplifiedLayerNormalization"]:
        first, second, gamma, bias = [*node.input, ""][:4]
        name, epsilon = node.output[0], attribute(node, "epsilon")
        total = node.output[3] if len(node.output) > 3 else f"{name}__sum"
        if bias:
            graph.insert_before(node, new_node("Add", [second, bias], [f"{name}__biased"]))
            second = f"{name}__biased"
        graph.insert_before(node, new_node("Add", [first, second], [total]))
        graph.replace(node, new_node("RMSNormalization", [total, gamma], [name], axis=-1, epsilon=epsilon))


class _Region:
    """Nodes that work on the tokens of one batch, and the tensors (batch, length, width) between them."""

    def __init__(self, graph: GraphEditor, seed: onnx.NodeProto) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: set[str] = set()
        waiting = [seed]
        seen = {id(seed)}
        while waiting:
            node = waiting.pop()
            self.nodes.append(node)
            for tensor in (*self._read(node), *self._made(node)):
                self.tensors.add(tensor)
                for other in graph.neighbours(tensor):
                    if id(other) not in seen and tensor in (*self._read(other), *self._made(other)):
                        seen.add(id(other))
                        waiting.append(other)
        made = {tensor for node in self.nodes for tensor in self._made(node)}
        self.entries = sorted(self.tensors - made)
        self.regroups = any(node.op_type == "Reshape" for node in self.nodes)
        self.exits = [tensor for node in self.nodes for tensor in self._made(node) if self._leaves(tensor)]

    def _read(self, node: onnx.NodeProto) -> list[str]:
        """Return the inputs of a node that hold tokens; none if it does not work on each of them alone."""
        graph, inputs = self.graph, list(node.input)
        if node.op_type in _ATTENTION and node.domain == RUNTIME_DOMAIN:
            return inputs[:1]
        if node.op_type == "MatMul":
            return inputs[:1] if graph.weight_rank(inputs[1]) == 2 and self._is_tokens(inputs[0]) else []
        if node.op_type in _RESIDUALS:
            return inputs[:2]
        if node.op_type in _UNARY:
            return inputs[:1] if self._is_tokens(inputs[0]) else []
        if node.op_type == "Reshape":
            return inputs[:1] if self._is_regrouping(node) else []
        if node.op_type in _SUMS:
            tokens = [tensor for tensor in inputs if self._is_tokens(tensor)]
            same = all(graph.shape(tensor) == graph.shape(tokens[0]) for tensor in tokens)
            rest = [tensor for tensor in inputs if tensor not in tokens]
            return tokens if tokens and same and all(self._is_shared(tensor) for tensor in rest) else []
        return []

    def _made(self, node: onnx.NodeProto) -> list[str]:
        if not self._read(node):
            return []
        return [tensor for tensor in (node.output[0], *node.output[3:4]) if tensor]

    def _is_regrouping(self, node: onnx.NodeProto) -> bool:
        """Return whether a batch's tokens become one of other rows and lengths: beams, those of their sentence."""
        if not all(map(self._is_tokens, (node.input[0], node.output[0]))):
            return False
        widths = [self.graph.shape(tensor)[2] for tensor in (node.input[0], node.output[0])]  # type: ignore[index]
        sizes = self.graph.maker(node.input[1], "Concat", "Cast")
        if sizes is not None and sizes.op_type == "Cast":
            sizes = self.graph.maker(sizes.input[0], "Concat")
        # A zero would stand for what the batch had there, which rows have not.
        return (
            widths[0] == widths[1]
            and sizes is not None
            and not any(self.graph.scalar(part) == 0 for part in sizes.input)
        )

    def _is_tokens(self, tensor: str) -> bool:
        shape = self.graph.shape(tensor)
        return shape is not None and len(shape) == 3 and shape[2] is not None and shape[0] is None

    def _is_shared(self, tensor: str) -> bool:
        """Return whether a weight or constant is the same for all tokens."""
        rank = self.graph.weight_rank(tensor)
        value = self.graph.value(tensor)
        return rank == 1 or (value is not None and value.ndim <= 1)

    def _leaves(self, tensor: str) -> bool:
        readers = [node for node in self.graph.neighbours(tensor) if tensor in node.input]
        inside = {id(node) for node in self.nodes}
        others = any(id(node) not in inside or tensor not in self._read(node) for node in readers)
        return others or tensor in self.graph.outputs or self._is_memory(tensor, readers)

    def _is_memory(self, tensor: str, readers: Iterable[onnx.NodeProto]) -> bool:
        return any(
            node.op_type == "MultiHeadAttention" and tensor in list(node.input)[1:] for node in readers
        )

    def _is_seen(self, tensor: str) -> bool:
        """Return whether anything but attention, which does not look at padding, reads a tensor."""
        readers = [node for node in self.graph.neighbours(tensor) if tensor in node.input]
        return tensor in self.graph.outputs or any(node.op_type not in _ATTENTION for node in readers)

    def mask(self) -> str | None:
        """Return the graph's input that says which of the tokens are padding; None if they attend by no such mask."""
        masks = set()
        for node in self.nodes:
            if node.op_type not in _ATTENTION:
                continue
            inputs = [*node.input, *[""] * 8]
            if node.op_type == "MultiHeadAttention":
                keys, values, mask, *past = inputs[1], inputs[2], inputs[4], *inputs[6:8]
                if any(past) or not {keys, values} <= set(self.exits):
                    return None
            else:
                mask = inputs[3]
            masks.add(mask)
        cast = self.graph.maker(masks.pop(), "Cast") if len(masks) == 1 else None
        return cast.input[0] if cast is not None and cast.input[0] in self.graph.inputs else None

    def rewrite(self, keep_padding: bool) -> None:
        """Write the region anew."""
        reads = {id(node): self._read(node) for node in self.nodes}
        makes = {id(node): self._made(node) for node in self.nodes}
        inside = {id(node) for node in self.nodes}
        mask = None if keep_padding or self.regroups else self.mask()
        packing = None if mask is None else Packing(self.graph, mask)
        writer = _Writer(self.graph, packing, self._groups(reads, makes))
        flattened: set[str] = set()
        result: list[onnx.NodeProto] = []
        for node in self.graph.nodes:
            if id(node) not in inside:
                result.append(node)
                continue
            for tensor in reads[id(node)]:
                if tensor in self.entries and tensor not in flattened:
                    flattened.add(tensor)
                    result += writer.enter(tensor)
            result += writer.write(node, reads[id(node)], makes[id(node)])
            for tensor in makes[id(node)]:
                if tensor in self.exits:
                    result += writer.leave(tensor, self._is_seen(tensor))
        self.graph.rewrite(result)

    def _groups(
        self, reads: dict[int, list[str]], makes: dict[int, list[str]]
    ) -> dict[str, tuple[str, int | None]]:
        """Return what says how many rows and how long the batch of each tensor is.

        That is a tensor that comes from outside or, with the width among them, the sizes that tokens are regrouped
        by.
        """
        joined = {tensor: {tensor} for tensor in self.tensors}
        for node in self.nodes:
            if node.op_type != "Reshape":
                alike = [*reads[id(node)], *makes[id(node)]]
                together = set().union(*(joined[tensor] for tensor in alike))
                joined |= dict.fromkeys(together, together)
        groups: dict[str, tuple[str, int | None]] = {}
        for node in self.nodes:
            if node.op_type == "Reshape":
                width = self.graph.shape(node.output[0])[2]  # type: ignore[index]
                groups |= dict.fromkeys(joined[node.output[0]], (node.input[1], width))
        entries = [tensor for node in self.graph.nodes for tensor in reads.get(id(node), ())]
        # The first one that is read is there whenever the others' sizes are asked for.
        for tensor in reversed([tensor for tensor in entries if tensor in self.entries]):
            groups |= dict.fromkeys(joined[tensor], (tensor, None))
        return groups


class _Writer:
    """The nodes that a region becomes."""

    def __init__(
        self, graph: GraphEditor, packing: Packing | None, groups: dict[str, tuple[str, int | None]]
    ) -> None:
        self.graph = graph
        self.packing = packing
        self.groups = groups
        self.sizes: set[str] = set()
        self.same: dict[str, str] = {}  # tensors whose rows are those of another one

    def rows(self, tensor: str) -> str:
        """Return the name of a tensor's rows."""
        return f"{self.same.get(tensor, tensor)}__rows"

    def enter(self, tensor: str) -> list[onnx.NodeProto]:
        """Lay a tensor of the batch out as rows."""
        width = self.graph.shape(tensor)[2]  # type: ignore[index] # its shape made it part of the region
        made = []
        if self.packing is not None and self.packing.mask not in self.graph.packed:
            self.graph.packed.add(self.packing.mask)
            made = self.packing.prepare()
        return [*made, *self._flat(tensor, self.rows(tensor), width)]

    def leave(self, tensor: str, seen: bool) -> list[onnx.NodeProto]:
        """Give rows their batch back, under the tensor's own name; zeros for padding where it is seen."""
        width = self.graph.shape(tensor)[2]  # type: ignore[index]
        if self.packing is None or not seen:
            return self._batched(self.rows(tensor), tensor, tensor, width)
        filled = f"{tensor}__filled"
        return [*self._batched(self.rows(tensor), filled, tensor, width), *self.packing.clear(filled, tensor)]

    def write(self, node: onnx.NodeProto, reads: list[str], makes: list[str]) -> list[onnx.NodeProto]:
        """Return what a node becomes on rows."""
        if node.op_type == "Reshape":
            self.same[node.output[0]] = self.same.get(node.input[0], node.input[0])
            return []
        if node.op_type == "Attention":
            return self._packed_attention(node)
        if node.op_type == "MultiHeadAttention":
            query = f"{node.output[0]}__query"
            width = self.graph.shape(node.input[0])[2]  # type: ignore[index]
            return [
                *self._batched(self.rows(node.input[0]), query, node.input[0], width),
                *self._attend(node, query, node.input[1:]),
            ]
        if node.op_type == "SkipLayerNormalization":
            return self._residual(node)
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        copy.input[:] = [self.rows(tensor) if tensor in reads else tensor for tensor in node.input]
        copy.output[:] = [self.rows(tensor) if tensor in makes else tensor for tensor in node.output]
        if node.name == node.output[0]:  # which is made of the rows by another node
            copy.name = copy.output[0]
        return [copy]

    def _packed_attention(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Write three products: as one they take longer, and would have to be split."""
        source, matrix, bias, mask, _, scores = [*node.input, *[""] * 6][:6]
        made, parts = [], []
        for part, weight in zip(("query", "keys", "values"), self.graph.parts(matrix), strict=True):
            product, width = f"{node.output[0]}__{part}__rows", self.graph.weight_shape(weight)[1]
            parts.append(f"{node.output[0]}__{part}")
            made.append(new_node("MatMul", [self.rows(source), weight], [product]))
            made += self._batched(product, parts[-1], source, width)
        return [*made, *self._attend(node, parts[0], [*parts[1:], bias, mask, scores])]

    def _attend(self, node: onnx.NodeProto, query: str, rest: Iterable[str]) -> list[onnx.NodeProto]:
        name = node.output[0]
        attended = f"{name}__attended"
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        inputs = [query, *rest]
        while not inputs[-1]:
            inputs.pop()
        width = self.graph.shape(name)[2]  # type: ignore[index]
        return [
            new_node("MultiHeadAttention", inputs, [attended], domain=RUNTIME_DOMAIN, **attributes),
            *self._flat(attended, self.rows(name), width),
        ]

    def _residual(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Write a normalization with its residual as the two, the bias first, where a product takes it along."""
        first, second, gamma, beta, bias = [*node.input, ""][:5]
        if self.graph.maker(self.same.get(first, first), "MatMul") is not None:
            first, second = second, first
        name = node.output[0]
        total = self.rows(node.output[3] if len(node.output) > 3 else f"{name}__sum")
        right, made = self.rows(second), []
        if bias:
            right = f"{name}__biased"
            made.append(new_node("Add", [self.rows(second), bias], [right]))
        epsilon = attribute(node, "epsilon")
        return [
            *made,
            new_node("Add", [self.rows(first), right], [total]),
            new_node("LayerNormalization", [total, gamma, beta], [self.rows(name)], axis=-1, epsilon=epsilon),
        ]

    def _flat(self, tensor: str, rows: str, width: int | None) -> list[onnx.NodeProto]:
        """Make rows of (batch, length, width)."""
        flat = rows if self.packing is None else f"{rows}__all"
        made = [new_node("Reshape", [tensor, self._constant([-1, width])], [flat])]
        return made if self.packing is None else [*made, self.packing.pack(flat, rows)]

    def _batched(self, rows: str, tensor: str, like: str, width: int | None) -> list[onnx.NodeProto]:
        """Make (batch, length, width) of rows, with the batch and length of another tensor."""
        if self.packing is not None:
            return [self.packing.unpack(rows, tensor)]
        group, own_width = self.groups[like]
        if own_width == width:
            return [new_node("Reshape", [rows, group], [tensor])]
        both, sizes = f"{group}__batch_length", f"{group}__batch_length_{width}"
        made = []
        if both not in self.sizes and own_width is not None:
            made.append(new_node("Slice", [group, self._constant([0]), self._constant([2])], [both]))
        elif both not in self.sizes:
            made.append(new_node("Shape", [group], [both], start=0, end=2))
        if sizes not in self.sizes:
            made.append(new_node("Concat", [both, self._constant([width])], [sizes], axis=0))
        self.sizes |= {both, sizes}
        return [*made, new_node("Reshape", [rows, sizes], [tensor])]

    def _constant(self, values: list[int | None]) -> str:
        return self.graph.constant(f"kzoo/shape_{'_'.join(map(str, values))}", values)


# What is done to a fused graph for where it will run: nothing where that may be anywhere.
TARGETS: dict[str, Callable[[GraphEditor], None]] = {"any": lambda graph: None, "cpu": flatten_tokens}
# The same, for models that make something of padding.
WITH_PADDING = TARGETS | {"cpu": functools.partial(flatten_tokens, keep_padding=True)}
