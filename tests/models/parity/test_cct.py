"""CCT against the same arithmetic in torch: there is no public reference implementation in a library."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from tests.models.parity.compare import assert_same
from tests.models.tiny import shaken, tiny
from tests.optional import require

pytestmark = pytest.mark.backend


def forward(model: Any, pixels: np.ndarray) -> np.ndarray:
    """Return the logits that torch computes with a model's weights."""
    torch = require("torch")
    functional = torch.nn.functional
    config = model.backbone.config

    def weight(variable: Any) -> Any:
        return torch.as_tensor(keras.ops.convert_to_numpy(variable.value))

    def linear(layer: Any, x: Any) -> Any:
        return functional.linear(
            x, weight(layer.kernel).T, None if layer.bias is None else weight(layer.bias)
        )

    def norm(layer: Any, x: Any) -> Any:
        return functional.layer_norm(
            x, x.shape[-1:], weight(layer.gamma), weight(layer.beta), config.layer_norm_epsilon
        )

    def heads(x: Any) -> Any:
        return x.unflatten(-1, (config.num_heads, -1)).transpose(1, 2)

    x = torch.as_tensor(pixels.transpose(0, 3, 1, 2))
    for convolution in model.backbone.stem.convolutions:
        kernel = weight(convolution.kernel).permute(3, 2, 0, 1)
        x = functional.conv2d(x, kernel, stride=config.stride, padding=config.kernel_size // 2).relu()
        x = functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)
    x = x.flatten(2).transpose(1, 2) + weight(model.backbone.position_embedding.embeddings)
    for block in model.backbone.blocks:
        inner, attention = norm(block.attention_norm, x), block.attention
        query, key, value = (
            heads(linear(layer, inner)) for layer in (attention.query, attention.key, attention.value)
        )
        attended = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = x + linear(attention.output_projection, attended)
        inner = norm(block.feed_forward_norm, x)
        expanded = functional.gelu(linear(block.feed_forward.expand, inner))
        x = x + linear(block.feed_forward.contract, expanded)
    x = norm(model.backbone.final_norm, x)
    shares = linear(model.backbone.pooler, x).softmax(dim=1)
    pooled = (shares.transpose(1, 2) @ x).squeeze(1)
    return linear(model.head.output_projection, pooled).numpy()


@pytest.mark.parametrize(
    "knobs",
    [{}, {"image_size": 17, "kernel_size": 5, "stride": 2, "num_channels": 1, "num_heads": 4}],
    ids=["usual", "odd"],
)
def test_logits(knobs):
    model = shaken(tiny("CCT", **knobs))
    size, channels = model.backbone.config.image_size, model.backbone.config.num_channels
    pixels = np.random.default_rng(0).normal(size=(3, size, size, channels)).astype("float32")
    assert_same(model(pixels)["logits"], forward(model, pixels))
