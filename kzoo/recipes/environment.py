"""What a run was made with: command, programs, machine."""

from __future__ import annotations

import datetime
import platform
import shlex
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kzoo.runtime.machine import describe_processor


def describe_environment(command: str) -> dict[str, Any]:
    """Return the command, when it began, and on what: backend, hardware, versions."""
    import keras

    backend = keras.backend.backend()
    packages = ("kzoo", "keras", backend, "numpy", "onnxruntime-gpu", "onnxruntime")
    return {
        "command": command,
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "backend": backend,
        "hardware": _hardware(backend),
        "versions": {"python": platform.python_version()}
        | {name: found for name in packages if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _hardware(backend: str) -> str:
    """Return processor and accelerators in words."""
    return ", ".join([describe_processor(), *_accelerators(backend)])


def _accelerators(backend: str) -> list[str]:
    if backend == "torch":
        import torch

        return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    import keras

    return [name for name in keras.distribution.list_devices() if not name.lower().startswith("cpu")]


def train_command(recipe: Path, overrides: Sequence[str], program: str = "train") -> str:
    """Return what makes the model again, or what else a program of kzoo makes of a file.

    The file's path is as seen from the current folder.
    """
    here, there = Path.cwd(), recipe.resolve()
    name = there.relative_to(here).as_posix() if there.is_relative_to(here) else recipe.name
    return shlex.join(
        ["kzoo", program, name, *(part for override in overrides for part in ("--set", override))]
    )
