"""Watch how much memory a process and its children hold beside what they map from files."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parent.parent
only_on_linux = pytest.mark.skipif(
    not pathlib.Path("/proc/self/status").is_file(), reason="only Linux tells anonymous memory"
)


class Growth:
    """How far a process has grown, its children with it, in bytes."""

    peak = 0


@contextlib.contextmanager
def watched() -> Iterator[Growth]:
    """Note the most anonymous memory that this process and its children take while the block runs, beyond before."""
    growth, before, done = Growth(), _anonymous(), threading.Event()

    def watch() -> None:
        while not done.is_set():
            growth.peak = max(growth.peak, _anonymous() - before)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield growth
    finally:
        done.set()
        watcher.join()
        growth.peak = max(growth.peak, _anonymous() - before)


def run_watched(code: str, *arguments: object) -> str:
    """Run a script, which may import this file, in a process of its own, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"MALLOC_ARENA_MAX": "2"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _anonymous() -> int:
    own = pathlib.Path("/proc/self")
    # Before it runs a program of its own, a child shows its parent's memory.
    others = [
        child for child in _descendants(own) if _read(child / "cmdline") not in ("", _read(own / "cmdline"))
    ]
    return sum(_anonymous_of(process) for process in (own, *others))


def _anonymous_of(process: pathlib.Path) -> int:
    _, _, rest = _read(process / "status").partition("RssAnon:")
    return int(rest.split()[0]) * 1024 if rest else 0


def _descendants(process: pathlib.Path) -> Iterator[pathlib.Path]:
    for task in (process / "task").glob("*"):
        for child in _read(task / "children").split():
            yield pathlib.Path("/proc", child)
            yield from _descendants(pathlib.Path("/proc", child))


def _read(file: pathlib.Path) -> str:
    try:
        return file.read_text()
    except OSError:
        # The process has ended.
        return ""
