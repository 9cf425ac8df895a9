"""Explanations: how much each word of a text has to do with the label that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from kzoo.errors import KzooError, did_you_mean
from kzoo.runtime.attribution import Word, integrate, log_odds, rollout, without_each, words_of
from kzoo.runtime.inputs import TextReader, warn_of_cuts
from kzoo.runtime.manifest import EXPLANATION
from kzoo.runtime.pipeline import Pipeline
from kzoo.runtime.prediction import probabilities
from kzoo.text import Text

OCCLUSION = "occlusion"
ROLLOUT = "rollout"
INTEGRATED_GRADIENTS = "integrated_gradients"

# Tasks whose outputs are explained, and whether the probabilities of their classes add up to 1.
EXCLUSIVE = {"classification": True, "multilabel": False, "next_sentence": True, "regression": False}
# What is explained where there are no classes but a number.
NUMBER = "score"

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Explanation:
    """How much each word counts for a label.

    Attributes:
        text: the text, or pair of texts.
        words: its words, in order, each with its place in the text; what the model had to cut off is not there.
        weights: float64 (words,). By occlusion, by how much the logarithm of the label's odds (or the model's number)
            falls without the word;
            by integrated gradients, the word's share of how far that is above the odds of a text without words; both
            are below 0 where the word speaks against the label. By rollout, what part of the attention that
            reaches the label comes from the word, whatever the label.
        label: what is explained; `"score"` for a model of numbers.
        score: the label's probability, or the number that a model of numbers gives.
        method: how the weights were found.
        completeness_error: by integrated gradients, how far the weights' sum is from what they are shares of; None
            by the other methods.
    """

    text: Text
    words: tuple[Word, ...]
    weights: np.ndarray
    label: str
    score: float
    method: str
    completeness_error: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it."""
        words = [
            {**word._asdict(), "weight": weight}
            for word, weight in zip(self.words, self.weights.tolist(), strict=True)
        ]
        return {
            "text": self.text,
            "label": self.label,
            "score": self.score,
            "method": self.method,
            "words": words,
            "completeness_error": self.completeness_error,
        }


class Explainable(Protocol):
    """A classifier of texts, in Keras or out of it, as explanations see it."""

    reader: TextReader
    task: str

    def methods(self) -> tuple[str, ...]:
        """Return the methods that can explain it, the best first."""

    def class_names(self, count: int) -> list[str]:
        """Return the names of its classes, of which there are so many."""

    def logits(self, feeds: Feeds) -> np.ndarray:
        """Return its logits (batch, classes)."""

    def slopes(self, feeds: Feeds, scale: np.ndarray, column: int) -> tuple[np.ndarray, np.ndarray]:
        """Return its logits (batch, classes), and the slopes of a class' log odds (batch, length).

        The embedding of each token is multiplied by its `scale` (batch, length); slopes are the derivatives by it.
        """

    def attention(self, feeds: Feeds) -> np.ndarray:
        """Return the attention weights (layers, heads, length, length) of one text."""


def methods(pipeline: Pipeline) -> tuple[str, ...]:
    """Return the methods that can explain what a bundle gives, the best first; none if it classifies no texts."""
    if pipeline.task not in EXCLUSIVE or not isinstance(pipeline.reader, TextReader):
        return ()
    # Not by the graph itself, which would be opened for it.
    with_graph = EXPLANATION in pipeline.manifest.graphs
    return (INTEGRATED_GRADIENTS, ROLLOUT, OCCLUSION) if with_graph else (OCCLUSION,)


def attention_maps(pipeline: Pipeline, text: Text) -> np.ndarray:
    """Return the attention weights of a text.

    Args:
        pipeline: a bundle that was exported with explanations, from `kzoo.load`.
        text: the text, or a pair of texts as a 2-tuple.

    Returns:
        float32 (layers, heads, length, length): how much each token, special ones included, takes of each other one.

    Raises:
        KzooError: the bundle has no graph of explanations.
    """
    if ROLLOUT not in methods(pipeline):
        raise KzooError(f"'{pipeline.name}' has no graph of explanations: export it with explanations=True.")
    model = _OfBundle(pipeline)
    items, _ = model.reader.listed([text])
    return model.attention(model.reader.read(items, 0).feeds)


def explain(
    pipeline: Pipeline, text: Text, *, label: str | None = None, method: str | None = None
) -> Explanation:
    """Say how much each word has to do with the label that a bundle gives to a text.

    Args:
        pipeline: a bundle that classifies texts, from `kzoo.load`.
        text: the text, or a pair of texts as a 2-tuple.
        label: which label to explain; the most probable one unless given.
        method: one of `methods(pipeline)`; the first of them unless given.

    Raises:
        KzooError: the bundle classifies no texts, the text has no words, or the label or the method is unknown.

    Example:
        >>> found = explain(kzoo.load("bundles/topic"), "Shares fell sharply")  # doctest: +SKIP
        >>> found.label, found.words[0].text, found.weights[0]  # doctest: +SKIP
        ('Business', 'Shares', 2.7)
    """
    if not methods(pipeline):
        raise KzooError(
            f"'{pipeline.name}' is for the task '{pipeline.task}': only labels of texts are explained."
        )
    return explain_with(_OfBundle(pipeline), text, label, method)


def explain_with(
    model: Explainable, text: Text, label: str | None = None, method: str | None = None
) -> Explanation:
    """Explain what any classifier of texts gives; the arguments are those of `explain`."""
    offered = model.methods()
    method = offered[0] if method is None else method
    if method not in offered:
        raise KzooError(f"There is no method '{method}' here.{did_you_mean(method, offered)}")
    (text,), _ = model.reader.listed([text])
    batch = model.reader.read([text], 0)
    if batch.encoding is None:
        raise ValueError("the reader gave no tokens")
    if batch.truncated[0]:
        warn_of_cuts([0], 1, model.reader.max_length, stacklevel=3)
    found = words_of(text, batch.encoding)
    if not found:
        raise KzooError("There are no words in the text: nothing to explain.")
    words, groups = zip(*found, strict=True)

    logits = model.logits(batch.feeds)
    is_number = model.task == "regression"
    names = [NUMBER] if is_number else model.class_names(logits.shape[1])
    column = int(logits[0].argmax()) if label is None else _column(label, names)
    scores = logits if is_number else probabilities(logits, EXCLUSIVE[model.task])
    weights, error = _METHODS[method](model, batch.feeds, groups, column)
    return Explanation(text, words, weights, names[column], float(scores[0, column]), method, error)


def _column(label: str, names: list[str]) -> int:
    if label not in names:
        raise KzooError(f"There is no label '{label}'.{did_you_mean(label, names)}")
    return names.index(label)


def _by_occlusion(
    model: Explainable, feeds: Feeds, groups: Sequence[list[int]], column: int
) -> tuple[np.ndarray, None]:
    def odds(some: Feeds) -> np.ndarray:
        return log_odds(model.logits(some), column, EXCLUSIVE[model.task])

    without = [odds(batch) for batch in without_each(feeds, groups, model.reader.tokenizer.pad_id)]
    return odds(feeds) - np.concatenate(without), None


def _by_rollout(
    model: Explainable, feeds: Feeds, groups: Sequence[list[int]], column: int
) -> tuple[np.ndarray, None]:
    attention = model.attention(feeds)
    # A label is read from the last token where tokens see only those before them, else from the first.
    reached = rollout(attention)[0 if np.triu(attention, 1).any() else -1]
    return np.asarray([reached[group].sum() for group in groups]), None


# So that the backward pass of a long text does not take gigabytes.
_TOKENS_AT_ONCE = 2048
# How far the weights' sum may be from the difference that it should be, as a share of it, before the line is cut.
_ERROR = 1e-3
_CUTS = (0, 2, 5)


def _by_integrated_gradients(
    model: Explainable, feeds: Feeds, groups: Sequence[list[int]], column: int
) -> tuple[np.ndarray, float]:
    moved = sorted(place for group in groups for place in group)
    length = feeds["input_ids"].shape[1]

    rows = max(1, _TOKENS_AT_ONCE // length)

    def run(scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = []
        for first in range(0, len(scale), rows):
            some = scale[first : first + rows]
            same = {name: np.repeat(array, len(some), axis=0) for name, array in feeds.items()}
            parts.append(model.slopes(same, some, column))
        logits, slopes = zip(*parts, strict=True)
        return np.concatenate(logits), np.concatenate(slopes)

    ends = np.ones((2, length), np.float32)
    ends[0, moved] = 0
    start, end = log_odds(run(ends)[0], column, EXCLUSIVE[model.task])
    # Where norms divide embeddings by their size, most happens near 0, and is only met by a line cut finely there.
    for cuts in _CUTS:
        edges = [0.0, *(4.0 ** (part - cuts) for part in range(cuts + 1))]
        each = integrate(lambda scale: run(scale)[1], length, moved, edges)
        error = abs(float(each.sum() - (end - start)))
        if error <= _ERROR * max(1.0, abs(end - start)):
            break
    return np.asarray([each[group].sum() for group in groups]), error


_METHODS = {
    INTEGRATED_GRADIENTS: _by_integrated_gradients,
    OCCLUSION: _by_occlusion,
    ROLLOUT: _by_rollout,
}


class _OfBundle:
    """A bundle, as explanations see it."""

    def __init__(self, pipeline: Any) -> None:
        self.reader = replace(pipeline.reader, offsets=True)
        self.task: str = pipeline.task
        self.class_names = pipeline.class_names
        self._pipeline = pipeline

    def methods(self) -> tuple[str, ...]:
        return methods(self._pipeline)

    def logits(self, feeds: Feeds) -> np.ndarray:
        return self._pipeline._run(feeds)["logits"].astype(np.float64)

    def slopes(self, feeds: Feeds, scale: np.ndarray, column: int) -> tuple[np.ndarray, np.ndarray]:
        found = self._run(feeds, scale, column, ["logits", "slopes"])
        return found["logits"], found["slopes"]

    def attention(self, feeds: Feeds) -> np.ndarray:
        scale = np.ones(feeds["input_ids"].shape, np.float32)
        return self._run(feeds, scale, 0, ["attention"])["attention"][0]

    def _run(self, feeds: Feeds, scale: np.ndarray, column: int, outputs: list[str]) -> dict[str, np.ndarray]:
        label = np.full(len(scale), column)
        return self._pipeline.explanation.run({**feeds, "token_scale": scale, "label": label}, outputs)
