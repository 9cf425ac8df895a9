"""Packages that only some tests need."""

from __future__ import annotations

import importlib
import importlib.util
import os
from types import ModuleType

import pytest


def require(module: str) -> ModuleType:
    """Import a package, or skip the test that asks for it; in CI (`CI=true`) its absence is a failure."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        reason = f"needs {module}: {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        return pytest.skip(reason)


def require_ray() -> None:
    """As `require`, without the import: kzoo makes Ray's settings before it imports it."""
    if importlib.util.find_spec("ray") is None:
        require("ray")
