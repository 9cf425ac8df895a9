"""What a row of `kzoo run` costs: a worker's seconds, the starting process' seconds, memory and disk.

    python benchmarks/bulk.py BUNDLE [--rows 20000] [--target 1000000000] [--cores 64]

Embeds texts of 4 to 64 words with one thread, as a worker of `--engine ray` does, then reads and writes as many with
answers that cost nothing, which is what the process that starts a run can feed. It prints both rates, the worker's
memory, the bytes of a row, and what they come to for `--target` rows on `--cores` cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import resource
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import kzoo
from kzoo import bulk
from kzoo.bulk.engines import Answer
from kzoo.runtime import Pipeline
from kzoo.text import Text

WORDS = [
    "the",
    "a",
    "market",
    "team",
    "goal",
    "rain",
    "house",
    "bridge",
    "of",
    "to",
    "was",
    "has",
    "new",
    "old",
]


class Canned:
    """Answers at once: vectors of noughts of the right size."""

    def __init__(self, dim: int) -> None:
        self._row = np.zeros(dim, np.float32)

    def answers(
        self, pipeline: Pipeline, options: Mapping[str, Any], asked: Iterator[list[Text]]
    ) -> Generator[Answer, None, None]:
        """Yield as many vectors as there are texts."""
        for texts in asked:
            yield Answer(np.broadcast_to(self._row, (len(texts), len(self._row))))


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--target", type=int, default=1_000_000_000)
    parser.add_argument("--cores", type=int, default=64)
    options = parser.parse_args()
    random.seed(0)
    pipeline = kzoo.load(options.bundle, device="cpu", threads=1)
    vector = pipeline("a sentence")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [" ".join(random.choices(WORDS, k=random.randint(4, 64))) for _ in range(options.rows)]
        source = folder / "a.txt"
        source.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        started = time.perf_counter()
        totals = bulk.run(pipeline, [source], folder / "computed")
        worker = options.rows / (time.perf_counter() - started)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        started = time.perf_counter()
        bulk.run(pipeline, [source], folder / "fed", engine=Canned(len(vector)))
        feed = options.rows / (time.perf_counter() - started)
        written = sum(path.stat().st_size for path in (folder / "computed").glob("part-*"))
    print(", ".join(f"{name} {count:,}" for name, count in dataclasses.asdict(totals).items()))
    print(f"a worker of one thread: {worker:,.0f} rows/s, {memory:,.0f} MB resident")
    print(f"the starting process:   {feed:,.0f} rows/s, enough for {feed / worker:,.0f} workers")
    print(f"disk:                   {written / options.rows:,.0f} bytes a row")
    rate = min(options.cores * worker, feed)
    print(
        f"ESTIMATE, {options.target:,} rows, {options.cores} cores, one run: {options.target / rate / 3600:,.1f} h, "
        f"{options.target * written / options.rows / 1e12:,.2f} TB, {options.cores * memory / 1000:,.1f} GB of memory"
    )


if __name__ == "__main__":
    main()
