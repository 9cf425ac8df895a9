"""CCT: the compact convolutional Transformer, for small images and small data (Hassani et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.errors import KzooError
from kzoo.layers import ConvolutionalTokenizer, PositionEmbedding
from kzoo.models.backbone import Backbone, InputSpec
from kzoo.models.base import TransformerModel
from kzoo.models.registry import build, register_model
from kzoo.models.vit import ImageConfig, image_signature


@dataclass(frozen=True)
class CCTConfig(ImageConfig):
    """CCT's numbers; the defaults are `cct_7_3x1_32`'s.

    `kernel_size`, `stride`, `num_convolutions` and `convolution_dim`, the channels between two of them, are the
    tokenizer's.
    """

    image_size: int = 32
    kernel_size: int = 3
    stride: int = 1
    num_convolutions: int = 1
    convolution_dim: int = 64
    hidden_dim: int = 256
    num_layers: int = 7
    num_heads: int = 4
    intermediate_dim: int = 512
    layer_norm_epsilon: float = 1e-5
    attention_dropout: float = 0.1
    drop_path: float = 0.1
    attention_bias: bool = False

    def __post_init__(self) -> None:
        """Refuse a kernel without a middle, and an image of which the tokenizer leaves nothing to attend to."""
        super().__post_init__()
        if self.kernel_size % 2 == 0:
            raise KzooError(f"kernel_size={self.kernel_size} is even: give an odd number.")
        if self.side < 2:
            raise KzooError(
                f"image_size={self.image_size} is too small for num_convolutions={self.num_convolutions} of "
                f"stride={self.stride}: one token is left."
            )

    @property
    def side(self) -> int:
        """Height and width of the tokenizer's output."""
        side = self.image_size
        for _ in range(self.num_convolutions):
            side = -(-side // self.stride)
            side = -(-side // 2)
        return side


@keras.saving.register_keras_serializable("kzoo")
class CCT(Backbone):
    """Compact convolutional Transformer (Hassani et al., 2021, section 3).

    Returns `last_hidden_state` (batch, num_tokens, hidden_dim) and `pooled` (batch, hidden_dim), the mean of the
    tokens' states, weighted by what a learned projection gives each.
    """

    Config = CCTConfig
    tasks = ("image_classification", "features")
    num_classes = 10

    def __init__(self, config: CCTConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.stem = self.add(
            ConvolutionalTokenizer,
            "stem",
            config.num_convolutions,
            config.kernel_size,
            config.stride,
            config.hidden_dim,
            config.convolution_dim,
            config.num_channels,
        )
        self.position_embedding = self.add(
            PositionEmbedding, "position_embedding", config.side**2, config.hidden_dim, initializer_stddev=0.2
        )
        self.dropout = self.add(keras.layers.Dropout, "dropout", config.dropout)
        self.blocks = self.add_blocks("block", norm_first=True)
        self.final_norm = self.add_norm("final_norm")
        self.pooler = self.add(keras.layers.Dense, "pooler", 1)

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Encode `pixel_values` (batch, image_size, image_size, num_channels), float32."""
        tokens = self.stem(inputs["pixel_values"])
        x = self.dropout(tokens + self.position_embedding(ops.arange(self.config.side**2)), training=training)
        hidden_states = [x]
        for block in self.blocks:
            x = block(x, training=training)
            hidden_states.append(x)
        x = self.final_norm(x)
        weights = ops.transpose(ops.softmax(self.pooler(x), axis=1), (0, 2, 1))
        pooled = ops.matmul(weights, x)[:, 0]
        return {"last_hidden_state": x, "pooled": pooled, "hidden_states": hidden_states}

    def signature(self) -> dict[str, InputSpec]:
        """Return the inputs by name."""
        return image_signature(self.config)


@register_model
def cct_2_3x2_32(**overrides: Any) -> TransformerModel:
    """2 layers, 128 wide, 2 heads, two 3x3 convolutions, for images of 32 pixels; 282,433 parameters."""
    config = CCTConfig(num_convolutions=2, hidden_dim=128, num_layers=2, num_heads=2, intermediate_dim=128)
    return build(CCT, config, **overrides)


@register_model
def cct_7_3x1_32(**overrides: Any) -> TransformerModel:
    """7 layers, 256 wide, 4 heads, one 3x3 convolution, for images of 32 pixels; 3,757,569 parameters."""
    return build(CCT, CCTConfig(), **overrides)


@register_model
def cct_7_7x2_224(**overrides: Any) -> TransformerModel:
    """7 layers, 256 wide, 4 heads, two 7x7 convolutions of stride 2; 4,547,521 parameters."""
    config = CCTConfig(image_size=224, kernel_size=7, stride=2, num_convolutions=2)
    return build(CCT, config, **overrides)
