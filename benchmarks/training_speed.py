"""Time kzoo's backbones against KerasHub's of the same shape: `python benchmarks/training_speed.py`.

A forward pass (`predict_on_batch`) and a training step (`train_on_batch`: the mean square of the states, SGD) of
BERT-small on 8 texts of 128 tokens and ViT-S/16 on 8 images of 224 pixels, compiled as `fit` would by default. Both
sides run in one process, in turn; the ratio kzoo / KerasHub is the median over pairs. KerasHub is no dependency of
kzoo: `pip install --no-deps keras-hub` first. The backend is that of KERAS_BACKEND.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import kzoo

BATCH, LENGTH, IMAGE_SIZE = 8, 128, 224


class States(keras.Model):
    """A backbone reduced to one output, its last states (batch, length, hidden_dim)."""

    def __init__(self, backbone: Any, output: str | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.output_key = output
        self.compile(optimizer=keras.optimizers.SGD(0.01), loss="mean_squared_error")

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return the last states."""
        outputs = self.backbone(inputs, training=training)
        return outputs if self.output_key is None else outputs[self.output_key]


Pair = tuple[tuple[States, Any], tuple[States, Any]]


def bert_small() -> Pair:
    """Return kzoo's and KerasHub's model, each with its inputs."""
    from keras_hub.models import BertBackbone

    rng = np.random.default_rng(0)
    ids = rng.integers(0, 30_522, (BATCH, LENGTH)).astype("int32")
    mask = (np.arange(LENGTH) < rng.integers(LENGTH // 2, LENGTH + 1, (BATCH, 1))).astype("int32")
    types = np.zeros_like(ids)
    ours = kzoo.models.bert_small(task="features").backbone
    peer = BertBackbone(30_522, 4, 8, 512, 2048, dropout=0.1, max_sequence_length=512)
    assert ours.count_params() == peer.count_params()
    return (
        (
            States(ours, "last_hidden_state"),
            {"input_ids": ids, "attention_mask": mask, "token_type_ids": types},
        ),
        (States(peer, "sequence_output"), {"token_ids": ids, "padding_mask": mask, "segment_ids": types}),
    )


def vit_small() -> Pair:
    """Return kzoo's and KerasHub's model, each with its inputs."""
    from keras_hub.models import ViTBackbone

    pixels = np.random.default_rng(0).normal(size=(BATCH, IMAGE_SIZE, IMAGE_SIZE, 3)).astype("float32")
    ours = kzoo.models.vit_small_patch16_224(task="features").backbone
    peer = ViTBackbone((IMAGE_SIZE, IMAGE_SIZE, 3), 16, 12, 6, 384, 1536)
    assert ours.count_params() == peer.count_params()
    return (States(ours, "last_hidden_state"), {"pixel_values": pixels}), (States(peer, None), pixels)


SHAPES: dict[str, Callable[[], Pair]] = {"BERT-small": bert_small, "ViT-S/16": vit_small}


def steps(side: tuple[States, Any]) -> dict[str, Callable[[], Any]]:
    """Return what is timed, each waiting for its result."""
    model, inputs = side
    zeros = np.zeros_like(model.predict_on_batch(inputs))
    return {
        "forward": lambda: model.predict_on_batch(inputs),
        "training step": lambda: float(np.asarray(model.train_on_batch(inputs, zeros))),
    }


def seconds(step: Callable[[], Any]) -> float:
    """Return how long one call takes."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def compare(ours: Callable[[], Any], peer: Callable[[], Any], pairs: int) -> list[tuple[float, float]]:
    """Time the two in turn, each as often first as second."""
    for step in (ours, peer, ours, peer):
        step()
    times = []
    for index in range(pairs):
        if index % 2:
            theirs = seconds(peer)
            times.append((seconds(ours), theirs))
        else:
            times.append((seconds(ours), seconds(peer)))
    return times


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15, help="how often the two are timed in turn")
    parser.add_argument("--shape", choices=SHAPES, help="only this one")
    options = parser.parse_args()
    print("| backend | model | | kzoo ms | KerasHub ms | ratio |\n|---|---|---|---:|---:|---:|")
    for name, make in SHAPES.items():
        if options.shape not in (None, name):
            continue
        ours, peer = (steps(side) for side in make())
        for what in ours:
            times = compare(ours[what], peer[what], options.pairs)
            mine, theirs = (1e3 * statistics.median(side) for side in zip(*times, strict=True))
            ratio = statistics.median(first / second for first, second in times)
            print(
                f"| {keras.backend.backend()} | {name} | {what} | {mine:.0f} | {theirs:.0f} | {ratio:.2f} |",
                flush=True,
            )
        del ours, peer
        gc.collect()


if __name__ == "__main__":
    main()
