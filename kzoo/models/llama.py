"""Llama and its kin: decoders with rotary positions, RMS norms, gated feed-forward and grouped queries."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import keras

from kzoo.errors import KzooError
from kzoo.layers import RotaryScaling, rotary_rotation
from kzoo.models.backbone import Config
from kzoo.models.base import TransformerModel
from kzoo.models.decoder_only import DecoderOnly
from kzoo.models.registry import build, register_model


@dataclass(frozen=True)
class LlamaConfig(Config):
    """Llama's numbers; the defaults are `llama_3_2_1b`'s, but for the scaling of its rotary positions.

    `use_bias` is the feed-forward network's; `rotary_theta` and `rotary_scaling` are those of
    `kzoo.layers.rotary_rotation`. With a `window`, a token sees that many at most, itself included, in the blocks
    from number `window_from_layer` on, in all unless given.
    """

    vocab_size: int = 128_256
    hidden_dim: int = 2048
    num_layers: int = 16
    num_heads: int = 32
    num_key_value_heads: int = 8
    head_dim: int | None = None
    intermediate_dim: int = 8192
    max_positions: int = 131_072
    activation: str = "silu"
    gated: bool = True
    norm: str = "rms"
    layer_norm_epsilon: float = 1e-5
    rotary_theta: float = 500_000.0
    rotary_scaling: RotaryScaling | dict[str, Any] | None = None
    window: int | None = None
    window_from_layer: int | None = None
    use_bias: bool = False
    attention_bias: bool = False
    attention_output_bias: bool = False
    tie_embeddings: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse heads that cannot turn, and read a scaling that stands as a dict."""
        super().__post_init__()
        if self.rotary_width % 2:
            raise KzooError(f"Heads are {self.rotary_width} wide: rotary positions turn pairs of channels.")
        if isinstance(self.rotary_scaling, dict):
            known = {field.name for field in dataclasses.fields(RotaryScaling)}
            if not {"kind", "factor"} <= set(self.rotary_scaling) <= known:
                raise KzooError(
                    f"rotary_scaling={self.rotary_scaling} is no scaling: it has kind and factor, and of "
                    f"{', '.join(sorted(known - {'kind', 'factor'}))} what the kind needs."
                )
            object.__setattr__(self, "rotary_scaling", RotaryScaling(**self.rotary_scaling))

    @property
    def rotary_width(self) -> int:
        """Width of a head."""
        return self.head_dim or self.hidden_dim // self.num_heads


@keras.saving.register_keras_serializable("kzoo")
class Llama(DecoderOnly):
    """Llama decoder (Touvron et al., 2023, section 2.2; Grattafiori et al., 2024, section 3.2).

    Qwen2 (Yang et al., 2024, section 2.2), which has biases on queries, keys and values, and Mistral (Jiang et al.,
    2023, section 2), which has a window, are it too.

    Returns `last_hidden_state` (batch, sequence, hidden_dim) and `pooled` (batch, hidden_dim), the last token's.
    """

    Config = LlamaConfig

    def rotation(self, positions: Any) -> Any:
        """Return what turns queries and keys by their positions."""
        config = self.config
        return rotary_rotation(positions, config.rotary_width, config.rotary_theta, config.rotary_scaling)

    def windows(self) -> list[int | None]:
        """Return for each block how many tokens a token sees at most; None for all."""
        first = self.config.window_from_layer or 0
        return [self.config.window if layer >= first else None for layer in range(self.config.num_layers)]


@register_model
def llama_micro(**overrides: Any) -> TransformerModel:
    """4 layers, 128 wide, 4 heads over 2 of keys and values, 8,000 tokens; 1,762,432 parameters.

    Small enough to train on a processor; no published model has this shape.
    """
    config = LlamaConfig(
        vocab_size=8_000,
        hidden_dim=128,
        num_layers=4,
        num_heads=4,
        num_key_value_heads=2,
        intermediate_dim=352,
        max_positions=512,
        rotary_theta=10_000.0,
    )
    return build(Llama, config, **overrides)


@register_model
def llama_3_2_1b(**overrides: Any) -> TransformerModel:
    """16 layers, 2048 wide, 32 heads over 8 of keys and values; 1,235,814,400 parameters."""
    scaling = RotaryScaling(
        "llama3",
        factor=32.0,
        low_frequency_factor=1.0,
        high_frequency_factor=4.0,
        original_max_positions=8192,
    )
    return build(Llama, LlamaConfig(rotary_scaling=scaling), **overrides)


@register_model
def tinyllama_1_1b(**overrides: Any) -> TransformerModel:
    """22 layers, 2048 wide, 32 heads over 4 of keys and values; 1,034,512,384 parameters.

    The output projection, which is not the embedding table, has another 65,536,000.
    """
    config = LlamaConfig(
        vocab_size=32_000,
        num_layers=22,
        num_key_value_heads=4,
        intermediate_dim=5632,
        max_positions=2048,
        rotary_theta=10_000.0,
        tie_embeddings=False,
    )
    return build(Llama, config, **overrides)


@register_model
def qwen2_0_5b(**overrides: Any) -> TransformerModel:
    """24 layers, 896 wide, 14 heads over 2 of keys and values, which have biases; 494,032,768 parameters."""
    config = LlamaConfig(
        vocab_size=151_936,
        hidden_dim=896,
        num_layers=24,
        num_heads=14,
        num_key_value_heads=2,
        intermediate_dim=4864,
        layer_norm_epsilon=1e-6,
        rotary_theta=1_000_000.0,
        attention_bias=True,
    )
    return build(Llama, config, **overrides)
