"""Activation functions by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from keras import ops

from kzoo.errors import KzooError, did_you_mean


def _gelu_quick(x: Any) -> Any:
    """Hendrycks and Gimpel, 2016, section 2: the sigmoid approximation."""
    return x * ops.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": ops.relu,
    # Hendrycks and Gimpel, 2016: x times the normal distribution function, written with erf.
    "gelu": functools.partial(ops.gelu, approximate=False),
    "gelu_tanh": functools.partial(ops.gelu, approximate=True),
    "gelu_quick": _gelu_quick,
    "silu": ops.silu,
    "tanh": ops.tanh,
}


def activation(name: str) -> Callable[[Any], Any]:
    """Return the activation called `name`.

    Raises:
        KzooError: there is none of that name.
    """
    if name not in ACTIVATIONS:
        raise KzooError(f"Unknown activation '{name}'.{did_you_mean(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]
