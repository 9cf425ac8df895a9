"""Arithmetic on sizes and positions in fewer nodes: at a step of one token, each costs as much as a small product.

TensorFlow's slices, casts and added axes become several nodes each where ONNX has one for them.
"""

from __future__ import annotations

import numpy as np
import onnx

from kzoo.export.editing import GraphEditor, attribute, new_node

# An end of a slice from here on stands for the end of the axis.
_FAR = 1_000_000_000
_INT32, _INT64, _FLOAT = onnx.TensorProto.INT32, onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
# What has the dtype of its first input.
_KEEPS_DTYPE = ("Add", "Sub", "Mul", "Neg", "Max", "Range", "Squeeze", "Unsqueeze", "Slice", "Concat")


def tidy(graph: GraphEditor) -> None:
    """Apply all rules to a graph, each to every node."""
    for rule in _RULES:
        for node in list(graph.nodes):
            if graph.holds(node):
                rule(graph, node)
    _share_nodes(graph)


def _shorten_slice(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """A slice along one axis: the others' whole lengths need not be said, nor where masks of constants begin it."""
    if node.op_type != "Slice" or len(node.input) != 5:
        return
    ends, axes, steps = (graph.value(tensor) for tensor in node.input[2:])
    starts = node.input[1]
    chosen = graph.maker(starts, "Where")
    if chosen is not None:
        masked = _mask(graph, chosen.input[0])
        if masked is None or masked.any():
            return
        starts = chosen.input[2]
    joined = graph.maker(starts, "Concat")
    if ends is None or axes is None or steps is None or joined is None or len(joined.input) != len(axes):
        return
    free = [
        place
        for place, start in enumerate(joined.input)
        if graph.scalar(start) != 0 or ends[place] < _FAR or steps[place] != 1
    ]
    # Each of the starts is one number only if there are as many as axes.
    if len(free) != 1 or graph.value(joined.input[free[0]]) is not None:
        return
    place = free[0]
    rest = [
        graph.constant(f"kzoo/{values.dtype}_{values[place]}", values[place : place + 1], str(values.dtype))
        for values in (ends, axes, steps)
    ]
    graph.replace(node, new_node("Slice", [node.input[0], joined.input[place], *rest], [*node.output]))


def _mask(graph: GraphEditor, tensor: str) -> np.ndarray | None:
    """Return the value of a constant, or of what TensorFlow compares and joins of constants."""
    value = graph.value(tensor)
    made = graph.maker(tensor, "And", "Less")
    if value is not None or made is None:
        return value
    left, right = (_mask(graph, name) for name in made.input)
    if left is None or right is None:
        return None
    return np.less(left, right) if made.op_type == "Less" else np.logical_and(left, right)


def _join_axes(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """Axes that are added one after another are added at once, and none that was just taken away."""
    if node.op_type != "Unsqueeze" or node.output[0] in graph.outputs:
        return
    outer = graph.value(node.input[1])
    before = graph.maker(node.input[0], "Unsqueeze", "Squeeze")
    inner = None if before is None or len(before.input) < 2 else graph.value(before.input[1])
    if before is None or inner is None or outer is None or min(*inner, *outer) < 0:
        return
    if before.op_type == "Squeeze":
        if inner.tolist() == outer.tolist():
            graph.redirect(node, before.input[0])
        return
    if not graph.is_private(node.input[0]):
        return
    # Where the inner tensor's axes are in the outer one.
    kept = [place for place in range(int(inner.max()) + 1 + len(outer)) if place not in outer]
    axes = sorted([*map(int, outer), *(kept[axis] for axis in inner)])
    named = graph.constant(f"kzoo/axes_{'_'.join(map(str, axes))}", axes)
    graph.replace(node, new_node("Unsqueeze", [before.input[0], named], [*node.output]))


def _compare_integers(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """Integers are compared as such."""
    if node.op_type not in ("Less", "Greater"):
        return
    cast, bound = graph.maker(node.input[0], "Cast"), graph.scalar(node.input[1])
    if cast is None or attribute(cast, "to") != _FLOAT or not isinstance(bound, float) or bound % 1:
        return
    dtype = _dtype(graph, cast.input[0])
    if dtype not in (_INT32, _INT64):
        return
    name = "int32" if dtype == _INT32 else "int64"
    whole = graph.constant(f"kzoo/{name}_scalar_{int(bound)}", int(bound), name)
    graph.replace(node, new_node(node.op_type, [cast.input[0], whole], [*node.output]))


def _dtype(graph: GraphEditor, tensor: str) -> int | None:
    """Return an element type, where the nodes tell it."""
    while (made := graph.maker(tensor, *_KEEPS_DTYPE)) is not None:
        tensor = made.input[0]
    if tensor in graph.inputs:
        return graph.input_dtype(tensor)
    value, cast = graph.value(tensor), graph.maker(tensor, "Cast")
    if cast is not None:
        return int(attribute(cast, "to"))
    return None if value is None else int(onnx.helper.np_dtype_to_tensor_dtype(value.dtype))


def _cancel_sum(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """Of whole numbers, what is added and taken away again is neither."""
    total = graph.maker(node.input[0], "Add") if node.op_type == "Sub" else None
    if total is None or node.output[0] in graph.outputs or _dtype(graph, total.output[0]) != _INT32:
        return
    # Then both terms are single numbers, and neither gives the other its shape.
    if graph.shape(node.output[0]) == [] == graph.shape(total.output[0]) and node.input[1] in total.input:
        terms = list(total.input)
        terms.remove(node.input[1])
        graph.redirect(node, terms[0])


def _choose(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """A number where something holds, else 0: chosen, not multiplied."""
    if node.op_type != "Mul":
        return
    cast, factor = graph.maker(node.input[0], "Cast"), graph.scalar(node.input[1])
    if cast is None or attribute(cast, "to") != _FLOAT or not isinstance(factor, float):
        return
    if graph.maker(cast.input[0], *_TRUTHS) is not None:
        zero = graph.constant("kzoo/float32_0", 0.0, "float32")
        graph.replace(node, new_node("Where", [cast.input[0], node.input[1], zero], [*node.output]))


def _drop_cast(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """What has a type need not be given it."""
    if node.op_type != "Cast" or node.output[0] in graph.outputs:
        return
    if _dtype(graph, node.input[0]) == attribute(node, "to"):
        graph.redirect(node, node.input[0])


def _measure_one_axis(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """One size is asked for alone."""
    cast = graph.maker(node.input[0], "Cast") if node.op_type == "Slice" else None
    shape = (
        None if cast is None or not graph.is_private(cast.output[0]) else graph.maker(cast.input[0], "Shape")
    )
    if cast is None or shape is None or shape.attribute or not graph.is_private(shape.output[0]):
        return
    start, end, axis = (graph.scalar(tensor) for tensor in node.input[1:4])
    if axis != 0 or len(node.input) > 4 or start is None or end is None or not 0 <= start < end:
        return
    size = f"{node.output[0]}__size"
    graph.insert_before(node, new_node("Shape", [shape.input[0]], [size], start=start, end=end))
    graph.replace(node, new_node("Cast", [size], [*node.output], to=attribute(cast, "to")))


def _share_nodes(graph: GraphEditor) -> None:
    """Let what several nodes make alike be made by the first of them."""
    first: dict[tuple[object, ...], str] = {}
    for node in list(graph.nodes):
        if not graph.holds(node) or len(node.output) != 1 or node.output[0] in graph.outputs:
            continue
        if node.op_type not in _SHARED or node.domain:
            continue
        details = tuple(item.SerializeToString(deterministic=True) for item in node.attribute)
        known = first.setdefault((node.op_type, *node.input, details), node.output[0])
        if known != node.output[0]:
            graph.redirect(node, known)


# What gives true or false.
_TRUTHS = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "And", "Or", "Not")
# Of these there may be equal ones.
_SHARED = ("Cast", "Shape", "Slice", "Squeeze", "Unsqueeze", "Concat", "Neg")

_RULES = (_shorten_slice, _measure_one_axis, _join_axes, _compare_integers, _cancel_sum, _choose, _drop_cast)
