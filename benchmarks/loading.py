"""Time `from_pretrained` of a BERT-base folder: `python benchmarks/loading.py`.

Against what cannot be saved: reading the file's bytes, and building the same model. The three run in turn in one
process, and the ratio is the median over rounds. The backend is that of KERAS_BACKEND.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

import kzoo


def seconds(act: Callable[[], Any]) -> float:
    """Return how long one call takes."""
    gc.collect()
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def main() -> None:
    """Print the medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory, "bert-base")
        kzoo.models.bert_base(task="features").save_pretrained(folder)
        acts = {
            "read": (folder / "model.safetensors").read_bytes,
            "build": lambda: kzoo.models.bert_base(task="features"),
            "load": lambda: kzoo.models.from_pretrained(folder, task="features"),
        }
        for act in acts.values():
            act()
        times = [{name: seconds(act) for name, act in acts.items()} for _ in range(rounds)]
    medians = {name: statistics.median(row[name] for row in times) for name in acts}
    ratio = statistics.median(row["load"] / (row["read"] + row["build"]) for row in times)
    told = ", ".join(f"{name} {value:.2f} s" for name, value in medians.items())
    print(f"{keras.backend.backend()}: {told}; load / (read + build) {ratio:.2f}, at most 1.5 wanted")


if __name__ == "__main__":
    main()
