"""The same few examples in every form that `fit` takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from tests.optional import require

BATCH = 4
# The last batch is the longest: what the first ones suggest about lengths is wrong.
TEXTS = ["the dog", "a cat"] * 4 + ["the dog runs in the park and in the old tree", "a cat sleeps"] * 2
LABELS = [0, 1] * 6
STEPS = len(TEXTS) // BATCH

Arrays = dict[str, np.ndarray]
Batch = tuple[Any, Any]


class Dataset(keras.utils.PyDataset):
    """Batches by number."""

    def __init__(self, batches: list[Batch]) -> None:
        super().__init__()
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return self.batches[index]


def text_batches() -> list[Batch]:
    starts = range(0, len(TEXTS), BATCH)
    return [(TEXTS[i : i + BATCH], LABELS[i : i + BATCH]) for i in starts]


def array_batches(arrays: Arrays) -> list[Batch]:
    starts = range(0, len(LABELS), BATCH)
    return [
        ({name: value[i : i + BATCH] for name, value in arrays.items()}, np.array(LABELS[i : i + BATCH]))
        for i in starts
    ]


def _texts(arrays: Arrays) -> dict[str, Any]:
    return {"x": TEXTS, "y": LABELS, "batch_size": BATCH}


def _text_arrays(arrays: Arrays) -> dict[str, Any]:
    return {"x": np.array(TEXTS), "y": np.array(LABELS), "batch_size": BATCH}


def _array_dict(arrays: Arrays) -> dict[str, Any]:
    return {"x": arrays, "y": np.array(LABELS), "batch_size": BATCH}


def _bare_array(arrays: Arrays) -> dict[str, Any]:
    return {"x": arrays["input_ids"], "y": LABELS, "batch_size": BATCH}


def _tf_texts(arrays: Arrays) -> dict[str, Any]:
    tf = require("tensorflow")
    return {"x": tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(BATCH)}


def _tf_arrays(arrays: Arrays) -> dict[str, Any]:
    tf = require("tensorflow")
    return {"x": tf.data.Dataset.from_tensor_slices((arrays, LABELS)).batch(BATCH)}


def _dataset_of_texts(arrays: Arrays) -> dict[str, Any]:
    return {"x": Dataset(text_batches())}


def _dataset_of_arrays(arrays: Arrays) -> dict[str, Any]:
    return {"x": Dataset(array_batches(arrays))}


def _loader_of_texts(arrays: Arrays) -> dict[str, Any]:
    torch = require("torch")
    pairs = list(zip(TEXTS, LABELS, strict=True))
    return {"x": torch.utils.data.DataLoader(pairs, batch_size=BATCH)}


def _loader_of_arrays(arrays: Arrays) -> dict[str, Any]:
    torch = require("torch")
    rows = [{name: value[row] for name, value in arrays.items()} for row in range(len(LABELS))]
    return {"x": torch.utils.data.DataLoader(list(zip(rows, LABELS, strict=True)), batch_size=BATCH)}


def _endless(batches: list[Batch]) -> Iterator[Batch]:
    while True:
        yield from batches


def _generator_of_texts(arrays: Arrays) -> dict[str, Any]:
    return {"x": _endless(text_batches()), "steps_per_epoch": STEPS}


def _generator_of_arrays(arrays: Arrays) -> dict[str, Any]:
    return {"x": _endless(array_batches(arrays)), "steps_per_epoch": STEPS}


# For each form, a function of the encoded texts that gives the arguments of `fit`.
SOURCES: dict[str, Callable[[Arrays], dict[str, Any]]] = {
    "texts": _texts,
    "numpy texts": _text_arrays,
    "array dict": _array_dict,
    "bare array": _bare_array,
    "tf.data of texts": _tf_texts,
    "tf.data of arrays": _tf_arrays,
    "PyDataset of texts": _dataset_of_texts,
    "PyDataset of arrays": _dataset_of_arrays,
    "DataLoader of texts": _loader_of_texts,
    "DataLoader of arrays": _loader_of_arrays,
    "generator of texts": _generator_of_texts,
    "generator of arrays": _generator_of_arrays,
}
