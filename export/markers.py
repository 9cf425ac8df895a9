"""Known operations kept whole while a model is traced, so that each becomes one ONNX node.

TensorFlow would take a layer normalization, a GELU or an attention apart, and compute the shape of each reshape.
While `marking()` lasts, Keras' own functions put a placeholder, a `PyFunc` that never runs, in their place; tf2onnx
then asks `write_node` for the ONNX node that each stands for. Where a function meets what it does not expect (another
dtype, a tensor of a loop's body), it does what Keras does.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kzoo.export.editing import OWN_DOMAIN, RUNTIME_DOMAIN
from kzoo.export.origins import Origins, static_shape
from kzoo.layers import Attention, attention

_PREFIX = "kzoo:"


@dataclass(frozen=True)
class Marked:
    """The node that a placeholder stands for."""

    op_type: str
    domain: str
    attributes: dict[str, Any]
    # Values of int64 inputs that are constants, after those that are tensors.
    constants: tuple[list[int], ...] = ()


@contextlib.contextmanager
def marking() -> Iterator[None]:
    """Keep known operations whole in the graph that is traced inside the block, on the TensorFlow backend."""
    tracer = _Tracer(tf.compat.v1.get_default_graph())
    replaced = []
    try:
        for place, name, replacement in tracer.replacements():
            original = getattr(place, name, None)
            if original is not None:
                replaced.append((place, name, original))
                setattr(place, name, replacement(original))
        yield
    finally:
        for place, name, original in reversed(replaced):
            setattr(place, name, original)


def write_node(context: Any, node: Any, name: str, args: Any) -> None:
    """Write the ONNX node of a placeholder; a custom handler of tf2onnx's for `PyFunc`.

    Raises:
        ValueError: the model calls Python inside its graph.
    """
    token = node.get_attr_value("token")
    token = token.decode() if isinstance(token, bytes) else token
    if not token.startswith(_PREFIX):
        raise ValueError(f"'{name}' calls a Python function, which the graph cannot hold.")
    marked = Marked(**json.loads(token.removeprefix(_PREFIX)))
    outputs, inputs = list(node.output), list(node.input)
    dtypes = [context.get_dtype(output) for output in outputs]
    shapes = [context.get_shape(output) for output in outputs]
    inputs += [
        context.make_const(f"{name}/constant_{index}", np.asarray(values, "int64")).output[0]
        for index, values in enumerate(marked.constants)
    ]
    context.remove_node(node.name)
    context.make_node(
        marked.op_type,
        inputs,
        attr=marked.attributes,
        outputs=outputs,
        dtypes=dtypes,
        shapes=shapes,
        name=name,
        domain=marked.domain,
    )


class _Tracer:
    """What replaces Keras' functions while one graph is traced."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.origins = Origins()

    def replacements(self) -> Iterator[tuple[Any, str, Callable[[Any], Any]]]:
        """Yield modules and classes, names of functions there, and what makes a function's replacement from it."""
        from keras.src.backend import tensorflow as backend
        from keras.src.ops import nn

        yield nn, "_layer_normalization", self.layer_normalization
        yield nn, "_rms_normalization", self.rms_normalization
        yield backend.nn, "gelu", self.gelu
        yield backend.numpy, "take", self.take
        yield backend.numpy, "take_along_axis", self.take_along_axis
        yield backend.numpy, "matmul", self.matmul
        yield backend.numpy, "reshape", self.reshape
        yield backend.core, "shape", self.shape
        yield backend, "shape", self.shape
        yield backend.nn, "dot_product_attention", self.dot_product_attention
        yield keras.layers.MultiHeadAttention, "_compute_attention", self.multi_head_attention
        yield keras.layers.EinsumDense, "call", self.einsum_dense
        yield keras.layers.TimeDistributed, "call", time_distributed
        yield Attention, "_attend", self.attention
        yield attention, "rotate", self.rotate

    def here(self, *tensors: Any, dtype: Any = tf.float32) -> bool:
        """Return whether tensors belong to the outermost graph, and are of that dtype and of known rank."""
        return tf.compat.v1.get_default_graph() is self.graph and all(
            isinstance(tensor, tf.Tensor) and tensor.dtype == dtype and tensor.shape.rank is not None
            for tensor in tensors
        )

    def mark(
        self,
        marked: Marked,
        inputs: list[Any],
        shape: list[int | None],
        sources: list[tuple[Any, int] | None],
    ) -> Any:
        """Return a placeholder's output; `sources` says of which input's axis each free size is."""
        token = _PREFIX + json.dumps(vars(marked))
        placeholder = tf.raw_ops.PyFunc(
            input=inputs, token=token, Tout=[inputs[0].dtype], name=marked.op_type
        )[0]
        # A shape that is only set is lost when the graph is imported again.
        output = tf.ensure_shape(placeholder, shape)
        self.origins.note(output, sources)
        return output

    def mark_alike(self, marked: Marked, inputs: list[Any]) -> Any:
        """Return a placeholder's output of the first input's shape."""
        x = inputs[0]
        return self.mark(marked, inputs, x.shape.as_list(), [(x, axis) for axis in range(x.shape.rank)])

    def layer_normalization(self, original: Any) -> Any:
        """Mark it where it is over the last axis."""

        def layer_normalization(
            x: Any,
            gamma: Any = None,
            beta: Any = None,
            axis: Any = -1,
            epsilon: Any = None,
            rms_scaling: bool = False,
        ) -> Any:
            scale = None if gamma is None else _tensor(gamma)
            shift = None if beta is None else _tensor(beta)
            given = [tensor for tensor in (x, scale, shift) if tensor is not None]
            if rms_scaling or scale is None or not self.here(*given) or not _is_last(axis, x.shape.rank):
                return original(
                    x, gamma=gamma, beta=beta, axis=axis, epsilon=epsilon, rms_scaling=rms_scaling
                )
            attributes = {"axis": -1, "epsilon": keras.config.epsilon() if epsilon is None else epsilon}
            return self.mark_alike(Marked("LayerNormalization", "", attributes), given)

        return layer_normalization

    def rms_normalization(self, original: Any) -> Any:
        """Mark it where it is over the last axis."""

        def rms_normalization(x: Any, scale: Any = None, axis: Any = -1, epsilon: Any = None) -> Any:
            gain = None if scale is None else _tensor(scale)
            if gain is None or not self.here(x, gain) or not _is_last(axis, x.shape.rank):
                return original(x, scale=scale, axis=axis, epsilon=epsilon)
            attributes = {"axis": -1, "epsilon": keras.config.epsilon() if epsilon is None else epsilon}
            return self.mark_alike(Marked("SimplifiedLayerNormalization", "", attributes), [x, gain])

        return rms_normalization

    def gelu(self, original: Any) -> Any:
        """Mark it."""

        def gelu(x: Any, approximate: bool = True) -> Any:
            if not self.here(x):
                return original(x, approximate)
            return self.mark_alike(Marked("FastGelu" if approximate else "Gelu", RUNTIME_DOMAIN, {}), [x])

        return gelu

    def take(self, original: Any) -> Any:
        """Mark it where it looks rows up in a table; ONNX counts negative indices from the end too."""

        def take(x: Any, indices: Any, axis: Any = None) -> Any:
            table, rows = _tensor(x), _tensor(indices)
            if (
                axis != 0
                or not self.here(table)
                or not any(self.here(rows, dtype=dtype) for dtype in _INTEGERS)
            ):
                return original(x, indices, axis)
            sources = [(rows, index) for index in range(rows.shape.rank)]
            shape = [*rows.shape.as_list(), *table.shape.as_list()[1:]]
            rest: list[Any] = [(table, index) for index in range(1, table.shape.rank)]
            return self.mark(Marked("Gather", "", {"axis": 0}), [table, rows], shape, sources + rest)

        return take

    def take_along_axis(self, original: Any) -> Any:
        """Mark it where it looks up whole vectors (batch, count, width) by places (batch, count, 1)."""

        def take_along_axis(x: Any, indices: Any, axis: Any = None) -> Any:
            states, places = _tensor(x), _tensor(indices)
            if (
                axis != 1
                or not self.here(states)
                or not any(self.here(places, dtype=dtype) for dtype in _INTEGERS)
                or [states.shape.rank, places.shape.rank, places.shape[-1]] != [3, 3, 1]
                or states.shape[0] != places.shape[0]
            ):
                return original(x, indices, axis)
            shape = [*places.shape.as_list()[:2], states.shape[2]]
            sources: list[Any] = [(places, 0), (places, 1), (states, 2)]
            marked = Marked("GatherND", "", {"batch_dims": 1})
            return self.mark(marked, [states, tf.cast(places, tf.int64)], shape, sources)

        return take_along_axis

    def matmul(self, original: Any) -> Any:
        """Mark the product of a longer tensor with a matrix, which TensorFlow would flatten first."""

        def matmul(x1: Any, x2: Any) -> Any:
            left, right = _tensor(x1), _tensor(x2)
            if not self.here(left, right) or left.shape.rank < 3 or right.shape.rank != 2:
                return original(x1, x2)
            sources: list[Any] = [(left, axis) for axis in range(left.shape.rank - 1)]
            shape = [*left.shape.as_list()[:-1], right.shape[-1]]
            return self.mark(Marked("MatMul", "", {}), [left, right], shape, [*sources, (right, 1)])

        return matmul

    def shape(self, original: Any) -> Any:
        """Remember which tensor's size each scalar is."""

        def shape(x: Any) -> Any:
            sizes = original(x)
            if isinstance(x, tf.Tensor):
                for axis, size in enumerate(sizes):
                    if isinstance(size, tf.Tensor):
                        self.origins.note_size(size, x, axis)
            return sizes

        return shape

    def reshape(self, original: Any) -> Any:
        """Mark it with a constant shape, where the free sizes asked for are those that are there."""

        def reshape(x: Any, newshape: Any) -> Any:
            asked = list(newshape) if isinstance(newshape, (tuple, list)) else None
            if asked is None or not isinstance(x, tf.Tensor) or not self.here(x, dtype=x.dtype):
                return original(x, newshape)
            target = self.origins.reshape_target(x, asked)
            if target is None:
                return original(x, newshape)
            sources: list[Any] = [(x, axis) if size == 0 else None for axis, size in enumerate(target)]
            shape = static_shape(x, target)
            return self.mark(Marked("Reshape", "", {}, (target,)), [x], shape, sources)

        return reshape

    def attention(self, original: Any) -> Any:
        """Mark what runs from heads' queries, keys, values and bias to the heads' results."""

        def attend(layer: Attention, query: Any, keys: Any, values: Any, bias: Any, training: bool) -> Any:
            if not self.can_attend(query, keys, values, bias):
                return original(layer, query, keys, values, bias, training)
            # The node does not tell its weights: they are computed beside it.
            if (recorded := layer.recorder()) is not None:
                recorded.append(layer.attention_weights(query, keys, bias))
            return self.attend(query, keys, values, bias, layer.scale)

        return attend

    def rotate(self, original: Any) -> Any:
        """Mark what turns queries or keys by their positions."""

        def rotate(x: Any, rotation: tuple[Any, Any]) -> Any:
            if not self.here(x, *rotation) or None in {x.shape[1], x.shape[3]}:
                return original(x, rotation)
            attributes = {"num_heads": x.shape[1], "head_dim": x.shape[3]}
            attributes |= {"shared": int(rotation[0].shape[0] == 1 != x.shape[0])}
            return self.mark_alike(Marked("RotaryEmbedding", OWN_DOMAIN, attributes), [x, *rotation])

        return rotate

    def multi_head_attention(self, original: Any) -> Any:
        """Mark that of Keras' own layer, and of those that inherit from it."""

        def compute_attention(
            layer: Any,
            query: Any,
            key: Any,
            value: Any,
            attention_mask: Any = None,
            training: Any = None,
            return_attention_scores: bool = False,
            use_causal_mask: bool = False,
        ) -> Any:
            given = (query, key, value, attention_mask, training, return_attention_scores, use_causal_mask)
            uncommon = training or return_attention_scores or (use_causal_mask and attention_mask is None)
            if uncommon or len(query.shape) != 4:
                return original(layer, *given)
            bias, shown = None, None
            if attention_mask is not None:
                mask = _tensor(attention_mask)
                mask = mask[:, None] if mask.shape.rank == 3 else mask
                mask = mask if mask.dtype == tf.bool else mask > tf.cast(0.5, mask.dtype)
                bias = _hidden(mask)
                # Where its dropout keeps it from the backend's attention, the layer gives 0 for a row without keys.
                if layer._dropout > 0.0:
                    shown = tf.cast(tf.reduce_any(mask, -1), tf.float32)
            result = self.from_heads(query, key, value, bias, layer._inverse_sqrt_key_dim)
            if result is None:
                return original(layer, *given)
            if shown is not None:
                result = result * tf.transpose(shown, (0, 2, 1))[..., None]
            return result, None

        return compute_attention

    def dot_product_attention(self, original: Any) -> Any:
        """Mark `keras.ops.dot_product_attention`."""

        def dot_product_attention(
            query: Any,
            key: Any,
            value: Any,
            bias: Any = None,
            mask: Any = None,
            scale: Any = None,
            is_causal: bool = False,
            **options: Any,
        ) -> Any:
            uncommon = any(options.values()) or is_causal or (bias is not None and mask is not None)
            if not uncommon and query.shape[-1] is not None:
                scores = bias if mask is None else _hidden(tf.cast(mask, tf.bool))
                factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
                result = self.from_heads(query, key, value, scores, factor)
                if result is not None:
                    return result
            return original(query, key, value, bias, mask, scale, is_causal, **options)

        return dot_product_attention

    def from_heads(self, query: Any, keys: Any, values: Any, bias: Any, scale: Any) -> Any:
        """Return the results (batch, length, num_heads, head_dim) from tensors of that order; None if unknown."""
        if any(not isinstance(x, tf.Tensor) or x.shape.rank != 4 for x in (query, keys, values)):
            return None
        queries, turned_keys, turned_values = (tf.transpose(x, (0, 2, 1, 3)) for x in (query, keys, values))
        if not isinstance(scale, float) or not self.can_attend(queries, turned_keys, turned_values, bias):
            return None
        attended = self.attend(queries, turned_keys, turned_values, bias, scale)
        heads = (query.shape[2], values.shape[3])
        return keras.ops.reshape(attended, (-1, keras.ops.shape(attended)[1], *heads))

    def can_attend(self, query: Any, keys: Any, values: Any, bias: Any) -> bool:
        """Return whether tensors (batch, num_heads, length, head_dim) are what the runtime's operator takes."""
        given = [query, keys, values] if bias is None else [query, keys, values, bias]
        if not self.here(*given) or any(tensor.shape.rank != 4 for tensor in given):
            return False
        sizes = [*(tensor.shape[1] for tensor in given[:3]), query.shape[3], values.shape[3]]
        return None not in sizes and sizes[1] == sizes[2] and sizes[0] % sizes[1] == 0

    def attend(self, query: Any, keys: Any, values: Any, bias: Any, scale: float) -> Any:
        """Return the results of all heads side by side (batch, query_length, num_heads * head_dim)."""
        attributes: dict[str, Any] = {"num_heads": query.shape[1], "num_key_value_heads": keys.shape[1]}
        attributes |= {"scale": float(scale), "head_dim": query.shape[3], "value_dim": values.shape[3]}
        given = [query, keys, values]
        if bias is not None:
            given.append(bias)
            attributes |= {"bias_shape": [-1 if size is None else size for size in bias.shape]}
        shape = [query.shape[0], query.shape[2], query.shape[1] * values.shape[3]]
        sources: list[Any] = [(query, 0), (query, 2), None]
        return self.mark(Marked("Attention", OWN_DOMAIN, attributes), given, shape, sources)

    def einsum_dense(self, original: Any) -> Any:
        """Mark the product with a matrix that splits the last axis into heads, or joins them."""

        def call(layer: Any, inputs: Any, training: Any = None) -> Any:
            kernel = _tensor(layer.kernel)
            contracted = _contracted_axes(layer.equation)
            if (
                not self.here(inputs, kernel)
                or contracted is None
                or layer.lora_enabled
                or None in inputs.shape[-contracted:]
            ):
                return original(layer, inputs, training=training)
            width = math.prod(inputs.shape[-contracted:])
            kept = range(inputs.shape.rank - contracted)
            sizes = keras.ops.shape(inputs)
            x = (
                inputs
                if contracted == 1
                else keras.ops.reshape(inputs, (*[sizes[axis] for axis in kept], width))
            )
            made = kernel.shape.as_list()[contracted:]
            x = keras.ops.matmul(x, tf.reshape(kernel, (width, math.prod(made))))
            if layer.bias is not None:
                bias = _tensor(layer.bias)
                bias = bias if bias.shape.as_list() == made else tf.broadcast_to(bias, made)
                x = x + tf.reshape(bias, (math.prod(made),))
            if len(made) > 1:
                x = keras.ops.reshape(x, (*[sizes[axis] for axis in kept], *made))
            return x if layer.activation is None else layer.activation(x)

        return call


def time_distributed(original: Any) -> Any:
    """Let a layer see all steps as one batch, where Keras 3.15 would count free ones by the batch's size."""

    def call(layer: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if inputs.shape[1] is not None:
            return original(layer, inputs, training=training, mask=mask)
        options = {"training": training} if layer.layer._call_has_training_arg else {}
        if mask is not None and layer.layer._call_has_mask_arg:
            options["mask"] = keras.ops.reshape(mask, (-1, *mask.shape[2:]))
        result = layer.layer.call(keras.ops.reshape(inputs, (-1, *inputs.shape[2:])), **options)
        return keras.ops.reshape(result, (-1, keras.ops.shape(inputs)[1], *result.shape[1:]))

    return call


def _contracted_axes(equation: str) -> int | None:
    """Return how many of the last axes an equation such as `abc,cde->abde` sums over; None for any other kind."""
    left, _, right = equation.partition("->")
    inputs, _, kernel = left.partition(",")
    for count in (1, 2):
        kept, summed = inputs[:-count], inputs[-count:]
        if kept and kernel.startswith(summed) and right == kept + kernel[count:] and "." not in equation:
            return count
    return None


def _hidden(mask: Any) -> Any:
    """Return a bias that hides what a mask does not show, in the form that `kzoo.export.fusion` knows."""
    return (1.0 - tf.cast(mask, tf.float32)) * -1e9


_INTEGERS = (tf.int32, tf.int64)


def _tensor(x: Any) -> Any:
    """Return a Keras variable or an array as a tensor; anything sparse or ragged as it is."""
    if isinstance(x, (tf.SparseTensor, tf.RaggedTensor)):
        return x
    return tf.convert_to_tensor(x.value if isinstance(x, keras.Variable) else x)


def _is_last(axis: Any, rank: int) -> bool:
    axes = list(axis) if isinstance(axis, (tuple, list)) else [axis]
    return axes in ([-1], [rank - 1])
