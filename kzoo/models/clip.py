"""CLIP: a text tower and a vision tower that meet in one space (Radford et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.errors import KzooError
from kzoo.models.backbone import Backbone, InputSpec
from kzoo.models.base import TransformerModel
from kzoo.models.gpt2 import GPT2, GPT2Config
from kzoo.models.registry import build, register_model
from kzoo.models.vit import ImageConfig, ViT, ViTConfig, image_signature
from kzoo.text import Tokenizer


@dataclass(frozen=True)
class CLIPConfig(ImageConfig):
    """CLIP's numbers; the defaults are `clip_base_patch32`'s. Those without `vision_` are the text tower's.

    A text's vector is read off at its first `end_id`; if that is None, at its highest token id, which is the same
    with the published tokenizer.
    """

    vocab_size: int = 49_408
    max_positions: int = 77
    hidden_dim: int = 512
    num_layers: int = 12
    num_heads: int = 8
    intermediate_dim: int = 2048
    activation: str = "gelu_quick"
    layer_norm_epsilon: float = 1e-5
    end_id: int | None = None
    patch_size: int = 32
    vision_hidden_dim: int = 768
    vision_num_layers: int = 12
    vision_num_heads: int = 12
    vision_intermediate_dim: int = 3072
    vision_activation: str = "gelu_quick"
    vision_layer_norm_epsilon: float = 1e-5
    vision_attention_dropout: float = 0.0
    projection_dim: int = 512

    def __post_init__(self) -> None:
        """Refuse what either tower refuses."""
        super().__post_init__()
        self.text()
        self.vision()

    def text(self) -> GPT2Config:
        """Return the text tower's numbers."""
        return GPT2Config(
            vocab_size=self.vocab_size,
            max_positions=self.max_positions,
            hidden_dim=self.hidden_dim,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            intermediate_dim=self.intermediate_dim,
            activation=self.activation,
            layer_norm_epsilon=self.layer_norm_epsilon,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
        )

    def vision(self) -> ViTConfig:
        """Return the vision tower's numbers."""
        return ViTConfig(
            image_size=self.image_size,
            patch_size=self.patch_size,
            num_channels=self.num_channels,
            hidden_dim=self.vision_hidden_dim,
            num_layers=self.vision_num_layers,
            num_heads=self.vision_num_heads,
            intermediate_dim=self.vision_intermediate_dim,
            activation=self.vision_activation,
            layer_norm_epsilon=self.vision_layer_norm_epsilon,
            dropout=self.dropout,
            attention_dropout=self.vision_attention_dropout,
            drop_path=self.drop_path,
            embedding_norm=True,
        )


@keras.saving.register_keras_serializable("kzoo")
class CLIPText(GPT2):
    """CLIP's text tower, a GPT-2 whose positions count padding too (Radford et al., 2021, section 2.4)."""

    def embed(self, input_ids: Any, positions: Any) -> Any:
        """Return the sum of tokens' and positions' vectors (batch, sequence, hidden_dim)."""
        return super().embed(input_ids, ops.arange(ops.shape(input_ids)[1]))


@keras.saving.register_keras_serializable("kzoo")
class CLIP(Backbone):
    """Contrastive language-image model (Radford et al., 2021, section 2.4).

    Called on texts, on images, or on both, of which there may be different numbers. Returns for the texts
    `text_embeds` (texts, projection_dim), `last_hidden_state` (texts, sequence, hidden_dim) and `pooled`
    (texts, hidden_dim); for the images `image_embeds` (images, projection_dim), `vision_last_hidden_state`
    (images, 1 + num_patches, vision_hidden_dim) and `vision_pooled` (images, vision_hidden_dim).
    """

    Config = CLIPConfig
    tasks = ("image_text_similarity", "features")
    position_grids = {"vision/position_embedding": 1}

    def __init__(self, config: CLIPConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.text = self.add(CLIPText, "text", config.text())
        self.vision = self.add(ViT, "vision", config.vision())
        self.text_projection, self.vision_projection = (
            self.add(keras.layers.Dense, f"{name}_projection", config.projection_dim, use_bias=False)
            for name in ("text", "vision")
        )

    def build(self, input_shape: Any = None) -> None:
        """Create all weights."""
        if not self.vision_projection.built:
            self.vision_projection.build((None, self.config.vision_hidden_dim))
        super().build(input_shape)

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Encode `input_ids` (texts, sequence), `pixel_values` (images, size, size, num_channels), or both."""
        features: dict[str, Any] = {}
        if "input_ids" in inputs:
            text = self.text(inputs, training=training)
            pooled = self._at_the_end(inputs["input_ids"], text["last_hidden_state"])
            features = {**text, "pooled": pooled, "text_embeds": self.text_projection(pooled)}
        if "pixel_values" in inputs:
            vision = self.vision(inputs, training=training)
            features |= {
                # As published: the last norm is for what is pooled alone.
                "vision_last_hidden_state": vision["hidden_states"][-1],
                "vision_pooled": vision["pooled"],
                "vision_hidden_states": vision["hidden_states"],
                "image_embeds": self.vision_projection(vision["pooled"]),
            }
        if not features:
            raise KzooError("CLIP was given neither input_ids nor pixel_values.")
        return features

    def _at_the_end(self, input_ids: Any, states: Any) -> Any:
        ids = ops.cast(input_ids, "int32")
        if self.config.end_id is not None:
            ids = ops.cast(ops.equal(ids, self.config.end_id), "int32")
        ends = ops.reshape(ops.argmax(ids, axis=1), (-1, 1, 1))
        return ops.take_along_axis(states, ends, axis=1)[:, 0]

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Refuse a tokenizer that ends texts with another token than the one at which their vectors are read off."""
        end, expected = tokenizer.end_id, self.config.end_id
        if end not in (None, tokenizer.vocab_size - 1 if expected is None else expected):
            told = "its highest token id" if expected is None else f"its first end_id={expected}"
            raise KzooError(
                f"The model reads a text's vector off at {told}, but the tokenizer ends texts with {end}: build the "
                f"model with end_id={end}."
            )

    def signature(self) -> dict[str, InputSpec]:
        """Return the inputs by name."""
        tokens = InputSpec(("texts", "sequence"), "int64")
        return {"input_ids": tokens, "attention_mask": tokens, **image_signature(self.config, "images")}


@register_model
def clip_base_patch32(**overrides: Any) -> TransformerModel:
    """12 + 12 layers, 512 and 768 wide, 8 and 12 heads; 151,277,312 parameters."""
    return build(CLIP, CLIPConfig(), **overrides)


@register_model
def clip_base_patch16(**overrides: Any) -> TransformerModel:
    """12 + 12 layers, 512 and 768 wide, 8 and 12 heads, patches of 16 pixels; 149,620,736 parameters."""
    return build(CLIP, CLIPConfig(patch_size=16), **overrides)
