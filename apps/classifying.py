"""What the page for texts asks of a bundle and how it reads what comes back, without a page."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

import numpy as np

from kzoo.apps.tables import Value
from kzoo.errors import KzooError
from kzoo.runtime import Pipeline
from kzoo.text import Text

EXAMPLES = (
    "Shares fell sharply on Monday after the bank warned of lower profits.",
    "The striker scored twice in the last ten minutes of the match.",
    "Engineers taught the probe to steer itself around craters.",
    "Ministers met for a second day to end the dispute over the border.",
)
MAX_TEXT = 10_000  # characters
MAX_BARS = 20
_AT_ONCE = 64  # texts between two looks at whether to go on
_PAUSE = 0.05  # seconds between two pictures of how far it is
_TURNS = 5
_SECONDS = 1.0  # for all turns
_MEASURED_AT_EXPORT = "largest_difference"


class Kind(Enum):
    """What a bundle says of a text."""

    LABEL = "one of {count} labels"
    LABELS = "any of {count} labels"
    NUMBER = "a number"
    SPANS = "parts of the text, with labels"


KINDS = {
    "classification": Kind.LABEL,
    "next_sentence": Kind.LABEL,
    "multilabel": Kind.LABELS,
    "regression": Kind.NUMBER,
    "embedding": Kind.NUMBER,
    "tokens": Kind.SPANS,
    "replaced_token": Kind.SPANS,
}


@dataclass(frozen=True)
class Bar:
    """A label with its probability, and whether it is what the bundle says of the text."""

    label: str
    score: float
    said: bool


@dataclass(frozen=True)
class Piece:
    """A piece of a text; one between labelled ones has no label."""

    text: str
    label: str | None = None
    score: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What a bundle says of a text.

    Attributes:
        bars: the likeliest labels, best first, if it gives labels.
        number: its number, if it gives one.
        pieces: the whole text in pieces, if it labels parts of it.
        seconds: how long it took.
    """

    seconds: float
    bars: tuple[Bar, ...] = ()
    number: float | None = None
    pieces: tuple[Piece, ...] = ()


@dataclass(frozen=True)
class Classifier:
    """A bundle that says something of a text or of a pair of texts."""

    pipeline: Pipeline

    @property
    def kind(self) -> Kind:
        """What it says."""
        return KINDS[self.pipeline.task]

    @property
    def pairs(self) -> bool | None:
        """Whether it takes pairs of texts; None if it does not say."""
        examples = self.pipeline.manifest.examples
        if self.pipeline.task == "embedding":
            return True
        if examples:
            return isinstance(examples[0], tuple)
        kinds = getattr(self.pipeline.reader, "kinds", "singles")
        return None if kinds == "both" else kinds == "pairs"

    @property
    def examples(self) -> Sequence[Text]:
        """Texts to try."""
        return self.pipeline.manifest.examples or (() if self.pairs else EXAMPLES)

    def about(self) -> str:
        """Say what the manifest does: labels, limits and scores."""
        manifest = self.pipeline.manifest
        labels = manifest.labels or []
        said = [self.kind.value.format(count=f"{len(labels):,}") if labels else self.kind.value]
        if self.pipeline.task == "embedding":
            said = ["how alike two texts are, from -1 to 1"]
        if 0 < len(labels) <= MAX_BARS:
            said[0] += f": {', '.join(labels)}"
        if manifest.text is not None:
            said.append(f"reads up to {manifest.text.max_length:,} tokens")
        said += [
            f"{name.replace('_', ' ')} {value:.4g}"
            for name, value in manifest.metrics.items()
            if name != _MEASURED_AT_EXPORT
        ]
        return "; ".join(said)[:1].upper() + "; ".join(said)[1:] + "."

    def read(self, first: str, second: str = "") -> Text:
        """Return what two boxes hold as the bundle takes it.

        Raises:
            KzooError: if there is no text, or too much.
        """
        parts = (first,) if self.pairs is False else (first, second)
        if not first.strip():
            raise KzooError("There is no text yet: type one, or click an example.")
        if self.pairs and not second.strip():
            raise KzooError("There is no second text yet: this model reads two.")
        for part in parts:
            if len(part) > MAX_TEXT:
                raise KzooError(
                    f"The text has {len(part):,} characters; this page reads up to {MAX_TEXT:,} at a time. "
                    "Save it as a file, a text a line, and use the tab for many texts."
                )
        return (first, second) if self.pairs or (self.pairs is None and second.strip()) else first

    def answer(self, text: Text, most: int) -> Answer:
        """Say what the bundle does of a text: of its likeliest labels so many, and all that it gives."""
        start = time.perf_counter()
        results = self._call([text], **({"top_k": most} if self.kind is Kind.LABEL else {}))[0]
        seconds = time.perf_counter() - start
        if self.kind is Kind.NUMBER:
            return Answer(seconds, number=results["score"])
        if self.kind is Kind.SPANS:
            return Answer(seconds, pieces=tuple(_pieces(cast(str, text), results)))
        if self.kind is Kind.LABEL:
            bars = [Bar(entry["label"], entry["score"], place == 0) for place, entry in enumerate(results)]
        else:
            said = {entry["label"] for entry in results}
            ranked = self._call([text], threshold=0.0)[0]
            # Each label has a threshold of its own: those that are said need not be the likeliest.
            bars = [
                Bar(entry["label"], entry["score"], entry["label"] in said)
                for place, entry in enumerate(ranked)
                if place < most or entry["label"] in said
            ]
        return Answer(seconds, tuple(bars))

    def seconds(self, text: Text) -> float:
        """Return how long the bundle takes for a text."""
        start = time.perf_counter()
        self._call([text])
        return time.perf_counter() - start

    def label_many(self, texts: Sequence[Text | None]) -> Iterator[list[Any]]:
        """Yield what is found so far, a result for each text, and None for those that are None: every now and then.

        The results are those of the bundle's own call; of numbers a dictionary of their `score`.
        """
        found: list[Any] = []
        shown = time.monotonic()
        yield found
        for start in range(0, len(texts), _AT_ONCE):
            some = texts[start : start + _AT_ONCE]
            results = iter(self._call([text for text in some if text is not None]))
            found += [None if text is None else next(results) for text in some]
            if time.monotonic() - shown > _PAUSE:
                yield found
                shown = time.monotonic()
        yield found

    def columns(self, results: Sequence[Any]) -> dict[str, list[Value]]:
        """Return what `label_many` found as columns of a table."""
        if self.kind is Kind.NUMBER:
            return {"score": ["" if result is None else result["score"] for result in results]}
        if self.kind is Kind.LABEL:
            return {
                name: ["" if result is None else result[name] for result in results]
                for name in ("label", "score")
            }
        names = ("label", "score") if self.kind is Kind.LABELS else ("label", "text", "score")
        return {name: [[entry[name] for entry in result or []] for result in results] for name in names}

    def inputs(self, texts: Sequence[Text]) -> list[Text]:
        """Return these texts as the bundle reads them: of embeddings each of a pair by itself."""
        return [part for text in texts for part in text] if self.pipeline.task == "embedding" else list(texts)

    def _call(self, texts: Sequence[Text], **options: Any) -> list[Any]:
        if not texts:
            return []
        if self.pipeline.task != "embedding":
            return self.pipeline(list(texts), **options)
        firsts, seconds = (self.pipeline(list(side)).astype(np.float64) for side in zip(*texts, strict=True))
        lengths = np.linalg.norm(firsts, axis=1) * np.linalg.norm(seconds, axis=1)
        return [
            {"score": float(score)} for score in (firsts * seconds).sum(axis=1) / np.maximum(lengths, 1e-12)
        ]


def _pieces(text: str, spans: Sequence[Mapping[str, Any]]) -> Iterator[Piece]:
    end = 0
    for span in spans:
        if span["start"] > end:
            yield Piece(text[end : span["start"]])
        yield Piece(span["text"], span["label"], span["score"])
        end = span["end"]
    if text[end:]:
        yield Piece(text[end:])


def latencies(classifiers: Sequence[Classifier], text: Text) -> list[float]:
    """Return how many milliseconds each takes for a text: medians of a few turns, none of them the first."""
    for each in classifiers:
        each.seconds(text)
    turns: list[list[float]] = []
    start = time.perf_counter()
    while not turns or (len(turns) < _TURNS and time.perf_counter() - start < _SECONDS):
        turns.append([1000 * each.seconds(text) for each in classifiers])
    return [statistics.median(times) for times in zip(*turns, strict=True)]


def comparable(classifiers: Sequence[Classifier]) -> dict[str, list[str]]:
    """Return by name, of those that there are others to compare with, the names of these others.

    Two can be compared that say the same kind of thing, of the same kind of text.
    """

    def alike(one: Classifier, other: Classifier) -> bool:
        same_input = None in (one.pairs, other.pairs) or one.pairs == other.pairs
        return one is not other and one.kind is other.kind and same_input

    found = {
        each.pipeline.name: [other.pipeline.name for other in classifiers if alike(each, other)]
        for each in classifiers
    }
    return {name: others for name, others in found.items() if others}
