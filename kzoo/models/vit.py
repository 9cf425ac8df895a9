"""ViT: the vision Transformer (Dosovitskiy et al., 2020)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
from keras import ops

from kzoo.errors import KzooError
from kzoo.layers import PatchEmbedding, PositionEmbedding
from kzoo.models.backbone import Backbone, Config, InputSpec
from kzoo.models.base import TransformerModel
from kzoo.models.registry import build, register_model


@dataclass(frozen=True)
class ImageConfig(Config):
    """The numbers that every architecture for square images has."""

    image_size: int = 224
    num_channels: int = 3
    activation: str = "gelu"
    layer_norm_epsilon: float = 1e-6
    dropout: float = 0.0
    attention_dropout: float = 0.0
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        """Refuse images that are neither grey nor RGB."""
        super().__post_init__()
        if self.num_channels not in (1, 3):
            raise KzooError(f"num_channels={self.num_channels}: images are grey (1) or RGB (3).")


@dataclass(frozen=True)
class ViTConfig(ImageConfig):
    """ViT's numbers; the defaults are `vit_base_patch16_224`'s.

    `attention_bias` is the ecosystem's `qkv_bias`. With `embedding_norm`, patches have no bias, and what enters
    the first block is normalised, as in CLIP.
    """

    patch_size: int = 16
    hidden_dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_dim: int = 3072
    attention_bias: bool = True
    layer_scale: float | None = None
    embedding_norm: bool = False

    def __post_init__(self) -> None:
        """Refuse an image that is not a whole number of patches."""
        super().__post_init__()
        if self.image_size % self.patch_size:
            raise KzooError(
                f"image_size={self.image_size} is not a multiple of patch_size={self.patch_size}: "
                "change one of them."
            )


@keras.saving.register_keras_serializable("kzoo")
class ViT(Backbone):
    """Vision Transformer (Dosovitskiy et al., 2020, section 3.1).

    Returns `last_hidden_state` (batch, 1 + num_patches, hidden_dim) and `pooled` (batch, hidden_dim), the class
    token's state.
    """

    Config = ViTConfig
    tasks = ("image_classification", "features")
    num_classes = 1000
    tokens: ClassVar[tuple[str, ...]] = ("class_token",)
    position_grids = {"position_embedding": 1}

    def __init__(self, config: ViTConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        num_patches = (config.image_size // config.patch_size) ** 2
        self.patches = self.add(
            PatchEmbedding,
            "patches",
            config.patch_size,
            config.hidden_dim,
            config.num_channels,
            use_bias=not config.embedding_norm,
        )
        self.extra_tokens = [self.add(PositionEmbedding, name, 1, config.hidden_dim) for name in self.tokens]
        self.position_embedding = self.add(
            PositionEmbedding, "position_embedding", len(self.tokens) + num_patches, config.hidden_dim
        )
        self.dropout = self.add(keras.layers.Dropout, "dropout", config.dropout)
        self.embedding_norm: Any = self.add_norm("embedding_norm") if config.embedding_norm else None
        self.blocks = self.add_blocks("block", norm_first=True)
        self.final_norm = self.add_norm("final_norm")

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Encode `pixel_values` (batch, image_size, image_size, num_channels), float32."""
        patches = self.patches(inputs["pixel_values"])
        first = ops.zeros((ops.shape(patches)[0], 1), dtype="int32")
        x = ops.concatenate([*(token(first) for token in self.extra_tokens), patches], axis=1)
        x = self.dropout(x + self.position_embedding(ops.arange(ops.shape(x)[1])), training=training)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        hidden_states = [x]
        for block in self.blocks:
            x = block(x, training=training)
            hidden_states.append(x)
        x = self.final_norm(x)
        return {"last_hidden_state": x, "pooled": x[:, 0], "hidden_states": hidden_states}

    def signature(self) -> dict[str, InputSpec]:
        """Return the inputs by name."""
        return image_signature(self.config)


def image_signature(config: ImageConfig, batch: str = "batch") -> dict[str, InputSpec]:
    """Return the one input of a backbone for images; its first dimension is called `batch`."""
    size = config.image_size
    return {"pixel_values": InputSpec((batch, size, size, config.num_channels), "float32")}


TINY = ViTConfig(hidden_dim=192, num_heads=3, intermediate_dim=768)
SMALL = ViTConfig(hidden_dim=384, num_heads=6, intermediate_dim=1536)
BASE = ViTConfig()
_LARGE = ViTConfig(hidden_dim=1024, num_layers=24, num_heads=16, intermediate_dim=4096)


@register_model
def vit_micro_patch4_32(**overrides: Any) -> TransformerModel:
    """6 layers, 128 wide, 4 heads, for images of 32 pixels; 1,204,608 parameters."""
    config = ViTConfig(
        image_size=32, patch_size=4, hidden_dim=128, num_layers=6, num_heads=4, intermediate_dim=512
    )
    return build(ViT, config, **overrides)


@register_model
def vit_tiny_patch16_224(**overrides: Any) -> TransformerModel:
    """12 layers, 192 wide, 3 heads; 5,524,416 parameters."""
    return build(ViT, TINY, **overrides)


@register_model
def vit_small_patch16_224(**overrides: Any) -> TransformerModel:
    """12 layers, 384 wide, 6 heads; 21,665,664 parameters."""
    return build(ViT, SMALL, **overrides)


@register_model
def vit_small_patch32_224(**overrides: Any) -> TransformerModel:
    """12 layers, 384 wide, 6 heads, patches of 32 pixels; 22,493,952 parameters."""
    return build(ViT, dataclasses.replace(SMALL, patch_size=32), **overrides)


@register_model
def vit_base_patch16_224(**overrides: Any) -> TransformerModel:
    """12 layers, 768 wide, 12 heads; 85,798,656 parameters."""
    return build(ViT, BASE, **overrides)


@register_model
def vit_base_patch16_384(**overrides: Any) -> TransformerModel:
    """12 layers, 768 wide, 12 heads, for images of 384 pixels; 86,090,496 parameters."""
    return build(ViT, dataclasses.replace(BASE, image_size=384), **overrides)


@register_model
def vit_base_patch32_224(**overrides: Any) -> TransformerModel:
    """12 layers, 768 wide, 12 heads, patches of 32 pixels; 87,455,232 parameters."""
    return build(ViT, dataclasses.replace(BASE, patch_size=32), **overrides)


@register_model
def vit_base_patch32_384(**overrides: Any) -> TransformerModel:
    """12 layers, 768 wide, 12 heads, patches of 32 pixels, for images of 384; 87,528,192 parameters."""
    return build(ViT, dataclasses.replace(BASE, patch_size=32, image_size=384), **overrides)


@register_model
def vit_large_patch16_224(**overrides: Any) -> TransformerModel:
    """24 layers, 1024 wide, 16 heads; 303,301,632 parameters."""
    return build(ViT, _LARGE, **overrides)


@register_model
def vit_large_patch16_384(**overrides: Any) -> TransformerModel:
    """24 layers, 1024 wide, 16 heads, for images of 384 pixels; 303,690,752 parameters."""
    return build(ViT, dataclasses.replace(_LARGE, image_size=384), **overrides)


@register_model
def vit_large_patch32_224(**overrides: Any) -> TransformerModel:
    """24 layers, 1024 wide, 16 heads, patches of 32 pixels; 305,510,400 parameters."""
    return build(ViT, dataclasses.replace(_LARGE, patch_size=32), **overrides)


@register_model
def vit_large_patch32_384(**overrides: Any) -> TransformerModel:
    """24 layers, 1024 wide, 16 heads, patches of 32 pixels, for images of 384; 305,607,680 parameters."""
    return build(ViT, dataclasses.replace(_LARGE, patch_size=32, image_size=384), **overrides)


@register_model
def vit_huge_patch14_224(**overrides: Any) -> TransformerModel:
    """32 layers, 1280 wide, 16 heads, patches of 14 pixels; 630,764,800 parameters."""
    config = ViTConfig(patch_size=14, hidden_dim=1280, num_layers=32, num_heads=16, intermediate_dim=5120)
    return build(ViT, config, **overrides)
