"""Engines in processes of their own that take turns: what the benchmarks that have peers share."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import statistics
import subprocess
from collections.abc import Iterator
from typing import Any

import numpy as np

PEERS = pathlib.Path(__file__).parent / "peers"


class Worker:
    """An engine's process."""

    def __init__(self, python: str, script: str, *arguments: Any, threads: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [python, str(PEERS / f"{script}.py"), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.versions: dict[str, str] = self._answer()["versions"]

    def run(self) -> dict[str, Any]:
        """Take one turn: `seconds` of each batch, `results`, and the most `megabytes` so far."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(
            f"A worker ended with {self.process.wait()}: {' '.join(map(str, self.process.args))}"
        )


def run_once(python: str, script: str, *arguments: Any) -> None:
    """Run a script that takes no turns."""
    command = [python, str(PEERS / f"{script}.py"), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{result.stderr[-2000:]}")


@contextlib.contextmanager
def working(workers: dict[str, Worker]) -> Iterator[dict[str, Worker]]:
    """End the workers when the block ends."""
    try:
        yield workers
    finally:
        for worker in workers.values():
            assert worker.process.stdin is not None
            worker.process.stdin.close()
            worker.process.wait()


class Turns:
    """What the engines did in turn."""

    def __init__(self, workers: dict[str, Worker], turns: int) -> None:
        self.seconds: dict[str, list[list[float]]] = {name: [] for name in workers}
        self.last: dict[str, dict[str, Any]] = {}
        order = np.random.default_rng(0)
        for turn in range(turns + 1):
            for name in order.permutation(list(workers)):
                answer = workers[name].run()
                if turn:  # the first warms up
                    self.seconds[name].append(answer["seconds"])
                self.last[name] = answer

    def total(self, name: str) -> list[float]:
        """Return the seconds of each turn."""
        return [sum(seconds) for seconds in self.seconds[name]]

    def median(self, name: str) -> list[float]:
        """Return the median of a sentence's seconds in each turn."""
        return [statistics.median(seconds) for seconds in self.seconds[name]]

    def megabytes(self, name: str) -> float:
        """Return the most memory that an engine held."""
        return self.last[name]["megabytes"]

    def agreeing(self, one: str, other: str) -> float:
        """Return for how many of the texts two engines give the same."""
        pairs = list(zip(self.last[one]["results"], self.last[other]["results"], strict=True))
        return sum(first == second for first, second in pairs) / len(pairs)


def write_case(folder: pathlib.Path, **fields: Any) -> pathlib.Path:
    """Write what engines are to work on, and how: the fields of `peers/turns.py`'s cases."""
    path = folder / f"case_{len(list(folder.glob('case_*')))}.json"
    path.write_text(json.dumps(fields), encoding="utf-8")
    return path
