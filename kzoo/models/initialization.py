"""Variables that begin with a checkpoint's values, and never with random ones that are then thrown away."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras

# Gives values, from a shape and a dtype.
Initializer = Callable[..., Any]
_source: contextvars.ContextVar[Callable[[Any], Mapping[str, Initializer]] | None] = contextvars.ContextVar(
    "initializers", default=None
)


def variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Return a model's variables by their path below its name."""
    return {variable.path.removeprefix(f"{model.name}/"): variable for variable in model.weights}


@contextlib.contextmanager
def initialized_by(source: Callable[[Any], Mapping[str, Initializer]]) -> Iterator[None]:
    """Let the model that is built inside the block take values from `source`.

    Args:
        source: called with the model when it has all its variables and none of them a value; returns initializers
            by the variables' paths below the model's name. The other variables begin as they always do.
    """
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)


@contextlib.contextmanager
def initialization(model: keras.Model) -> Iterator[None]:
    """Let `source`, if there is one, say what the variables that are made inside the block begin with."""
    source = _source.get()
    if source is None:
        yield
        return
    # Inside this scope Keras makes variables without values; on leaving it, it calls their initializers.
    with keras.StatelessScope():
        yield
        by_path = variables(model)
        for path, initializer in source(model).items():
            by_path[path]._initializer = initializer
