"""The machine in words, for what was measured on it."""

from __future__ import annotations

import platform
from pathlib import Path

from kzoo.runtime.lanes import cores


def describe_processor() -> str:
    """Return the processor's name and how many of its cores this process may use, such as "AMD EPYC, 2 cores"."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = names[0] if names else name
    return f"{name}, {cores()} cores"
