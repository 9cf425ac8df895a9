"""Measure what pretraining is worth to a classifier with few labels: `python benchmarks/pretraining.py`.

A small BERT (2 layers, 128 wide) first learns the hidden tokens of AG News' training texts, without their labels, by
one recipe; a second recipe begins with it and learns the topics of some of these texts. Beside it the same model,
with the same tokenizer, learns them from random weights. Both are scored on the whole official test set, on their
exported bundles, with several seeds. `$KZOO_DATA` says where AG News lies.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

import kzoo
from kzoo.data import locate

TRAIN = "ag_news/train_subset.csv.gz"
LANGUAGE = """
name = "language"
[data]
format = "text"
train = "ag_news/train_subset.csv.gz"
text = 1
validation_share = 0.02
test_share = 0.02
[text]
vocab_size = 4000
[masking]
share = 0.25
[model]
name = "bert_tiny"
max_positions = 64
dropout = 0.0
attention_dropout = 0.0
[training]
max_steps = {steps}
batch_tokens = 2048
checkpoint_every = {every}
learning_rate = 2e-3
"""
TOPIC = """
name = "{name}"
[data]
train = "few.csv"
test = "ag_news/test.csv.gz"
text = 1
test_text = [1, 2]
label = 0
[model]
{model}
dropout = 0.1
attention_dropout = 0.1
[training]
epochs = 20
batch_size = 16
learning_rate = {rate}
"""
# Beside the pretrained model's `pretrained = "language.toml"`.
FRESH = 'name = "bert_tiny"\ntokenizer = "tokenizer.json"\nmax_positions = 64'


def write_few(path: Path, labels: int) -> None:
    """Write a table with as many training rows of each of the four classes."""
    with gzip.open(locate(TRAIN), "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    random.Random(0).shuffle(rows)
    taken: Counter[str] = Counter()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for row in rows:
            if taken[row[0]] < labels // 4:
                taken[row[0]] += 1
                writer.writerow(row)


def score(recipe: Path, seed: int) -> float:
    """Train by a recipe, and return its bundle's accuracy on the test set."""
    return kzoo.recipes.run(recipe, overrides=[f"training.seed={seed}"]).scores["accuracy"]


def main() -> None:
    """Print a row for each number of labels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 400], help="labelled texts")
    parser.add_argument("--steps", type=int, default=4000, help="updates of the pretraining")
    parser.add_argument("--seeds", type=int, default=3, help="fine-tunings of each kind")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak of the fine-tunings' learning rate")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        os.environ["KZOO_RUNS"] = str(folder / "runs")
        language = folder / "language.toml"
        language.write_text(LANGUAGE.format(steps=options.steps, every=options.steps // 5), encoding="utf-8")
        started = time.perf_counter()
        result = kzoo.recipes.run(language)
        taken = time.perf_counter() - started
        print(f"pretraining: {result.scores}, {taken:.0f} s", flush=True)
        (folder / "tokenizer.json").write_bytes((result.bundle / "tokenizer.json").read_bytes())
        print("| labels | from scratch | pretrained | gain |\n|---:|---:|---:|---:|", flush=True)
        for labels in options.labels:
            write_few(folder / "few.csv", labels)
            both = []
            for name, model in (("scratch", FRESH), ("pretrained", 'pretrained = "language.toml"')):
                recipe = folder / f"{name}-{labels}.toml"
                content = TOPIC.format(name=f"{name}-{labels}", model=model, rate=options.rate)
                recipe.write_text(content, encoding="utf-8")
                both.append([100 * score(recipe, seed) for seed in range(options.seeds)])
            gain = statistics.fmean(both[1]) - statistics.fmean(both[0])
            print(f"| {labels} | {' | '.join(map(cell, both))} | {gain:+.1f} |", flush=True)


def cell(scores: list[float]) -> str:
    """Return the mean and, of several, the standard deviation."""
    spread = f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    return f"{statistics.fmean(scores):.1f}{spread}"


if __name__ == "__main__":
    main()
