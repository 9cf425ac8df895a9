"""Measure bundles that classify texts against Optimum's graphs with the same weights.

    python benchmarks/classification.py MODEL --peers-python PYTHON

MODEL is a `.keras` file of a classifier of the BERT family, such as the chosen checkpoint of models/sentiment's run;
PYTHON that of an environment with the peers, which `benchmarks/peers/classify_with_optimum.py` says how to make. The
texts are SST-2's test sentences, from `$KZOO_DATA`. From texts to labels, tokenization included; each engine has a
process of its own. First each finds the batch size that it is fastest with, on a part of the texts, then they take
turns, in an order drawn anew for each; a ratio is the median over turns.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import pathlib
import statistics
import sys
import tempfile
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from engines import Turns, Worker, run_once, working, write_case

from kzoo.data import locate, read_table

BATCH_SIZES = (8, 32, 128)
SEARCHED = 384  # texts that batch sizes are compared on
PEER = "classify_with_optimum"
LABELS = {"0": "negative", "1": "positive"}


class Bench:
    """All engines, over one model.

    Args:
        options: the command's.
        folder: for files.
    """

    def __init__(self, options: argparse.Namespace, folder: pathlib.Path) -> None:
        data = read_table(locate("sst2/test.tsv.gz"), text=1, label=0)
        self.options, self.folder = options, folder
        self.texts, self.expected = list(data.inputs), [LABELS[str(label)] for label in data.targets]
        self.engines = {"kzoo float32": "float32", "kzoo int8": "int8"}
        self.engines |= {f"Optimum {name}": name for name in ("float32", "float32_optimized", "int8")}

    def prepare(self) -> None:
        """Write all graphs."""
        import kzoo

        model: Any = kzoo.models.load(self.options.model)
        for dtype in ("float32", "int8"):
            model.export(self.folder / f"kzoo_{dtype}", dtype=dtype, target="cpu")
        model.save_pretrained(self.folder / "checkpoint")
        run_once(
            self.options.peers_python, PEER, "export", self.folder / "checkpoint", self.folder / "optimum"
        )

    def start(self, name: str, batch_size: int, texts: int | None = None) -> Worker:
        """Return an engine's process, to work on so many texts, or all."""
        threads = self.options.threads
        case = write_case(self.folder, texts=self.texts[:texts], batch_size=batch_size, threads=threads)
        dtype = self.engines[name]
        if name.startswith("kzoo"):
            bundle = self.folder / f"kzoo_{dtype}"
            return Worker(sys.executable, "classify_with_kzoo", case, bundle, threads=threads)
        graphs = self.folder / "optimum" / dtype
        return Worker(self.options.peers_python, PEER, "serve", case, graphs, threads=threads)

    def fastest(self, name: str) -> int:
        """Return the batch size that an engine is fastest with."""
        with working({str(size): self.start(name, size, SEARCHED) for size in BATCH_SIZES}) as workers:
            turns = Turns(workers, 3)
        return min(BATCH_SIZES, key=lambda size: statistics.median(turns.total(str(size))))

    def measure(self) -> tuple[dict[str, int], Turns, dict[str, str]]:
        """Return the batch sizes, what the engines did in turn, and versions."""
        sizes = {name: self.fastest(name) for name in self.engines}
        with working({name: self.start(name, size) for name, size in sizes.items()}) as workers:
            versions = {key: found for worker in workers.values() for key, found in worker.versions.items()}
            return sizes, Turns(workers, self.options.turns), versions


def faster(turns: Turns, one: str, other: str) -> float:
    """Return how many times as fast an engine is as another."""
    pairs = zip(turns.total(one), turns.total(other), strict=True)
    return statistics.median(theirs / ours for ours, theirs in pairs)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=pathlib.Path, help="a trained classifier's .keras file")
    parser.add_argument("--peers-python", required=True, help="the python of the peers' environment")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of each engine")
    parser.add_argument("--turns", type=int, default=15, help="how often each engine is timed")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        bench = Bench(options, pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory())))
        bench.prepare()
        sizes, turns, versions = bench.measure()
    print("| engine | batch | sentences/s | accuracy | memory |\n|---|---:|---:|---:|---:|")
    for name, size in sizes.items():
        speed = len(bench.texts) / statistics.median(turns.total(name))
        pairs = zip(turns.last[name]["results"], bench.expected, strict=True)
        right = statistics.mean(found == expected for found, expected in pairs)
        print(f"| {name} | {size} | {speed:,.0f} | {right:.2%} | {turns.megabytes(name):,.0f} MB |")
    peer = max(("Optimum float32", "Optimum float32_optimized"), key=lambda name: -sum(turns.total(name)))
    print("\n| what | ratio | bar |\n|---|---:|---|")
    print(f"| float32, kzoo to {peer} | {faster(turns, 'kzoo float32', peer):.2f} | at least 1.0 |")
    print(f"| int8, kzoo to Optimum | {faster(turns, 'kzoo int8', 'Optimum int8'):.2f} | at least 1.0 |")
    print(f"| kzoo, int8 to float32 | {faster(turns, 'kzoo int8', 'kzoo float32'):.2f} | at least 2.0 |")
    listed = ", ".join(f"{name} {found}" for name, found in versions.items())
    print(f"\n{datetime.date.today()}, {options.threads} threads, {options.turns} turns; {listed}.")


if __name__ == "__main__":
    main()
