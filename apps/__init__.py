"""Web pages and an HTTP service over bundles; neither needs a training framework.

Gradio and FastAPI are imported when a page or a service is made, not by `import kzoo.apps`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kzoo.errors import MissingDependencyError

if TYPE_CHECKING:
    from kzoo.apps.gallery import build_gallery, gallery_app, launch
    from kzoo.apps.ray_serving import Replicas, ray_server
    from kzoo.apps.service import create_app, serve
    from kzoo.apps.serving.limits import Limits
    from kzoo.apps.shelf import find_bundles

_HOMES = {
    "Limits": "serving.limits",
    "Replicas": "ray_serving",
    "build_gallery": "gallery",
    "create_app": "service",
    "find_bundles": "shelf",
    "gallery_app": "gallery",
    "launch": "gallery",
    "ray_server": "ray_serving",
    "serve": "service",
}
_EXTRAS = {
    "fastapi": "serve",
    "orjson": "serve",
    "prometheus_client": "serve",
    "uvicorn": "serve",
    "gradio": "apps",
}

__all__ = [
    "Limits",
    "Replicas",
    "build_gallery",
    "create_app",
    "find_bundles",
    "gallery_app",
    "launch",
    "ray_server",
    "serve",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kzoo.apps' has no attribute '{name}'")
    try:
        return getattr(importlib.import_module(f"kzoo.apps.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        raise MissingDependencyError(
            f"kzoo.apps.{name} needs {error.name}, which is not installed: "
            f"pip install 'kzoo[{_EXTRAS[error.name]}]'"
        ) from None


def __dir__() -> list[str]:
    return sorted(__all__)
