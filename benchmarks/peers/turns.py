"""What the workers of `benchmarks/translate.py` share: they take turns, told to by lines of JSON on their input."""

from __future__ import annotations

import json
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Case(NamedTuple):
    """What is translated, and how."""

    texts: list[str]
    batch_size: int
    beams: int
    steps: int | None
    one_by_one: bool
    threads: int

    @classmethod
    def read(cls, path: str) -> Case:
        """Read a case that `benchmarks/translate.py` wrote."""
        return cls(**json.loads(pathlib.Path(path).read_text(encoding="utf-8")))


def serve(case: Case, translate: Callable[[list[str]], Sequence[str]], versions: dict[str, str]) -> None:
    """Translate once for each line that comes in, and say how long it took; at the end of input, with what memory.

    Args:
        case: what to translate.
        translate: gives as many texts as it is given, those of the case or one of them.
        versions: of what is measured, by name.
    """
    answer(versions=versions)
    for _ in sys.stdin:
        batches = [[text] for text in case.texts] if case.one_by_one else [case.texts]
        seconds, results = [], []
        for batch in batches:
            started = time.perf_counter()
            results += translate(batch)
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
