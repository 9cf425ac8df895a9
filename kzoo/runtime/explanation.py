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
EXCLUSIVE = {
    "classification": True,
    "multilabel": False,
    "next_sentence": True,
    "regression": False,
    "image_classification": True,
}
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
    """A classifier, in Keras or out of it, as explanations see it."""

    reader: Any
    task: str

    def methods(self) -> tuple[str, ...]:
        """Return the methods that can explain it, the best first."""

    def class_names(self, count: int) -> list[str]:
        """Return the names of its classes, of which there are so many."""

    def logits(self, feeds: Feeds) -> np.ndarray:
        """Return its logits (batch, classes)."""

    def slopes(self, feeds: Feeds, scale: np.ndarray, column: int) -> tuple[np.ndarray, np.ndarray]:
        """Return its logits (batch, classes), and the slopes of a class' log odds, of the scale's shape.

        The embedding of each token is multiplied by its `scale` (batch, length), or how far each pixel is from black
        by (batch, height, width); slopes are the derivatives by it.
        """

    def attention(self, feeds: Feeds) -> np.ndarray:
        """Return the attention weights (layers, heads, length, length) of one text or image."""


def methods(pipeline: Pipeline) -> tuple[str, ...]:
    """Return the methods that can explain what a bundle gives, the best first; none if that is no label or number."""
    if pipeline.task not in EXCLUSIVE:
        return ()
    # Not by the graph itself, which would be opened for it.
    with_graph = EXPLANATION in pipeline.manifest.graphs
    return (INTEGRATED_GRADIENTS, ROLLOUT, OCCLUSION) if with_graph else (OCCLUSION,)


def attention_maps(pipeline: Pipeline, item: Any) -> np.ndarray:
    """Return the attention weights of a text or an image.

    Args:
        pipeline: a bundle that was exported with explanations, from `kzoo.load`.
        item: the text, a pair of texts as a 2-tuple, or the image.

    Returns:
        float32 (layers, heads, length, length): how much each token, special ones included, takes of each other one.
        An image's tokens are its patches, along rows, behind the class token if the model has one.

    Raises:
        KzooError: the bundle has no graph of explanations.
    """
    if ROLLOUT not in methods(pipeline):
        raise KzooError(f"'{pipeline.name}' has no graph of explanations: export it with explanations=True.")
    model = OfBundle(pipeline)
    items, _ = model.reader.listed([item])
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
    if not methods(pipeline) or not isinstance(pipeline.reader, TextReader):
        raise KzooError(
            f"'{pipeline.name}' is for the task '{pipeline.task}': only labels of texts are explained here."
        )
    return explain_with(OfBundle(pipeline), text, label, method)


def explain_with(
    model: Explainable, text: Text, label: str | None = None, method: str | None = None
) -> Explanation:
    """Explain what any classifier of texts gives; the arguments are those of `explain`."""
    method = check_method(model, method)
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

    column, label, score = find_label(model, batch.feeds, label)
    weights, error = _METHODS[method](model, batch.feeds, groups, column)
    return Explanation(text, words, weights, label, score, method, error)


def check_method(model: Explainable, method: str | None) -> str:
    """Return a method that can explain a model: the one that is given, or the best.

    Raises:
        KzooError: it is none that the model offers.
    """
    offered = model.methods()
    if method is not None and method not in offered:
        raise KzooError(f"There is no method '{method}' here.{did_you_mean(method, offered)}")
    return method or offered[0]


def find_label(model: Explainable, feeds: Feeds, label: str | None) -> tuple[int, str, float]:
    """Return the place, name and score of a label of one input; of the most probable one unless it is given.

    Raises:
        KzooError: there is no such label.
    """
    logits = model.logits(feeds)
    is_number = model.task == "regression"
    names = [NUMBER] if is_number else model.class_names(logits.shape[1])
    if label is not None and label not in names:
        raise KzooError(f"There is no label '{label}'.{did_you_mean(label, names)}")
    column = int(logits[0].argmax()) if label is None else names.index(label)
    scores = logits if is_number else probabilities(logits, EXCLUSIVE[model.task])
    return column, names[column], float(scores[0, column])


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


# So that the backward pass of a long text, or of a large image, does not take gigabytes.
_AT_ONCE = {"input_ids": 2048, "pixel_values": 2**18}
# How far the weights' sum may be from the difference that it should be, as a share of it, before the line is cut.
_ERROR = 1e-3
# Where norms divide embeddings by their size, most happens near 0, and is only met by a line cut finely there.
_CUTS = tuple([0.0, *(4.0 ** (part - cuts) for part in range(cuts + 1))] for cuts in (0, 2, 5))


def _by_integrated_gradients(
    model: Explainable, feeds: Feeds, groups: Sequence[list[int]], column: int
) -> tuple[np.ndarray, float]:
    moved = sorted(place for group in groups for place in group)
    each, error = integrated_gradients(model, feeds, moved, column, _CUTS, _ERROR)
    return np.asarray([each[group].sum() for group in groups]), error


def integrated_gradients(
    model: Explainable,
    feeds: Feeds,
    moved: Sequence[int],
    column: int,
    cuts: Sequence[Sequence[float]],
    tolerance: float,
) -> tuple[np.ndarray, float]:
    """Return what each token or pixel adds to a label's log odds, and how far the sum is from what it should be.

    Args:
        model: which has slopes.
        feeds: one text, or one image.
        moved: places of the tokens or pixels that are taken away at the beginning of the line.
        column: which label.
        cuts: where the line is cut, from 0 to 1, first and where that is not exact enough.
        tolerance: the largest distance, as a share of the sum, that is exact enough.
    """
    source, _, shape = scale_of(feeds)
    length = int(np.prod(shape[1:]))
    rows = max(1, _AT_ONCE[source] // length)

    def run(scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = []
        for first in range(0, len(scale), rows):
            some = scale[first : first + rows].reshape(-1, *shape[1:])
            same = {name: np.repeat(array, len(some), axis=0) for name, array in feeds.items()}
            parts.append(model.slopes(same, some, column))
        logits, slopes = zip(*parts, strict=True)
        return np.concatenate(logits), np.concatenate(slopes).reshape(len(scale), length)

    ends = np.ones((2, length), np.float32)
    ends[0, moved] = 0
    start, end = log_odds(run(ends)[0], column, EXCLUSIVE[model.task])
    for edges in cuts:
        each = integrate(lambda scale: run(scale)[1], length, moved, edges)
        error = abs(float(each.sum() - (end - start)))
        if error <= tolerance * max(1.0, abs(end - start)):
            break
    return each, error


def scale_of(feeds: Mapping[str, Any]) -> tuple[str, str, tuple[int, ...]]:
    """Return the input that is scaled, the scale's own name, and its shape, with the batch's size first.

    Args:
        feeds: arrays, or anything else with a shape, by name.
    """
    if "pixel_values" in feeds:
        return "pixel_values", "pixel_scale", tuple(feeds["pixel_values"].shape[:3])
    return "input_ids", "token_scale", tuple(feeds["input_ids"].shape)


_METHODS = {
    INTEGRATED_GRADIENTS: _by_integrated_gradients,
    OCCLUSION: _by_occlusion,
    ROLLOUT: _by_rollout,
}


class OfBundle:
    """A bundle, as explanations see it."""

    def __init__(self, pipeline: Any) -> None:
        is_text = isinstance(pipeline.reader, TextReader)
        self.reader: Any = replace(pipeline.reader, offsets=True) if is_text else pipeline.reader
        self.task: str = pipeline.task
        self.class_names = pipeline.class_names
        self._pipeline = pipeline

    def methods(self) -> tuple[str, ...]:
        """As `Explainable` has it; so are the others."""
        return methods(self._pipeline)

    def logits(self, feeds: Feeds) -> np.ndarray:
        """Run the bundle's own graph."""
        return self._pipeline._run(feeds)["logits"].astype(np.float64)

    def slopes(self, feeds: Feeds, scale: np.ndarray, column: int) -> tuple[np.ndarray, np.ndarray]:
        """Run the graph of explanations."""
        found = self._run(feeds, scale, column, ["logits", "slopes"])
        return found["logits"], found["slopes"]

    def attention(self, feeds: Feeds) -> np.ndarray:
        """Run the graph of explanations, with nothing scaled."""
        scale = np.ones(scale_of(feeds)[2], np.float32)
        return self._run(feeds, scale, 0, ["attention"])["attention"][0]

    def _run(self, feeds: Feeds, scale: np.ndarray, column: int, outputs: list[str]) -> dict[str, np.ndarray]:
        label = np.full(len(scale), column)
        scaled = {scale_of(feeds)[1]: scale, "label": label}
        return self._pipeline.explanation.run({**feeds, **scaled}, outputs)
