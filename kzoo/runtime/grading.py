"""A number for each text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kzoo.runtime.bundle import Bundle
from kzoo.runtime.inputs import Batch
from kzoo.runtime.pipeline import Pipeline
from kzoo.runtime.session import Session


class Regression(Pipeline):
    """One number for each text or pair of texts."""

    outputs = {"model": ("logits",)}
    takes_tokens = True

    def __init__(self, bundle: Bundle, sessions: Mapping[str, Session]):
        super().__init__(bundle, sessions)
        self.reader = self._text_reader("both")
        self._run = sessions["model"].run

    def __call__(self, inputs: Any, *, batch_size: int = 32) -> Any:
        """Grade each input.

        Args:
            inputs: a text, a pair of texts as a 2-tuple, or a list of these.
            batch_size: inputs run together; more is faster and takes more memory.

        Returns:
            `{"score": float}` for each input, on the scale of the numbers that the model learnt from.

        Raises:
            KzooError: if an input is of the wrong kind, or the list is empty.
        """

        def compute(batch: Batch) -> list[dict[str, float]]:
            return [{"score": float(score)} for score in self._run(batch.feeds)["logits"][:, 0]]

        return self._in_batches(self.reader, inputs, batch_size, compute)
