"""Watch how much memory a process holds beside what it maps from files."""

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
    """How far a process has grown, in bytes."""

    peak = 0


@contextlib.contextmanager
def watched() -> Iterator[Growth]:
    """Note the most anonymous memory that this process takes while the block runs, beyond before."""
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
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024
