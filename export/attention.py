"""Attention as one node: ONNX Runtime's own operator, or ONNX', whichever takes what a layer does.

`kzoo.export.markers` leaves a node of `OWN_DOMAIN` where a layer attends, or turns queries and keys by positions.
ONNX' operators (opset 23) take keys and values of fewer heads, and append them to those of the past by themselves;
without either, ONNX Runtime's own know padding and biases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from kzoo.export.editing import OWN_DOMAIN, GraphEditor, attribute, new_node, runtime_node


@dataclass(frozen=True)
class _Product:
    """A product of states with a matrix, and what is added to it."""

    output: str
    source: str
    matrix: str
    bias: str | None = None


@dataclass(frozen=True)
class _Heads:
    """Queries, keys or values before they were split into heads, and the product that they come from, if any."""

    joined: str
    product: _Product | None = None

    @property
    def turned(self) -> bool:
        """Whether what comes of the product is turned by rotary positions."""
        return self.product is not None and self.product.output != self.joined


def fuse_rotation(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """Write a marked rotation as ONNX' operator, before its input is split into heads where that is known."""
    if node.domain != OWN_DOMAIN or node.op_type != "RotaryEmbedding":
        return
    x, cosines, sines = node.input
    if attribute(node, "shared"):
        cosines, sines = (_for_each_row(graph, node, part) for part in (cosines, sines))
    heads, width = attribute(node, "num_heads"), attribute(node, "head_dim")
    joined = _before_split(graph, x)
    if joined is None:
        graph.replace(node, new_node("RotaryEmbedding", [x, cosines, sines], [node.output[0]]))
        return
    turned, split = f"{node.output[0]}__joined", f"{node.output[0]}__split"
    graph.note_shape(turned, graph.shape(joined))
    target = graph.constant(f"kzoo/split_{heads}_{width}", [0, 0, heads, width])
    graph.insert_before(
        node,
        new_node("RotaryEmbedding", [joined, cosines, sines], [turned], num_heads=heads),
        new_node("Reshape", [turned, target], [split]),
    )
    graph.replace(node, new_node("Transpose", [split], [node.output[0]], perm=[0, 2, 1, 3]))


def _for_each_row(graph: GraphEditor, node: onnx.NodeProto, tensor: str) -> str:
    """Return (batch, length, width) of what all rows share (1, length, width)."""
    repeated, rows, sizes = f"{tensor}__each_row", f"{node.input[0]}__rows", f"{node.input[0]}__rows_1_1"
    ones = graph.constant("kzoo/ones_2", [1, 1])
    if graph.maker(repeated, "Expand") is None:
        graph.once(rows, lambda: new_node("Shape", [node.input[0]], [rows], start=0, end=1), node)
        graph.once(sizes, lambda: new_node("Concat", [rows, ones], [sizes], axis=0), node)
    return graph.once(repeated, lambda: new_node("Expand", [tensor, sizes], [repeated]), node)


def fuse_attention(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """Write a marked attention as one operator, or out where none can take it."""
    if node.domain != OWN_DOMAIN or node.op_type != "Attention":
        return
    caches = _caches(graph, node)
    standard = bool(caches) or attribute(node, "num_heads") != attribute(node, "num_key_value_heads")
    mask, bias, reason = _mask_or_bias(graph, node, standard)
    if reason:
        graph.unfused.append(f"Attention in '{node.name}': {reason}")
        _write_out(graph, node)
    elif standard:
        _write_standard(graph, node, bias, caches)
    else:
        parts: list[Any] = [_joined_heads(graph, tensor) for tensor in node.input[:3]]
        same_width = attribute(node, "head_dim") == attribute(node, "value_dim")
        if same_width and _is_packable(parts) and not any(part.turned for part in parts):
            _write_packed(graph, node, parts, mask, bias)
        else:
            _write_multi_head(graph, node, parts, mask, bias)


def write_attention_out(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """Write a marked attention as products and a softmax, whatever operator there is for it."""
    if node.domain == OWN_DOMAIN and node.op_type == "Attention":
        _write_out(graph, node)


def _caches(graph: GraphEditor, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Return what appends keys, and what appends values, to those of the past; nothing unless for both."""
    found = []
    for tensor in node.input[1:3]:
        appended = graph.maker(tensor, "Concat")
        if appended is None or len(appended.input) != 2 or attribute(appended, "axis") not in (2, -2):
            return []
        # What else reads all of them would come before them.
        if len(graph.neighbours(tensor)) > 2 or _before_split(graph, appended.input[1]) is None:
            return []
        found.append(appended)
    return found if _before_split(graph, node.input[0]) is not None else []


def _write_standard(
    graph: GraphEditor, node: onnx.NodeProto, bias: str, caches: list[onnx.NodeProto]
) -> None:
    """ONNX' own node: keys and values may have fewer heads than queries, and come after those of the past."""
    tensors = [node.input[0], *(cache.input[1] for cache in caches)] if caches else node.input[:3]
    parts: list[Any] = [_joined_heads(graph, tensor) for tensor in tensors]
    attributes = {"scale": attribute(node, "scale")}
    output = node.output[0]
    if None in parts:
        inputs, attended = list(node.input[:3]), f"{output}__heads"
    else:
        _pack(graph, node, parts)
        inputs, attended = [part.joined for part in parts], output
        attributes |= {"q_num_heads": attribute(node, "num_heads")}
        attributes |= {"kv_num_heads": attribute(node, "num_key_value_heads")}
    inputs += [bias, *(cache.input[0] for cache in caches)]
    while not inputs[-1]:
        inputs.pop()
    outputs = [attended, *(cache.output[0] for cache in caches)]
    for cache in caches:
        graph.remove(cache)
    new = onnx.helper.make_node("Attention", inputs, outputs, name=node.name, **attributes)
    if attended == output:
        graph.replace(node, new)
        return
    graph.insert_before(node, new)
    width = attribute(node, "value_dim") * attribute(node, "num_heads")
    graph.replace(node, _join_heads(graph, node, attended, width, output))


def _pack(graph: GraphEditor, node: onnx.NodeProto, parts: list[Any]) -> None:
    """Make queries, keys and values of the same states by one product, and split it."""
    products = [part.product for part in parts]
    if not _is_packable(parts) or not all(graph.is_private(product.output) for product in products):
        return
    makers: list[Any] = [graph.maker(product.output, "MatMul", "Add") for product in products]
    first = next(other for other in graph.nodes if any(other is maker for maker in makers))
    matrix = graph.pack(tuple(product.matrix for product in products))
    packed = f"{node.name}/packed"
    added = [new_node("MatMul", [products[0].source, matrix], [packed])]
    if products[0].bias:
        bias = graph.pack(tuple(product.bias for product in products))
        added.append(new_node("Add", [packed, bias], [f"{packed}/biased"]))
    widths = [graph.weight_shape(product.matrix)[-1] for product in products]
    batch = graph.shape(products[0].source)
    for new in added:
        graph.note_shape(new.output[0], None if batch is None else [*batch[:-1], sum(widths)])
    sizes = graph.constant(f"kzoo/widths_{'_'.join(map(str, widths))}", widths)
    outputs = [product.output for product in products]
    added.append(new_node("Split", [added[-1].output[0], sizes], outputs, axis=-1))
    graph.insert_before(first, *added)
    for maker in makers:
        graph.remove(maker)


def _write_packed(graph: GraphEditor, node: onnx.NodeProto, parts: list[Any], mask: str, bias: str) -> None:
    """One node from the states that all three come from: their matrices lie side by side in one weight."""
    products = [part.product for part in parts]
    matrix = graph.pack(tuple(product.matrix for product in products))
    if products[0].bias:
        shift = graph.pack(tuple(product.bias for product in products))
    else:
        # The runtime's CPU kernel reads a bias whether there is one or not.
        width = sum(graph.weight_shape(product.matrix)[-1] for product in products)
        shift = graph.constant(f"kzoo/zeros_{width}", np.zeros(width), "float32")
    inputs = [products[0].source, matrix, shift, mask, "", bias]
    graph.replace(node, runtime_node("Attention", inputs, node, **_attention_attributes(node, mask)))


def _write_multi_head(
    graph: GraphEditor, node: onnx.NodeProto, parts: list[Any], mask: str, bias: str
) -> None:
    """One node from what was multiplied before; keys and values may come split into heads, as from a cache."""
    query, keys, values = (None if part is None else part.joined for part in parts)
    if query is None:
        query = f"{node.input[0]}__joined"
        width = attribute(node, "head_dim") * attribute(node, "num_heads")
        graph.once(query, lambda: _join_heads(graph, node, node.input[0], width, query), node)
    if keys is None or values is None:
        keys, values = node.input[1:3]
    inputs = [query, keys, values, "", mask, bias]
    graph.replace(node, runtime_node("MultiHeadAttention", inputs, node, **_attention_attributes(node, mask)))


def _attention_attributes(node: onnx.NodeProto, mask: str) -> dict[str, Any]:
    attributes = {name: attribute(node, name) for name in ("num_heads", "scale")}
    # What `kzoo.layers` adds: a row that hides every key attends evenly, as it does in Keras.
    return attributes | ({"mask_filter_value": -1e9} if mask else {})


def _mask_or_bias(graph: GraphEditor, node: onnx.NodeProto, standard: bool) -> tuple[str, str, str]:
    """Return the mask of keys, or the bias on scores, that an operator takes; or the reason why none takes it."""
    if len(node.input) < 4:
        return "", "", ""
    bias = node.input[3]
    shape = attribute(node, "bias_shape")
    if standard and shape[3] != 1:
        return "", _for_each_query(graph, node, bias) if shape[2] == 1 else bias, ""
    mask = _padding_mask(graph, node, bias) if shape[1:3] == [1, 1] else None
    if mask is not None:
        return mask, "", ""
    if shape[2] == 1 or shape[3] == 1:
        return "", "", "its bias is the same for all queries, and is no mask of padding"
    return "", bias, ""


def _for_each_query(graph: GraphEditor, node: onnx.NodeProto, bias: str) -> str:
    """Return a bias (batch, num_heads, query_length, key_length) of one that is the same for all queries."""
    joined = _before_split(graph, node.input[0])
    queries, axis = (node.input[0], 2) if joined is None else (joined, 1)
    length, sizes, repeated = (f"{node.name}/{part}" for part in ("queries", "bias_shape", "bias"))
    one, ones = graph.constant("kzoo/ones_1", [1]), graph.constant("kzoo/ones_2", [1, 1])
    graph.insert_before(
        node,
        new_node("Shape", [queries], [length], start=axis, end=axis + 1),
        new_node("Concat", [ones, length, one], [sizes], axis=0),
        new_node("Expand", [bias, sizes], [repeated]),
    )
    return repeated


def _padding_mask(graph: GraphEditor, node: onnx.NodeProto, bias: str) -> str | None:
    """Return int32 (batch, length), 1 for real tokens, of a bias (1 - mask) * -1e9 (batch, 1, 1, length)."""
    tensor, added_axes = bias, 0
    while (step := graph.maker(tensor, "Unsqueeze")) is not None:
        tensor, added_axes = step.input[0], added_axes + 1
    product = graph.maker(tensor, "Mul")
    difference = None if product is None else graph.maker(product.input[0], "Sub")
    if product is None or difference is None or graph.scalar(product.input[1]) != -1e9:
        return None
    cast = graph.maker(difference.input[1], "Cast")
    if cast is None or graph.scalar(difference.input[0]) != 1.0 or added_axes not in (0, 2):
        return None
    name = as_int32(graph, node, cast.input[0])
    if added_axes == 2:
        return name
    axes, flat = graph.constant("kzoo/axes_1_2", [1, 2]), f"{name}__flat"
    graph.once(flat, lambda: onnx.helper.make_node("Squeeze", [name, axes], [flat], name=flat), node)
    return flat


def as_int32(graph: GraphEditor, node: onnx.NodeProto, tensor: str) -> str:
    """Return a tensor in the dtype that the runtime's operators take."""
    name = f"{tensor}__int32"
    to = onnx.TensorProto.INT32
    return graph.once(name, lambda: onnx.helper.make_node("Cast", [tensor], [name], name=name, to=to), node)


def _joined_heads(graph: GraphEditor, tensor: str) -> _Heads | None:
    """Return what was (batch, length, heads * width) before it was split into heads."""
    joined = _before_split(graph, tensor)
    if joined is None:
        return None
    turned = graph.maker(joined, "RotaryEmbedding")
    made = joined if turned is None else turned.input[0]
    added = graph.maker(made, "Add")
    product = graph.maker(made if added is None else added.input[0], "MatMul")
    if product is None or graph.weight_rank(product.input[1]) != 2:
        return _Heads(joined)
    source, matrix = product.input
    if added is None:
        return _Heads(joined, _Product(made, source, matrix))
    if graph.weight_rank(added.input[1]) != 1:
        return _Heads(joined)
    return _Heads(joined, _Product(made, source, matrix, added.input[1]))


def _before_split(graph: GraphEditor, tensor: str) -> str | None:
    """Return what was (batch, length, heads * width) before it became (batch, heads, length, width)."""
    transpose = graph.maker(tensor, "Transpose")
    if transpose is not None and attribute(transpose, "perm") != [0, 2, 1, 3]:
        return None
    reshape = graph.maker(tensor if transpose is None else transpose.input[0], "Reshape")
    shape = None if reshape is None else graph.shape(reshape.input[0])
    target = None if reshape is None else graph.value(reshape.input[1])
    if reshape is None or shape is None or len(shape) != 3 or target is None or len(target) != 4:
        return None
    # A single head needs no Transpose.
    if transpose is None and (target[1] != 1 or target[3] != shape[2]):
        return None
    return reshape.input[0]


def _is_packable(parts: list[Any]) -> bool:
    """Return whether queries, keys and values all come from the same states, with biases or without."""
    products: list[Any] = [None if part is None else part.product for part in parts]
    if None in products:
        return False
    sources = {product.source for product in products}
    biased = {product.bias is not None for product in products}
    return len(sources) == 1 and len(biased) == 1


def _join_heads(
    graph: GraphEditor, node: onnx.NodeProto, tensor: str, width: int, joined: str
) -> onnx.NodeProto:
    """Turn a tensor (batch, heads, length, width of each) back; return the node that then makes `joined` of it."""
    turned = f"{tensor}__turned"
    target = graph.constant(f"kzoo/join_{width}", [0, 0, width])
    graph.once(turned, lambda: new_node("Transpose", [tensor], [turned], perm=[0, 2, 1, 3]), node)
    return new_node("Reshape", [turned, target], [joined])


def _write_out(graph: GraphEditor, node: onnx.NodeProto) -> None:
    """Write a marked attention as products and a softmax (Vaswani et al., 2017, section 3.2.1)."""
    query, keys, values = node.input[:3]
    name, scale = node.name, attribute(node, "scale")
    heads, groups = attribute(node, "num_heads"), attribute(node, "num_key_value_heads")

    def step(operation: str, *inputs: str, **attributes: Any) -> str:
        output = f"{name}/{operation}_{len(steps)}"
        steps.append(new_node(operation, list(inputs), [output], **attributes))
        return output

    steps: list[onnx.NodeProto] = []
    if groups != heads:
        places = np.repeat(np.arange(groups), heads // groups)
        shared = graph.constant(f"kzoo/heads_{groups}_{heads}", places)
        keys, values = (step("Gather", tensor, shared, axis=1) for tensor in (keys, values))
    scaled = step("Mul", query, graph.constant(f"kzoo/scale_{scale}", scale, "float32"))
    scores = step("MatMul", scaled, step("Transpose", keys, perm=[0, 1, 3, 2]))
    if len(node.input) > 3:
        scores = step("Add", scores, node.input[3])
    attended = step("MatMul", step("Softmax", scores, axis=-1), values)
    graph.insert_before(node, *steps)
    width = attribute(node, "value_dim") * heads
    graph.replace(node, _join_heads(graph, node, attended, width, node.output[0]))
