"""What the engines of `benchmarks/engines.py` share: they take turns, told to by lines on their input."""

from __future__ import annotations

import json
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Case(NamedTuple):
    """What is worked on, and how."""

    texts: list[str]
    batch_size: int
    threads: int
    one_by_one: bool = False
    beams: int = 1
    steps: int | None = None

    @classmethod
    def read(cls, path: str) -> Case:
        """Read a case that `write_case` wrote."""
        return cls(**json.loads(pathlib.Path(path).read_text(encoding="utf-8")))


def serve(case: Case, work: Callable[[list[str]], Sequence[str]], versions: dict[str, str]) -> None:
    """Work on a case's texts once for each line that comes in, and say how long it took and with what memory.

    Args:
        case: what to work on.
        work: gives as many texts or labels as it is given texts, those of the case or one of them.
        versions: of what is measured, by name.
    """
    answer(versions=versions)
    for _ in sys.stdin:
        batches = [[text] for text in case.texts] if case.one_by_one else [case.texts]
        seconds, results = [], []
        for batch in batches:
            started = time.perf_counter()
            results += work(batch)
            seconds.append(time.perf_counter() - started)
        answer(seconds=seconds, results=results, megabytes=peak_megabytes())


def answer(**fields: Any) -> None:
    """Write one line of JSON."""
    print(json.dumps(fields), flush=True)


def peak_megabytes() -> float:
    """Return the most memory that this process has held."""
    # What getrusage says begins with the memory of the process that started this one.
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
