"""What ONNX Runtime has one operator for, as one node: attention, biases, residuals around normalizations.

Runs on a converted graph whose weights are still inputs. Each rule looks at one node and what feeds it, and leaves
the graph as it was where anything is not as expected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from kzoo.export.editing import OWN_DOMAIN, RUNTIME_DOMAIN, GraphEditor, Shapes, attribute
from kzoo.export.skeleton import Skeleton

FUSED = (
    "Attention",
    "MultiHeadAttention",
    "EmbedLayerNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "LayerNormalization",
    "SimplifiedLayerNormalization",
    "BiasGelu",
    "Gelu",
    "FastGelu",
    "QuickGelu",
)


def fuse(
    proto: onnx.ModelProto,
    weights: dict[str, tuple[int, ...]],
    shapes: Shapes,
    finish: Callable[[GraphEditor], None] = lambda graph: None,
) -> Skeleton:
    """Return the graph with all known patterns fused, and the weights that they join packed.

    Args:
        proto: the graph, changed in place.
        weights: names of the inputs that are weights, each with the index of its Keras variable.
        shapes: what is known of the tensors' shapes, None where an axis is free.
        finish: what else is done to the fused graph.
    """
    before = len(proto.graph.node)
    graph = GraphEditor(proto, weights, shapes)
    for rule in _RULES:
        for node in list(graph.nodes):
            if graph.holds(node):
                rule(graph, node)
    finish(graph)
    weights = graph.finish()
    counts = {name: sum(node.op_type == name for node in proto.graph.node) for name in FUSED}
    return Skeleton(
        proto,
        weights,
        nodes_before=before,
        fused={name: count for name, count in counts.items() if count},
        unfused=graph.unfused,
    )


# Attention


@dataclass(frozen=True)
class _Heads:
    """Queries, keys or values, before they were split into heads: a product with a matrix, and what is added."""

    joined: str
    source: str | None = None
    matrix: str | None = None
    bias: str | None = None


def _fuse_attention(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """Write a marked attention as the runtime's operator, or out where that cannot take it."""
    if node.domain != OWN_DOMAIN:
        return
    mask, bias, reason = _mask_or_bias(graph, node)
    if reason:
        graph.unfused.append(f"Attention in '{node.name}': {reason}")
        _write_out(graph, node)
        return
    parts = [_joined_heads(graph, tensor) for tensor in node.input[:3]]
    if attribute(node, "head_dim") == attribute(node, "value_dim") and _is_packable(parts):
        _write_packed(graph, node, parts, mask, bias)
    else:
        _write_multi_head(graph, node, parts, mask, bias)


def _write_packed(graph: GraphEditor, node: onnx.NodeProto, parts: list[Any], mask: str, bias: str) -> None:
    """One node from the states that all three come from: their matrices lie side by side in one weight."""
    matrix = graph.pack(tuple(part.matrix for part in parts))
    if parts[0].bias:
        shift = graph.pack(tuple(part.bias for part in parts))
    else:
        # The runtime's CPU kernel reads a bias whether there is one or not.
        width = sum(graph.weight_shape(part.matrix)[-1] for part in parts)
        shift = graph.constant(f"kzoo/zeros_{width}", np.zeros(width), "float32")
    inputs = [parts[0].source, matrix, shift, mask, "", bias]
    graph.replace(node, _runtime_node("Attention", inputs, node, **_attention_attributes(node, mask)))


def _write_multi_head(
    graph: GraphEditor, node: onnx.NodeProto, parts: list[Any], mask: str, bias: str
) -> None:
    """One node from what was multiplied before; keys and values may come split into heads, as from a cache."""
    query, keys, values = parts
    if query is None:
        query = _Heads(_join_heads(graph, node, node.input[0]))
    if keys is None or values is None:
        tensors = [query.joined, node.input[1], node.input[2]]
    else:
        tensors = [query.joined, keys.joined, values.joined]
    inputs = [*tensors, "", mask, bias]
    graph.replace(
        node, _runtime_node("MultiHeadAttention", inputs, node, **_attention_attributes(node, mask))
    )


def _attention_attributes(node: onnx.NodeProto, mask: str) -> dict[str, Any]:
    attributes = {name: attribute(node, name) for name in ("num_heads", "scale")}
    # What `kzoo.layers` adds: a row that hides every key attends evenly, as it does in Keras.
    return attributes | ({"mask_filter_value": -1e9} if mask else {})


def _mask_or_bias(graph: GraphEditor, node: onnx.NodeProto) -> tuple[str, str, str]:
    """Return the mask of keys, or the bias on scores, that the runtime takes; or the reason why it takes none."""
    if len(node.input) < 4:
        return "", "", ""
    bias = node.input[3]
    shape = attribute(node, "bias_shape")
    mask = _padding_mask(graph, node, bias) if shape[1:3] == [1, 1] else None
    if mask is not None:
        return mask, "", ""
    if shape[2] == 1 or shape[3] == 1:
        return "", "", "its bias is the same for all queries, and is no mask of padding"
    return "", bias, ""


def _padding_mask(graph: GraphEditor, node: onnx.NodeProto, bias: str) -> str | None:
    """Return int32 (batch, length), 1 for real tokens, of a bias (1 - mask) * -1e9 (batch, 1, 1, length)."""
    tensor, added_axes = bias, 0
    while (step := graph.maker(tensor, "Unsqueeze")) is not None:
        tensor, added_axes = step.input[0], added_axes + 1
    product = graph.maker(tensor, "Mul")
    difference = None if product is None else graph.maker(product.input[0], "Sub")
    if product is None or difference is None or _scalar(graph, product.input[1]) != -1e9:
        return None
    cast = graph.maker(difference.input[1], "Cast")
    if cast is None or _scalar(graph, difference.input[0]) != 1.0 or added_axes not in (0, 2):
        return None
    name = _as_int32(graph, node, cast.input[0])
    if added_axes == 2:
        return name
    axes, flat = graph.constant("kzoo/axes_1_2", [1, 2]), f"{name}__flat"
    graph.once(flat, lambda: onnx.helper.make_node("Squeeze", [name, axes], [flat], name=flat), node)
    return flat


def _as_int32(graph: GraphEditor, node: onnx.NodeProto, tensor: str) -> str:
    """Return a tensor in the dtype that the runtime's operators take."""
    name = f"{tensor}__int32"
    to = onnx.TensorProto.INT32
    return graph.once(name, lambda: onnx.helper.make_node("Cast", [tensor], [name], name=name, to=to), node)


def _joined_heads(graph: GraphEditor, tensor: str) -> _Heads | None:
    """Return what was (batch, length, heads * width) before a Reshape and a Transpose split it into heads."""
    transpose = graph.maker(tensor, "Transpose")
    if transpose is None or attribute(transpose, "perm") != [0, 2, 1, 3]:
        return None
    reshape = graph.maker(transpose.input[0], "Reshape")
    shape = None if reshape is None else graph.shape(reshape.input[0])
    target = None if reshape is None else graph.value(reshape.input[1])
    if reshape is None or shape is None or len(shape) != 3 or target is None or len(target) != 4:
        return None
    joined = reshape.input[0]
    added = graph.maker(joined, "Add")
    product = graph.maker(joined if added is None else added.input[0], "MatMul")
    if product is None or graph.weight_rank(product.input[1]) != 2:
        return _Heads(joined)
    if added is None:
        return _Heads(joined, product.input[0], product.input[1])
    if graph.weight_rank(added.input[1]) != 1:
        return _Heads(joined)
    return _Heads(joined, product.input[0], product.input[1], added.input[1])


def _is_packable(parts: list[Any]) -> bool:
    """Return whether queries, keys and values all come from the same states, with biases or without."""
    if None in parts:
        return False
    sources = {part.source for part in parts}
    biased = {part.bias is not None for part in parts}
    return None not in sources and len(sources) == 1 and len(biased) == 1


def _join_heads(graph: GraphEditor, node: onnx.NodeProto, tensor: str) -> str:
    """Return (batch, length, heads * width) of a tensor (batch, heads, length, width), turned back."""
    turned, joined = f"{tensor}__turned", f"{tensor}__joined"
    width = attribute(node, "head_dim") * attribute(node, "num_heads")
    target = graph.constant(f"kzoo/join_{width}", [0, 0, width])
    graph.once(
        turned,
        lambda: onnx.helper.make_node("Transpose", [tensor], [turned], name=turned, perm=[0, 2, 1, 3]),
        node,
    )
    graph.once(
        joined, lambda: onnx.helper.make_node("Reshape", [turned, target], [joined], name=joined), node
    )
    return joined


def _write_out(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """Write a marked attention as products and a softmax (Vaswani et al., 2017, section 3.2.1)."""
    query, keys, values = node.input[:3]
    name, scale = node.name, attribute(node, "scale")
    width = attribute(node, "value_dim") * attribute(node, "num_heads")

    def step(operation: str, *inputs: str, **attributes: Any) -> str:
        output = f"{name}/{operation}_{len(steps)}"
        steps.append(onnx.helper.make_node(operation, inputs, [output], name=output, **attributes))
        return output

    steps: list[onnx.NodeProto] = []
    scaled = step("Mul", query, graph.constant(f"kzoo/scale_{scale}", scale, "float32"))
    scores = step("MatMul", scaled, step("Transpose", keys, perm=[0, 1, 3, 2]))
    if len(node.input) > 3:
        scores = step("Add", scores, node.input[3])
    attended = step("Transpose", step("MatMul", step("Softmax", scores, axis=-1), values), perm=[0, 2, 1, 3])
    graph.insert_before(node, *steps)
    target = graph.constant(f"kzoo/join_{width}", [0, 0, width])
    graph.replace(node, onnx.helper.make_node("Reshape", [attended, target], node.output, name=name))


# Reshapes


def _fold_reshape(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """Reshape a weight when it is stored, and no tensor twice in order to come back where it was."""
    target = graph.value(node.input[1]) if node.op_type == "Reshape" else None
    if target is None:
        return
    source = node.input[0]
    if graph.weight_rank(source) is not None and all(size > 0 for size in target):
        graph.redirect(node, graph.reshaped(source, [int(size) for size in target]))
        return
    before = graph.maker(source, "Reshape")
    shape = None if before is None else graph.shape(before.input[0])
    kept = None if before is None else graph.value(before.input[1])
    if before is None or shape is None or kept is None or node.output[0] in graph.outputs:
        return
    # (batch, length, width) split into heads, and joined again.
    splits = len(shape) == 3 and len(kept) == 4 and kept[1] == 0 and kept[2] * kept[3] == shape[2]
    if splits and len(target) == 3 and target[1] == 0 and target[2] == shape[2]:
        graph.redirect(node, before.input[0])


# Activations, biases and residuals


def _fuse_sigmoid_product(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """x * sigmoid(alpha * x): SiLU, and the quick approximation of GELU."""
    if node.op_type != "Mul":
        return
    for x, gate in (node.input, reversed(node.input)):
        sigmoid = graph.maker(gate, "Sigmoid")
        if sigmoid is None or not graph.is_private(gate):
            continue
        scaled = graph.maker(sigmoid.input[0], "Mul")
        if sigmoid.input[0] == x:
            graph.replace(node, _runtime_node("QuickGelu", [x], node, alpha=1.0))
            return
        factors = [] if scaled is None else [_scalar(graph, other) for other in scaled.input if other != x]
        if scaled is not None and x in scaled.input and len(factors) == 1 and isinstance(factors[0], float):
            graph.replace(node, _runtime_node("QuickGelu", [x], node, alpha=factors[0]))
            return


def _fuse_bias_gelu(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """A GELU of a product and a bias: one node for the bias and the GELU."""
    if node.op_type not in ("Gelu", "FastGelu") or node.domain != RUNTIME_DOMAIN:
        return
    added = graph.maker(node.input[0], "Add")
    if added is None or not graph.is_private(node.input[0]) or graph.weight_rank(added.input[1]) != 1:
        return
    operation = "BiasGelu" if node.op_type == "Gelu" else "FastGelu"
    graph.replace(node, _runtime_node(operation, [*added.input], node))


def _fuse_residual(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """A normalization of a sum: one node for both, and for the bias of one of the two; it gives the sum too."""
    operation = {
        "LayerNormalization": "SkipLayerNormalization",
        "SimplifiedLayerNormalization": "SkipSimplifiedLayerNormalization",
    }.get(node.op_type)
    added = graph.maker(node.input[0], "Add") if operation else None
    if operation is None or added is None or attribute(node, "axis") != -1:
        return
    first, second = (graph.shape(tensor) for tensor in added.input)
    if first is None or first != second or len(first) != 3 or None in first[2:]:
        return
    inputs, bias = list(added.input), ""
    for index, tensor in enumerate(inputs):
        biased = graph.maker(tensor, "Add")
        if biased is not None and graph.is_private(tensor) and graph.weight_rank(biased.input[1]) == 1:
            inputs[index], bias = biased.input[0], biased.input[1]
            break
    scales = node.input[1:]
    if not all(graph.weight_rank(tensor) or graph.value(tensor) is not None for tensor in scales):
        return
    fused = _runtime_node(operation, [*inputs, *scales, bias], node, epsilon=attribute(node, "epsilon"))
    if not graph.is_private(node.input[0]):
        fused.output.extend(["", "", node.input[0]])
    # Where the sum was made, since others may read it before the normalization does.
    graph.remove(node)
    graph.replace(added, fused)


def _fuse_embeddings(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """BERT's normalized sum of three embeddings, its positions counted from 0."""
    outer = graph.maker(node.input[0], "Add") if node.op_type == "LayerNormalization" else None
    inner = None if outer is None else graph.maker(outer.input[0], "Add")
    if outer is None or inner is None or not all(graph.is_private(step.output[0]) for step in (outer, inner)):
        return
    looked_up = [graph.maker(tensor, "Gather") for tensor in (*inner.input, outer.input[1])]
    words, positions, types = looked_up
    if words is None or positions is None or types is None:
        return
    if any(graph.weight_rank(found.input[0]) != 2 for found in (words, positions, types)):
        return
    ids = [words.input[1], types.input[1]]
    if not _counts_from_zero(graph, positions.input[1], ids[0]) or any(
        name not in graph.inputs for name in ids
    ):
        return
    narrow = [_as_int32(graph, node, name) for name in ids]
    tables = [words.input[0], positions.input[0], types.input[0]]
    inputs = [*narrow, *tables, *node.input[1:]]
    fused = _runtime_node("EmbedLayerNormalization", inputs, node, epsilon=attribute(node, "epsilon"))
    # The operator's second output, of the mask, is not optional.
    fused.output.append(f"{node.output[0]}__mask_index")
    graph.replace(node, fused)


def _counts_from_zero(graph: GraphEditor, positions: str, ids: str) -> bool:
    """Return whether positions are 0, 1, ... up to the length of `ids` (batch, length)."""
    tensor = positions
    while (step := graph.maker(tensor, "Cast", "Unsqueeze", "Identity")) is not None:
        tensor = step.input[0]
    counted = graph.maker(tensor, "Range")
    if counted is None or [_scalar(graph, counted.input[index]) for index in (0, 2)] != [0, 1]:
        return False
    length = graph.maker(counted.input[1], "Squeeze")
    cut = None if length is None else graph.maker(length.input[0], "Slice")
    if cut is None or [_scalar(graph, tensor) for tensor in cut.input[1:4]] != [1, 2, 0]:
        return False
    shape = graph.maker(cut.input[0], "Shape", "Cast")
    if shape is not None and shape.op_type == "Cast":
        shape = graph.maker(shape.input[0], "Shape")
    return shape is not None and shape.input[0] == ids


def _write_out_rms(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """Write a lone RMS normalization as ONNX knows it; the runtime makes one node of it when it loads it."""
    if node.op_type != "SimplifiedLayerNormalization":
        return
    name = node.name
    two, last = graph.constant("kzoo/two", 2.0, "float32"), graph.constant("kzoo/last_axis", [-1])
    epsilon = attribute(node, "epsilon")
    make = onnx.helper.make_node
    graph.insert_before(
        node,
        make("Pow", [node.input[0], two], [f"{name}/square"], name=f"{name}/square"),
        make("ReduceMean", [f"{name}/square", last], [f"{name}/mean"], name=f"{name}/mean", keepdims=1),
        make(
            "Add",
            [f"{name}/mean", graph.constant(f"kzoo/epsilon_{epsilon}", epsilon, "float32")],
            [f"{name}/shifted"],
            name=f"{name}/shifted",
        ),
        make("Sqrt", [f"{name}/shifted"], [f"{name}/root"], name=f"{name}/root"),
        make("Div", [node.input[0], f"{name}/root"], [f"{name}/normal"], name=f"{name}/normal"),
    )
    graph.replace(node, make("Mul", [f"{name}/normal", node.input[1]], node.output, name=name))


_RULES: tuple[Callable[[GraphEditor, onnx.NodeProto], None], ...] = (
    _fold_reshape,
    _fuse_attention,
    _fuse_sigmoid_product,
    _fuse_bias_gelu,
    _fuse_embeddings,
    _fuse_residual,
    _write_out_rms,
)


def _runtime_node(
    operation: str, inputs: list[str], node: onnx.NodeProto, **attributes: Any
) -> onnx.NodeProto:
    """Return a node of the runtime's own domain with another's name and first output."""
    while inputs and not inputs[-1]:
        inputs.pop()
    return onnx.helper.make_node(
        operation, inputs, [node.output[0]], name=node.name, domain=RUNTIME_DOMAIN, **attributes
    )


def _scalar(graph: GraphEditor, tensor: str) -> Any:
    value = graph.value(tensor)
    return None if value is None or value.size != 1 else value.item()
