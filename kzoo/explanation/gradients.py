"""How fast a label's odds grow with the embedding of each token, or with each pixel, on any backend."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, cast

import keras
import numpy as np
from keras import ops

from kzoo.layers import record_attention, scale_embeddings
from kzoo.models import TransformerModel
from kzoo.runtime.explanation import EXCLUSIVE
from kzoo.vision import ImagePreprocessing


def slopes(
    model: TransformerModel, inputs: dict[str, Any], scale: Any, label: Any, attention: bool = False
) -> dict[str, Any]:
    """Return the logits of a batch, and the derivatives of its labels' log odds by the scale of tokens or pixels.

    Args:
        model: a classifier of texts or images.
        inputs: what it is called on, tensors by name.
        scale: float32; (batch, length), what the embedding of each token is multiplied by, or (batch, height, width),
            how far each pixel is from black: 1 where it is as it is.
        label: int (batch,), the class whose odds are meant.
        attention: whether to return what each token attends to, too.

    Returns:
        Tensors: `logits` (batch, classes), `slopes`, of the scale's shape, and where wanted `attention`
        (batch, layers, heads, length, length).
    """

    def total(scale: Any) -> tuple[Any, dict[str, Any]]:
        # JAX lets nothing out of here but what is returned.
        with record_attention() if attention else contextlib.nullcontext() as weights:
            logits = _scaled_logits(model, inputs, scale)
        more = {"logits": logits}
        if weights is not None:
            more["attention"] = ops.stack([ops.cast(layer, "float32") for layer in weights], axis=1)
        # A row's odds depend on no other row's scale, so that one sum serves all rows.
        return ops.sum(_log_odds(logits, label, EXCLUSIVE[model.task])), more

    derivative, more = _derivative(total, scale)
    return {**more, "slopes": derivative}


def _scaled_logits(model: TransformerModel, inputs: dict[str, Any], scale: Any) -> Any:
    if "pixel_values" not in inputs:
        with scale_embeddings(model.backbone.token_embedding, scale):
            return model(inputs, training=False)["logits"]
    settings = cast(ImagePreprocessing, model.image_preprocessing)
    black = ops.convert_to_tensor(-np.asarray(settings.mean, "float32") / np.asarray(settings.std, "float32"))
    pixels = black + ops.expand_dims(scale, -1) * (inputs["pixel_values"] - black)
    return model({**inputs, "pixel_values": pixels}, training=False)["logits"]


def _log_odds(logits: Any, label: Any, exclusive: bool) -> Any:
    """Return what `kzoo.runtime.attribution.log_odds` does, of each row's own label, (batch, 1)."""
    # Axes are kept: of sums that drop them TensorFlow's derivatives are of a kind that ONNX has no word for.
    own = ops.one_hot(label, logits.shape[1], dtype="float32")
    chosen = ops.sum(logits * own, axis=1, keepdims=True)
    if not exclusive or logits.shape[1] == 1:
        return chosen
    others = logits - 1e9 * own
    largest = ops.stop_gradient(ops.max(others, axis=1, keepdims=True))
    return chosen - largest - ops.log(ops.sum(ops.exp(others - largest), axis=1, keepdims=True))


def _derivative(function: Callable[[Any], tuple[Any, dict[str, Any]]], x: Any) -> tuple[Any, dict[str, Any]]:
    """Return the derivative by `x` of a function's first result, and its second, which are tensors by name."""
    # Keras has no gradients of its own, only the trainers that each backend brings.
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value, more = function(x)
        return tape.gradient(value, x), more
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(function, has_aux=True)(ops.convert_to_tensor(x))
    import torch

    with torch.enable_grad():
        x = ops.convert_to_tensor(x).detach().requires_grad_()
        value, more = function(x)
        (derivative,) = torch.autograd.grad(value, x)
    return derivative, {name: tensor.detach() for name, tensor in more.items()}
