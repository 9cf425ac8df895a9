"""Transformers in Keras 3, and a way out: a verified, fast ONNX bundle that runs without Keras.

Importing this package loads no framework: names resolve on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kzoo.errors import KzooError

if TYPE_CHECKING:
    from kzoo import (
        apps,
        bulk,
        client,
        data,
        explanation,
        export,
        layers,
        models,
        recipes,
        runtime,
        text,
        training,
        vision,
    )
    from kzoo.runtime import load

__version__ = "0.1.0"

_MODULES = frozenset(
    {
        "apps",
        "bulk",
        "client",
        "data",
        "explanation",
        "export",
        "layers",
        "models",
        "recipes",
        "runtime",
        "text",
        "training",
        "vision",
    }
)

__all__ = [
    "KzooError",
    "__version__",
    "apps",
    "bulk",
    "client",
    "data",
    "explanation",
    "export",
    "layers",
    "load",
    "models",
    "recipes",
    "runtime",
    "text",
    "training",
    "vision",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"kzoo.{name}")
    if name == "load":
        return importlib.import_module("kzoo.runtime").load
    raise AttributeError(f"module 'kzoo' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
