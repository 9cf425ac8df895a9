"""Tasks that run one graph once: classes, embeddings, features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from kzoo.errors import BundleError, KzooError
from kzoo.runtime.bundle import Bundle
from kzoo.runtime.inputs import Batch
from kzoo.runtime.pipeline import Pipeline
from kzoo.runtime.session import Session


class _Prediction(Pipeline):
    """Reads texts or images, whichever the manifest has settings for."""

    takes_tokens = True

    def __init__(self, bundle: Bundle, sessions: Mapping[str, Session]):
        super().__init__(bundle, sessions)
        images = self.manifest.text is None and self.manifest.image is not None
        self.reader = self._image_reader() if images else self._text_reader("both")
        self._run = sessions["model"].run


class Classification(_Prediction):
    """One class for each text, pair of texts, or image."""

    outputs = {"model": ("logits",)}
    # Whether the probabilities of the classes add up to 1.
    exclusive: ClassVar[bool] = True

    def __call__(self, inputs: Any, *, top_k: int | None = None, batch_size: int = 32) -> Any:
        """Find the most probable class of each input.

        Args:
            inputs: a text, a pair of texts as a 2-tuple, an image, or a list of these.
            top_k: give a ranked list of this many classes instead of the best one.
            batch_size: inputs run together; more is faster and takes more memory.

        Returns:
            `{"label": str, "score": float}` for each input, or with `top_k` a list of these; scores are
            probabilities that add up to 1 over all classes.

        Raises:
            KzooError: if an input is of the wrong kind, or the list is empty.
        """

        def compute(batch: Batch) -> list[Any]:
            ranked = self._rank(self._probabilities(batch), top_k or 1)
            return ranked if top_k else [best for (best,) in ranked]

        _check_top_k(top_k)
        return self._in_batches(self.reader, inputs, batch_size, compute)

    def probabilities(self, inputs: Any, *, batch_size: int = 32) -> np.ndarray:
        """Compute the probability of every class for each input.

        Args:
            inputs: as for a call.
            batch_size: inputs run together; more is faster and takes more memory.

        Returns:
            float64 (n, classes), the classes in the order of the manifest's `labels`; (classes,) for a bare input.

        Raises:
            KzooError: as for a call.
        """

        def compute(batch: Batch) -> list[np.ndarray]:
            return list(self._probabilities(batch))

        return np.asarray(self._in_batches(self.reader, inputs, batch_size, compute))

    def _probabilities(self, batch: Batch) -> np.ndarray:
        return probabilities(self.logits(batch.feeds), self.exclusive)

    def logits(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the graph's logits, float64 (batch, classes), of what it takes by name."""
        return self._run(feeds)["logits"].astype(np.float64)

    def _rank(self, scores: np.ndarray, top_k: int | None) -> list[list[dict[str, Any]]]:
        """Return the best labels of each row of scores (batch, classes)."""
        labels = self.class_names(scores.shape[1])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
        return [
            [{"label": labels[index], "score": float(row[index])} for index in best]
            for row, best in zip(scores, order, strict=True)
        ]


class MultiLabel(Classification):
    """Any number of labels for each input."""

    exclusive = False

    def __init__(self, bundle: Bundle, sessions: Mapping[str, Session]):
        super().__init__(bundle, sessions)
        labels, thresholds = self.manifest.labels or [], self.manifest.thresholds
        if thresholds is not None and len(thresholds) != len(labels):
            raise BundleError(
                f"{bundle.folder}: the manifest has {len(labels)} labels and {len(thresholds)} thresholds. "
                "Export the bundle again."
            )
        self._thresholds = dict(zip(labels, thresholds or (), strict=False))

    def __call__(
        self, inputs: Any, *, threshold: float | None = None, top_k: int | None = None, batch_size: int = 32
    ) -> Any:
        """Find the labels of each input.

        Args:
            inputs: a text, a pair of texts as a 2-tuple, an image, or a list of these.
            threshold: the least score, from 0 to 1, of a label that is given; that of the manifest for each label
                unless given, or 0.5.
            top_k: give at most this many labels.
            batch_size: inputs run together; more is faster and takes more memory.

        Returns:
            A ranked list of `{"label": str, "score": float}` for each input, perhaps empty; each score is a
            probability by itself.

        Raises:
            KzooError: if an input is of the wrong kind, or the list is empty.
        """

        def least(label: str) -> float:
            return self._thresholds.get(label, 0.5) if threshold is None else threshold

        def compute(batch: Batch) -> list[Any]:
            return [
                [entry for entry in entries if entry["score"] >= least(entry["label"])][:top_k]
                for entries in self._rank(self._probabilities(batch), None)
            ]

        _check_top_k(top_k)
        return self._in_batches(self.reader, inputs, batch_size, compute)


class NextSentence(Classification):
    """Whether the second text of a pair follows the first: labels `next` and `random`."""

    def __init__(self, bundle: Bundle, sessions: Mapping[str, Session]):
        super().__init__(bundle, sessions)
        self.reader = self._text_reader("pairs")


class Embedding(_Prediction):
    """One vector for each text or image."""

    outputs = {"model": ("embedding",)}

    def __call__(self, inputs: Any, *, batch_size: int = 32) -> np.ndarray:
        """Embed each input.

        Args:
            inputs: a text, an image, or a list of these.
            batch_size: inputs run together; more is faster and takes more memory.

        Returns:
            float32 (n, dim); (dim,) for a bare input.

        Raises:
            KzooError: if an input is of the wrong kind, or the list is empty.
        """

        def compute(batch: Batch) -> list[np.ndarray]:
            return list(self._run(batch.feeds)["embedding"].astype(np.float32))

        return np.asarray(self._in_batches(self.reader, inputs, batch_size, compute))


class Features(_Prediction):
    """The model's own outputs, without a head."""

    outputs = {"model": ("last_hidden_state",)}

    def __call__(self, inputs: Any, *, batch_size: int = 32) -> Any:
        """Compute the hidden states of each input.

        Args:
            inputs: a text, a pair of texts as a 2-tuple, an image, or a list of these.
            batch_size: inputs run together; more is faster and takes more memory.

        Returns:
            A dict of arrays for each input: `last_hidden_state` (tokens, dim), without the padding of texts,
            and what else the model gives, such as `pooled` (dim,).

        Raises:
            KzooError: if an input is of the wrong kind, or the list is empty.
        """

        def compute(batch: Batch) -> list[dict[str, np.ndarray]]:
            outputs = self._run(batch.feeds)
            rows = [dict(zip(outputs, values, strict=True)) for values in zip(*outputs.values(), strict=True)]
            if "attention_mask" in batch.feeds:
                for row, size in zip(rows, batch.feeds["attention_mask"].sum(axis=1), strict=True):
                    row["last_hidden_state"] = row["last_hidden_state"][:size]
            return rows

        return self._in_batches(self.reader, inputs, batch_size, compute)


def probabilities(logits: np.ndarray, exclusive: bool) -> np.ndarray:
    """Return the classes' probabilities of logits (batch, classes), which add up to 1 if they are exclusive."""
    if not exclusive:
        return 0.5 + 0.5 * np.tanh(0.5 * logits)  # the sigmoid that cannot overflow
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _check_top_k(top_k: int | None) -> None:
    if top_k is not None and top_k < 1:
        raise KzooError(f"top_k is {top_k}; it must be at least 1.")
