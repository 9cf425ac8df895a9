"""Time the training of a small translator: `python benchmarks/translate_training.py`.

One update of the shelf's en-de model (`transformer_tiny`, norms first, dropout 0.3): forward, smoothed loss,
backward, Adam, on random tokens of 16 a sentence, the mean of Multi30k's. The backend is that of KERAS_BACKEND.
Medians, after two updates to warm up.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import keras
import numpy as np

import kzoo
from kzoo.training import InverseSquareRoot, SmoothedTokenLoss, make_optimizer

LENGTH = 16


def translator(vocab_size: int, precision: str) -> kzoo.models.TransformerModel:
    """Return the model, compiled as the recipe does."""
    dtype = None if precision == "float32" else precision
    model = kzoo.models.transformer_tiny(vocab_size=vocab_size, norm_first=True, dropout=0.3, dtype=dtype)
    optimizer = make_optimizer(InverseSquareRoot(5e-3, 2000), betas=(0.9, 0.98), weight_decay=0.0)
    model.compile(optimizer=optimizer, loss=SmoothedTokenLoss(0.1), metrics=[kzoo.training.TokenAccuracy()])
    return model


def batch(vocab_size: int, tokens: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return inputs by name, and labels, of as many target tokens."""
    random = np.random.default_rng(0)

    def ids() -> Any:
        return random.integers(4, vocab_size, (tokens // LENGTH, LENGTH)).astype("int32")

    inputs = {"input_ids": ids(), "decoder_input_ids": ids()}
    return {**inputs, "attention_mask": np.ones_like(inputs["input_ids"])}, ids()


def seconds(model: keras.Model, inputs: Any, labels: np.ndarray, updates: int) -> float:
    """Return how long an update takes."""
    taken = []
    for _ in range(updates + 2):
        started = time.perf_counter()
        np.asarray(model.train_on_batch(inputs, labels))
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[2:])


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab-size", type=int, nargs="+", default=[6000])
    parser.add_argument("--tokens", type=int, nargs="+", default=[8192], help="target tokens a batch")
    parser.add_argument("--precision", nargs="+", default=["float32", "mixed_bfloat16"])
    parser.add_argument("--updates", type=int, default=7, help="how many are timed")
    options = parser.parse_args()
    print(
        "| backend | precision | vocabulary | tokens a batch | ms | tokens/s |\n|---|---|---:|---:|---:|---:|"
    )
    for vocab_size in options.vocab_size:
        for tokens in options.tokens:
            for precision in options.precision:
                model = translator(vocab_size, precision)
                took = seconds(model, *batch(vocab_size, tokens), options.updates)
                print(
                    f"| {keras.backend.backend()} | {precision} | {vocab_size:,} | {tokens:,} | {1e3 * took:.0f} "
                    f"| {tokens / took:,.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
