"""Activation functions by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from keras import ops

from kzoo.errors import KzooError, did_you_mean

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": ops.relu,
    # Hendrycks and Gimpel, 2016: x times the normal distribution function, written with erf.
    "gelu": functools.partial(ops.gelu, approximate=False),
    "gelu_tanh": functools.partial(ops.gelu, approximate=True),
}


def activation(name: str) -> Callable[[Any], Any]:
    """Return the activation called `name`.

    Raises:
        KzooError: there is none of that name.
    """
    if name not in ACTIVATIONS:
        raise KzooError(f"Unknown activation '{name}'.{did_you_mean(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]
