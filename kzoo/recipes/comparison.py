"""Keras and ONNX Runtime side by side: the same model, the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kzoo.models import TransformerModel
from kzoo.recipes.evaluation.timing import medians
from kzoo.runtime import open_session

_ROUNDS = 30


@dataclass(frozen=True)
class Side:
    """One of the two: share of right answers, bytes on disk, median seconds a batch by batch size."""

    accuracy: float
    size_bytes: int
    seconds: Mapping[int, float]


@dataclass(frozen=True)
class Comparison:
    """Both sides, the largest absolute difference of any logit, and the share of equal answers."""

    keras: Side
    onnx: Side
    largest_difference: float
    agreement: float


def compare(
    model: TransformerModel,
    saved: Path,
    bundle: Path,
    pixel_values: np.ndarray,
    classes: np.ndarray,
    batch_sizes: tuple[int, ...] = (1, 64),
) -> Comparison:
    """Measure a Keras image classifier and its bundle on the same test images.

    Args:
        model: the trained model.
        saved: its `.keras` file, for its size.
        bundle: what was exported from it.
        pixel_values: float32 (n, height, width, channels), at least as many as the largest batch.
        classes: int (n,), the right answers.
        batch_sizes: sizes to time, the two sides in turn, so that both meet the same noise.
    """
    session = open_session(bundle / "model.onnx", "cpu")
    runs: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "keras": lambda batch: np.asarray(model.predict_on_batch(batch)["logits"]),
        "onnx": lambda batch: session.run({"pixel_values": batch})["logits"],
    }
    logits = {name: _in_batches(run, pixel_values, max(batch_sizes)) for name, run in runs.items()}
    answers = {name: array.argmax(axis=-1) for name, array in logits.items()}
    seconds: dict[str, dict[int, float]] = {name: {} for name in runs}
    for size in batch_sizes:
        for name, median in medians(runs, [pixel_values[:size]] * _ROUNDS).items():
            seconds[name][size] = median
    sizes = {"keras": saved.stat().st_size, "onnx": sum(file.stat().st_size for file in bundle.iterdir())}
    sides = {
        name: Side(float((answers[name] == classes).mean()), sizes[name], seconds[name]) for name in runs
    }
    return Comparison(
        **sides,
        largest_difference=float(np.abs(logits["keras"] - logits["onnx"]).max()),
        agreement=float((answers["keras"] == answers["onnx"]).mean()),
    )


def _in_batches(run: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([run(inputs[start : start + size]) for start in range(0, len(inputs), size)])
