"""What ONNX Runtime has one operator for, as one node: attention, biases, residuals around normalizations.

Runs on a converted graph whose weights are still inputs. Each rule looks at one node and what feeds it, and leaves
the graph as it was where anything is not as expected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx

from kzoo.export.attention import as_int32, fuse_attention, fuse_rotation, write_attention_out
from kzoo.export.editing import RUNTIME_DOMAIN, GraphEditor, Shapes, attribute, new_node, runtime_node
from kzoo.export.skeleton import Skeleton
from kzoo.export.tidying import tidy

FUSED = (
    "Attention",
    "MultiHeadAttention",
    "EmbedLayerNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "LayerNormalization",
    "RMSNormalization",
    "RotaryEmbedding",
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
    only_needed: bool = False,
) -> Skeleton:
    """Return the graph with all known patterns fused, and the weights that they join packed.

    Args:
        proto: the graph, changed in place.
        weights: names of the inputs that are weights, each with the index of its Keras variable.
        shapes: what is known of the tensors' shapes, None where an axis is free.
        finish: what else is done to the fused graph.
        only_needed: whether to do no more than what makes the graph valid.
    """
    before = len(proto.graph.node)
    graph = GraphEditor(proto, weights, shapes)
    for rule in _NEEDED if only_needed else _RULES:
        for node in list(graph.nodes):
            if graph.holds(node):
                rule(graph, node)
    if not only_needed:
        tidy(graph)
    finish(graph)
    weights = graph.finish()
    _raise_opset(proto)
    counts = {name: sum(node.op_type == name for node in proto.graph.node) for name in FUSED}
    return Skeleton(
        proto,
        weights,
        nodes_before=before,
        fused={name: count for name, count in counts.items() if count},
        unfused=graph.unfused,
        padding=sorted(graph.packed),
    )


# Operators that ONNX has since opset 23. What tf2onnx writes in an older one means the same there.
_NEWER = {"Attention", "RMSNormalization", "RotaryEmbedding"}


def _raise_opset(proto: onnx.ModelProto) -> None:
    if any(node.op_type in _NEWER and node.domain == "" for node in proto.graph.node):
        next(entry for entry in proto.opset_import if entry.domain == "").version = 23
        proto.ir_version = max(proto.ir_version, 11)


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
            graph.replace(node, runtime_node("QuickGelu", [x], node, alpha=1.0))
            return
        factors = [] if scaled is None else [graph.scalar(other) for other in scaled.input if other != x]
        if scaled is not None and x in scaled.input and len(factors) == 1 and isinstance(factors[0], float):
            graph.replace(node, runtime_node("QuickGelu", [x], node, alpha=factors[0]))
            return


def _fuse_bias_gelu(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """A GELU of a product and a bias: one node for the bias and the GELU."""
    if node.op_type not in ("Gelu", "FastGelu") or node.domain != RUNTIME_DOMAIN:
        return
    added = graph.maker(node.input[0], "Add")
    if added is None or not graph.is_private(node.input[0]) or graph.weight_rank(added.input[1]) != 1:
        return
    operation = "BiasGelu" if node.op_type == "Gelu" else "FastGelu"
    graph.replace(node, runtime_node(operation, [*added.input], node))


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
        _reshape_first(graph, tensor)
        biased = graph.maker(tensor, "Add")
        if biased is not None and graph.is_private(tensor) and graph.weight_rank(biased.input[1]) == 1:
            inputs[index], bias = biased.input[0], biased.input[1]
            break
    scales = node.input[1:]
    if not all(graph.weight_rank(tensor) or graph.value(tensor) is not None for tensor in scales):
        return
    fused = runtime_node(operation, [*inputs, *scales, bias], node, epsilon=attribute(node, "epsilon"))
    if not graph.is_private(node.input[0]):
        fused.output.extend(["", "", node.input[0]])
    # Where the sum was made, since others may read it before the normalization does.
    graph.remove(node)
    graph.replace(added, fused)


def _reshape_first(graph: GraphEditor, tensor: str) -> None:
    """Add a bias after a Reshape that leaves the last axis alone, not before."""
    reshape = graph.maker(tensor, "Reshape")
    biased = None if reshape is None else graph.maker(reshape.input[0], "Add")
    shapes: list[Any] = [] if reshape is None else [graph.shape(name) for name in (reshape.input[0], tensor)]
    if reshape is None or biased is None or None in shapes or not graph.is_private(reshape.input[0]):
        return
    if graph.weight_rank(biased.input[1]) != 1 or shapes[0][-1] is None or shapes[0][-1] != shapes[1][-1]:
        return
    reshaped = f"{tensor}__unbiased"
    graph.note_shape(reshaped, shapes[1])
    added = new_node("Add", [reshaped, biased.input[1]], [tensor])
    graph.insert_before(reshape, new_node("Reshape", [biased.input[0], reshape.input[1]], [reshaped]))
    graph.replace(reshape, added)


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
    narrow = [as_int32(graph, node, name) for name in ids]
    tables = [words.input[0], positions.input[0], types.input[0]]
    inputs = [*narrow, *tables, *node.input[1:]]
    fused = runtime_node("EmbedLayerNormalization", inputs, node, epsilon=attribute(node, "epsilon"))
    # The operator's second output, of the mask, is not optional.
    fused.output.append(f"{node.output[0]}__mask_index")
    graph.replace(node, fused)


def _counts_from_zero(graph: GraphEditor, positions: str, ids: str) -> bool:
    """Return whether positions are 0, 1, ... up to the length of `ids` (batch, length)."""
    tensor = positions
    while (step := graph.maker(tensor, "Cast", "Unsqueeze", "Identity")) is not None:
        tensor = step.input[0]
    counted = graph.maker(tensor, "Range")
    if counted is None or [graph.scalar(counted.input[index]) for index in (0, 2)] != [0, 1]:
        return False
    length = graph.maker(counted.input[1], "Squeeze")
    cut = None if length is None else graph.maker(length.input[0], "Slice")
    if cut is None or [graph.scalar(tensor) for tensor in cut.input[1:4]] != [1, 2, 0]:
        return False
    shape = graph.maker(cut.input[0], "Shape", "Cast")
    if shape is not None and shape.op_type == "Cast":
        shape = graph.maker(shape.input[0], "Shape")
    return shape is not None and shape.input[0] == ids


def _name_rms(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """A lone RMS normalization is ONNX' own."""
    if node.op_type == "SimplifiedLayerNormalization":
        epsilon = attribute(node, "epsilon")
        graph.replace(
            node, new_node("RMSNormalization", [*node.input], [*node.output], axis=-1, epsilon=epsilon)
        )


_RULES: tuple[Callable[[GraphEditor, onnx.NodeProto], None], ...] = (
    _fold_reshape,
    fuse_rotation,
    fuse_attention,
    _fuse_sigmoid_product,
    _fuse_bias_gelu,
    _fuse_embeddings,
    _fuse_residual,
    _name_rms,
)

# What no graph can do without: what was marked while tracing is nothing that anybody runs.
_NEEDED = (_fold_reshape, fuse_rotation, write_attention_out, _name_rms)
