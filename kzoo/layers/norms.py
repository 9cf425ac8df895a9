"""Normalizations by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from kzoo.errors import KzooError, did_you_mean

NORMS: dict[str, Callable[..., keras.layers.Layer]] = {
    # Ba et al., 2016.
    "layer": keras.layers.LayerNormalization,
    # Zhang and Sennrich, 2019: no mean, no shift.
    "rms": keras.layers.RMSNormalization,
}


def norm(kind: str, epsilon: float, **kwargs: Any) -> keras.layers.Layer:
    """Return a normalization of the last axis.

    Args:
        kind: one of `NORMS`.
        epsilon: added to the variance, or to the mean square.
        **kwargs: as for any Keras layer.

    Raises:
        KzooError: there is none of that kind.
    """
    if kind not in NORMS:
        raise KzooError(f"Unknown norm '{kind}'.{did_you_mean(kind, NORMS)}")
    return NORMS[kind](epsilon=epsilon, **kwargs)
