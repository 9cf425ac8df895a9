"""Time a fine-tuning step of kzoo against transformers': `python benchmarks/fine_tuning.py`.

A step is a forward and a backward pass of a two-class model of MiniLM's shape (6 layers, 384 wide, 12 heads, 1,536
inside) on 32 texts of up to 64 tokens, dropout on, gradients clipped to a norm of 1, and AdamW. kzoo runs it on the
backend of KERAS_BACKEND by `train_on_batch`, compiled as `fit` does by default; transformers runs on torch, with the
fused AdamW that its `Trainer` takes. Both sides run in one process, in turn, on the same random weights' shapes; the
ratio kzoo / transformers is the median over pairs.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import keras
import numpy as np
import torch
from training_speed import compare
from transformers import BertConfig, BertForSequenceClassification

import kzoo

BATCH, LENGTH, RATE = 32, 64, 5e-5
Arrays = dict[str, np.ndarray]


def batch() -> tuple[Arrays, np.ndarray]:
    """Return inputs by name, rows of 32 to 64 tokens, and classes."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 30_522, (BATCH, LENGTH)).astype("int32")
    mask = (np.arange(LENGTH) < rng.integers(LENGTH // 2, LENGTH + 1, (BATCH, 1))).astype("int32")
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return inputs, rng.integers(0, 2, BATCH).astype("int32")


def ours(inputs: Arrays, labels: np.ndarray) -> tuple[int, Callable[[], object]]:
    """Return kzoo's number of parameters, and its step."""
    model = kzoo.models.minilm_l6_h384(num_classes=2)
    return model.count_params(), lambda: float(np.asarray(model.train_on_batch(inputs, labels)[0]))


def theirs(inputs: Arrays, labels: np.ndarray) -> tuple[int, Callable[[], object]]:
    """Return transformers' number of parameters, and its step."""
    config = BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536, num_labels=2)
    model = BertForSequenceClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01, fused=True)
    tensors = {name: torch.from_numpy(values.astype("int64")) for name, values in inputs.items()}
    targets = torch.from_numpy(labels.astype("int64"))

    def step() -> float:
        loss = model(**tensors, labels=targets).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return sum(parameter.numel() for parameter in model.parameters()), step


def main() -> None:
    """Print a row of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=21, help="how often the two are timed in turn")
    options = parser.parse_args()
    arrays = batch()
    (size, mine), (their_size, peer) = ours(*arrays), theirs(*arrays)
    assert size == their_size
    times = compare(mine, peer, options.pairs)
    here, there = (1e3 * statistics.median(side) for side in zip(*times, strict=True))
    ratio = statistics.median(first / second for first, second in times)
    print("| backend | kzoo ms | transformers ms | ratio |\n|---|---:|---:|---:|")
    print(f"| {keras.backend.backend()} | {here:.0f} | {there:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
