"""Rotary positions (Su et al., 2021, section 3.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from kzoo.errors import KzooError


@dataclass(frozen=True)
class RotaryScaling:
    """How frequencies are stretched so that a model reads longer texts than it was trained on.

    Args:
        kind: `"linear"` divides every frequency by `factor`; `"llama3"` divides the low ones, leaves the high ones,
            and goes over smoothly between them (Grattafiori et al., 2024, section 3.2, and the published code).
        factor: how many times longer.
        low_frequency_factor: with `"llama3"`: waves longer than `original_max_positions` over this are low.
        high_frequency_factor: with `"llama3"`: waves shorter than `original_max_positions` over this are high.
        original_max_positions: with `"llama3"`: the length in tokens that the model was first trained on.

    Raises:
        KzooError: an unknown kind, or numbers that are missing or not the kind's.
    """

    kind: str
    factor: float
    low_frequency_factor: float | None = None
    high_frequency_factor: float | None = None
    original_max_positions: int | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown kind, and numbers that do not belong to it."""
        if self.kind not in ("linear", "llama3"):
            raise KzooError(f"Unknown rotary scaling '{self.kind}': kzoo has linear and llama3.")
        for name in ("low_frequency_factor", "high_frequency_factor", "original_max_positions"):
            if (getattr(self, name) is None) == (self.kind == "llama3"):
                needed = "needs" if self.kind == "llama3" else "has no"
                raise KzooError(f"The rotary scaling '{self.kind}' {needed} {name}.")

    def apply(self, frequencies: np.ndarray) -> np.ndarray:
        """Return the stretched frequencies, radians a token."""
        low, high, length = self.low_frequency_factor, self.high_frequency_factor, self.original_max_positions
        if low is None or high is None or length is None:
            return frequencies / self.factor
        waves = length * frequencies / (2 * math.pi)
        kept = np.clip((waves - low) / (high - low), 0.0, 1.0)
        return kept * frequencies + (1 - kept) * frequencies / self.factor


def rotary_rotation(
    positions: Any, head_dim: int, theta: float = 10_000.0, scaling: RotaryScaling | None = None
) -> tuple[Any, Any]:
    """Return the cosines and sines that `rotate` takes, float32 (batch, length, head_dim / 2) each.

    Args:
        positions: int32 (batch, length), or (1, length) for positions that all rows share.
        head_dim: width of a head, an even number.
        theta: base of the wavelengths.
        scaling: how the frequencies are stretched, if they are.
    """
    frequencies = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    if scaling is not None:
        frequencies = scaling.apply(frequencies)
    angles = ops.multiply(ops.expand_dims(ops.cast(positions, "float32"), 2), frequencies.astype("float32"))
    return ops.cos(angles), ops.sin(angles)


def rotate(x: Any, rotation: tuple[Any, Any]) -> Any:
    """Turn queries or keys (batch, num_heads, length, head_dim) by `rotary_rotation`'s result.

    A channel of the first half turns with the one half a head further on.
    """
    cosines, sines = (ops.expand_dims(ops.cast(part, x.dtype), 1) for part in rotation)
    first, second = ops.split(x, 2, axis=-1)
    return ops.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)
