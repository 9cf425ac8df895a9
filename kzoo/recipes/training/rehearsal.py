"""A Keras model asked as its bundle will be, before there is one: for scores on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from kzoo.models import TransformerModel
from kzoo.runtime import TASKS, Bundle, hash_file
from kzoo.runtime.manifest import TOKENIZER_FILE, Manifest
from kzoo.runtime.pipeline import Pipeline
from kzoo.runtime.session import Session
from kzoo.training.batches import bucket_length


def rehearse(model: TransformerModel, folder: Path) -> Pipeline:
    """Return a pipeline like that of the model's bundle, which runs the model itself.

    Args:
        model: for a task that runs one graph once: classes, labels, numbers, embeddings.
        folder: where its tokenizer is kept.
    """
    from kzoo.export.running import sections_of

    files = {}
    if model.tokenizer is not None:
        model.tokenizer.save(folder / TOKENIZER_FILE)
        files[TOKENIZER_FILE] = hash_file(folder / TOKENIZER_FILE)
    manifest = Manifest(name="rehearsal", graphs={}, opset=1, versions={}, files=files, **sections_of(model))
    pipeline = TASKS[model.task]
    session = cast(Session, _ModelSession(model, pipeline.outputs["model"]))
    return pipeline(Bundle(folder, manifest), {"model": session})


class _ModelSession:
    """Stands for the session of the model's graph."""

    device = "cpu"

    def __init__(self, model: TransformerModel, outputs: Sequence[str]) -> None:
        self.model, self.outputs = model, list(outputs)
        self._rows = 0

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run the model, on batches of few shapes, since backends compile each."""
        taken = {name: np.asarray(feeds[name]) for name in self.model.signature() if name in feeds}
        first = taken[self.model.main_input]
        self._rows = max(self._rows, len(first))
        tokens = "attention_mask" in taken
        length = bucket_length(first.shape[1], self.model.max_length or first.shape[1]) if tokens else 0
        padded = {name: self._padded(array, length) for name, array in taken.items()}
        found = cast(Any, self.model.predict_on_batch(padded))
        by_token = tokens and found[self.outputs[0]].ndim == 3
        places = np.s_[: len(first), : first.shape[1]] if by_token else np.s_[: len(first)]
        return {name: np.asarray(found[name])[places] for name in self.outputs}

    def _padded(self, array: np.ndarray, length: int) -> np.ndarray:
        rows = np.concatenate([array, np.repeat(array[-1:], self._rows - len(array), axis=0)])
        return np.pad(rows, ((0, 0), (0, length - rows.shape[1]))) if length else rows
