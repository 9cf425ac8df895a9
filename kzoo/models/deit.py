"""DeiT: data-efficient image Transformers, plain and distilled (Touvron et al., 2020).

The plain ones are ViTs by another training. The distilled ones have a second token, which learnt from a teacher.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from kzoo.models.base import TransformerModel
from kzoo.models.registry import build, register_model
from kzoo.models.vit import BASE, SMALL, TINY, ViT, ViTConfig


@dataclass(frozen=True)
class DeiTConfig(ViTConfig):
    """A distilled DeiT's numbers; the defaults are `deit_base_distilled_patch16_224`'s.

    With `distilled`, the class logits are the mean of two classifiers', one over each token, while training too;
    without, those over the class token alone.
    """

    distilled: bool = True


@keras.saving.register_keras_serializable("kzoo")
class DeiT(ViT):
    """Distilled vision Transformer (Touvron et al., 2020, section 4).

    Returns `last_hidden_state` (batch, 2 + num_patches, hidden_dim), `pooled` and `pooled_distillation`
    (batch, hidden_dim), the class token's state and the distillation token's.
    """

    Config = DeiTConfig
    tokens = ("class_token", "distillation_token")
    position_grids = {"position_embedding": 2}

    @property
    def distilled(self) -> bool:
        """Whether there is a classifier over the distillation token."""
        return self.config.distilled

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Encode `pixel_values` (batch, image_size, image_size, num_channels), float32."""
        features = super().call(inputs, training=training)
        return {**features, "pooled_distillation": features["last_hidden_state"][:, 1]}


def _distilled(config: ViTConfig) -> DeiTConfig:
    return DeiTConfig(**vars(config))


@register_model
def deit_tiny_patch16_224(**overrides: Any) -> TransformerModel:
    """12 layers, 192 wide, 3 heads; 5,524,416 parameters."""
    return build(ViT, TINY, **overrides)


@register_model
def deit_small_patch16_224(**overrides: Any) -> TransformerModel:
    """12 layers, 384 wide, 6 heads; 21,665,664 parameters."""
    return build(ViT, SMALL, **overrides)


@register_model
def deit_base_patch16_224(**overrides: Any) -> TransformerModel:
    """12 layers, 768 wide, 12 heads; 85,798,656 parameters."""
    return build(ViT, BASE, **overrides)


@register_model
def deit_tiny_distilled_patch16_224(**overrides: Any) -> TransformerModel:
    """12 layers, 192 wide, 3 heads, distilled; 5,524,800 parameters."""
    return build(DeiT, _distilled(TINY), **overrides)


@register_model
def deit_small_distilled_patch16_224(**overrides: Any) -> TransformerModel:
    """12 layers, 384 wide, 6 heads, distilled; 21,666,432 parameters."""
    return build(DeiT, _distilled(SMALL), **overrides)


@register_model
def deit_base_distilled_patch16_224(**overrides: Any) -> TransformerModel:
    """12 layers, 768 wide, 12 heads, distilled; 85,800,192 parameters."""
    return build(DeiT, DeiTConfig(), **overrides)
