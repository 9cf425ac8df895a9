"""What a bundle answers to a data set's inputs, and how good that is, whatever the task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from kzoo.errors import KzooError
from kzoo.recipes.evaluation import scores
from kzoo.recipes.evaluation.scores import RESAMPLES, Bin, Pair, Score
from kzoo.runtime.generation import Likelihood, sum_of
from kzoo.runtime.inputs import Pixels
from kzoo.runtime.tokens import Guesses
from kzoo.vision import preprocess

Scoring = Callable[..., dict[str, Score]]
Comparing = Callable[..., dict[str, Pair]]


@dataclass(frozen=True)
class Answers(ABC):
    """A bundle's answers, one for each input, in order.

    Attributes:
        found: translations, names of classes, lists of names, or numbers.
    """

    found: Sequence[Any]

    _score: ClassVar[Scoring]
    _compare: ClassVar[Comparing]

    @classmethod
    @abstractmethod
    def ask(cls, pipeline: Any, inputs: Sequence[Any], **options: Any) -> Answers:
        """Run a pipeline, from `kzoo.load`, on all inputs."""

    def _options(self) -> dict[str, Any]:
        """Return what this task's functions of `kzoo.recipes.evaluation.scores` are told besides."""
        return {}

    def scores(self, expected: Sequence[Any], *, resamples: int = RESAMPLES) -> dict[str, Score]:
        """Return the scores of the task by name, the one that leads by default first.

        Raises:
            KzooError: there are not as many answers as things that should come out, or none.
        """
        return type(self)._score(self.found, expected, resamples=resamples, **self._options())

    def compare(self, other: Answers, expected: Sequence[Any]) -> dict[str, Pair]:
        """Return the scores that have margins, beside those of another bundle's answers to the same inputs."""
        return type(self)._compare(self.found, other.found, expected, **self._options())

    def details(self, expected: Sequence[Any]) -> dict[str, Any]:
        """Return what there is to say beside the scores, as JSON can hold it: see docs/scores.md."""
        return {}

    def losses(self, expected: Sequence[Any]) -> np.ndarray | None:
        """Return how wrong each answer is, float64 (inputs,), if that can be said of one by itself."""
        return None


@dataclass(frozen=True)
class Translations(Answers):
    """Texts for texts.

    Attributes:
        language: what they are in, as for `translation_scores`.
    """

    language: str | None = None
    _score, _compare = staticmethod(scores.translation_scores), staticmethod(scores.compare_translations)

    @classmethod
    def ask(
        cls, pipeline: Any, inputs: Sequence[Any], *, language: str | None = None, **options: Any
    ) -> Translations:
        """Translate all inputs."""
        return cls([result["translation"] for result in pipeline(list(inputs), **options)], language)

    def _options(self) -> dict[str, Any]:
        return {"language": self.language}


@dataclass(frozen=True)
class _Chosen(Answers):
    """Answers that are chosen by probability.

    Attributes:
        labels: the names that there are.
        probabilities: float64 (inputs, labels).
        named: those labels whose own F1 is a score too.
    """

    labels: Sequence[str]
    probabilities: np.ndarray
    named: tuple[str, ...] = ()
    single: ClassVar[bool]

    def _options(self) -> dict[str, Any]:
        return {"named": self.named}

    def right(self, expected: Sequence[Any]) -> np.ndarray:
        """Return which labels each input should have, bool (inputs, labels)."""
        sets = [[name] for name in expected] if self.single else expected
        return scores.indicators(sets, self.labels).astype(bool).toarray()

    def scores(self, expected: Sequence[Any], *, resamples: int = RESAMPLES) -> dict[str, Score]:
        """Return the scores of the answers, and of the probabilities that they were chosen by."""
        found = super().scores(expected, resamples=resamples)
        right = self.right(expected)
        return found | scores.probability_scores(self.probabilities, right, single=self.single)

    def bins(self, expected: Sequence[Any]) -> list[Bin]:
        """Return how often answers of like probability are right."""
        return scores.calibration(
            *scores.confidences(self.probabilities, self.right(expected), single=self.single)
        )

    def details(self, expected: Sequence[Any]) -> dict[str, Any]:
        """Return a table of the classes, and how often answers of like probability are right."""
        ranking = scores.ranking_scores(self.probabilities, self.right(expected))
        table = self._table(expected)
        return {
            "classes": {label: table[label] | more for label, more in zip(self.labels, ranking, strict=True)},
            "calibration": [asdict(each) for each in self.bins(expected)],
        }

    @abstractmethod
    def _table(self, expected: Sequence[Any]) -> dict[str, dict[str, float]]: ...


@dataclass(frozen=True)
class Classes(_Chosen):
    """One class for each input."""

    single = True
    _score, _compare = staticmethod(scores.class_scores), staticmethod(scores.compare_classes)

    @classmethod
    def ask(
        cls,
        pipeline: Any,
        inputs: Sequence[Any],
        *,
        named: Sequence[str] = (),
        mirrored: bool = False,
        **options: Any,
    ) -> Classes:
        """Classify all inputs; images perhaps by the mean of the answers to them and to their mirror images."""
        ask = partial(_mirrored, pipeline) if mirrored else pipeline.probabilities
        probabilities = ask(list(inputs), **options)
        labels = pipeline.class_names(probabilities.shape[1])
        found = [labels[place] for place in probabilities.argmax(axis=1)]
        return cls(found, labels, probabilities, tuple(named))

    def _table(self, expected: Sequence[str]) -> dict[str, dict[str, float]]:
        return scores.class_table(self.found, expected, self.labels)

    def details(self, expected: Sequence[str]) -> dict[str, Any]:
        """Return what there is of chosen answers, and which classes were taken for which."""
        return super().details(expected) | {"confusion": scores.confusion(self.found, expected)}

    def losses(self, expected: Sequence[str]) -> np.ndarray:
        """Return the cross-entropy of each answer."""
        return -np.log(np.maximum(self.probabilities[self.right(expected)], 1e-300))


def _mirrored(pipeline: Any, images: list[Any], batch_size: int = 32) -> np.ndarray:
    """Return the mean of the probabilities for images and for their mirror images, float64 (images, labels)."""
    found = []
    for start in range(0, len(images), batch_size):
        chunk = images[start : start + batch_size]
        pixels = preprocess(chunk, pipeline.reader.settings, first_index=start)
        sides = (list(map(Pixels, side)) for side in (pixels, pixels[:, :, ::-1]))
        found.append(np.mean([pipeline.probabilities(side, batch_size=batch_size) for side in sides], axis=0))
    return np.concatenate(found)


@dataclass(frozen=True)
class LabelSets(_Chosen):
    """Any number of labels for each input: those whose probability is high enough.

    Attributes:
        thresholds: float64 (labels,), how high.
    """

    thresholds: np.ndarray | None = None
    single = False
    _score, _compare = staticmethod(scores.label_scores), staticmethod(scores.compare_label_sets)

    @classmethod
    def ask(
        cls, pipeline: Any, inputs: Sequence[Any], *, named: Sequence[str] = (), **options: Any
    ) -> LabelSets:
        """Label all inputs, by the bundle's own thresholds."""
        probabilities = pipeline.probabilities(list(inputs), **options)
        labels = pipeline.class_names(probabilities.shape[1])
        asked = cls([], labels, probabilities, tuple(named))
        return asked.above(np.asarray(pipeline.manifest.thresholds or [0.5] * len(labels)))

    def above(self, thresholds: np.ndarray) -> LabelSets:
        """Return what the answers are by these thresholds."""
        found = [
            [self.labels[place] for place in np.flatnonzero(row).tolist()]
            for row in self.probabilities >= thresholds
        ]
        return replace(self, found=found, thresholds=thresholds)

    def tuned(self, expected: Sequence[Sequence[str]], metric: str) -> np.ndarray:
        """Return the thresholds that give the best F1 of these answers, see `tune_thresholds`."""
        metric = metric if metric == "micro_f1" else "macro_f1"
        return scores.tune_thresholds(self.probabilities, self.right(expected), metric=metric)

    def _table(self, expected: Sequence[Sequence[str]]) -> dict[str, dict[str, float]]:
        table = scores.label_table(self.found, expected, self.labels)
        thresholds = self.thresholds if self.thresholds is not None else ()
        return {
            label: row | {"threshold": float(threshold)}
            for (label, row), threshold in zip(table.items(), thresholds, strict=True)
        }

    def losses(self, expected: Sequence[Sequence[str]]) -> np.ndarray:
        """Return the cross-entropy of each input's labels together."""
        right = self.right(expected)
        chances = np.where(right, self.probabilities, 1 - self.probabilities)
        return -np.log(np.maximum(chances, 1e-300)).sum(axis=1)


@dataclass(frozen=True)
class WordLabels(Answers):
    """A label for each word of each text."""

    _score, _compare = staticmethod(scores.span_scores), staticmethod(scores.compare_spans)

    @classmethod
    def ask(cls, pipeline: Any, inputs: Sequence[Any], **options: Any) -> WordLabels:
        """Label the words of all texts."""
        return cls(pipeline.word_labels(list(inputs), **options))

    def details(self, expected: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Return a table of the kinds of spans."""
        return {"classes": scores.span_table(self.found, expected)}

    def losses(self, expected: Sequence[Sequence[str]]) -> np.ndarray:
        """Return how many words of each text have a wrong label."""
        return np.array(
            [
                float(sum(one != other for one, other in zip(*sides, strict=True)))
                for sides in zip(self.found, expected, strict=True)
            ]
        )


@dataclass(frozen=True)
class Numbers(Answers):
    """A number for each input.

    Attributes:
        name: what they are.
    """

    name: str = "number found"
    _score, _compare = staticmethod(scores.number_scores), staticmethod(scores.compare_numbers)

    @classmethod
    def ask(cls, pipeline: Any, inputs: Sequence[Any], **options: Any) -> Numbers:
        """Grade all inputs."""
        return cls([result["score"] for result in pipeline(list(inputs), **options)])

    def losses(self, expected: Sequence[float]) -> np.ndarray:
        """Return how far each number is from the right one."""
        return np.abs(np.asarray(self.found) - np.asarray(expected))


@dataclass(frozen=True)
class Similarities(Numbers):
    """The cosine of two texts' embeddings, for each pair."""

    name: str = "cosine of the embeddings"

    @classmethod
    def ask(cls, pipeline: Any, inputs: Sequence[Any], **options: Any) -> Similarities:
        """Embed both texts of all pairs.

        Raises:
            KzooError: an input is no pair.
        """
        for place, pair in enumerate(inputs):
            if not isinstance(pair, tuple):
                raise KzooError(f"Example {place} is no pair of texts, which similarities are scored on.")
        texts = list(dict.fromkeys(text for pair in inputs for text in pair))
        vectors = pipeline(texts, **options).astype(np.float64)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        rows = dict(zip(texts, vectors, strict=True))
        return cls([float(rows[one] @ rows[other]) for one, other in inputs])

    def losses(self, expected: Sequence[float]) -> np.ndarray:
        """Return how far each pair's rank is from the right one, as a share: cosines have a scale of their own."""
        each = np.ones((1, len(expected)))
        places = [scores.ranks(np.asarray(side), each)[0] / len(expected) for side in (self.found, expected)]
        return np.abs(places[0] - places[1])


@dataclass(frozen=True)
class Likelihoods(Answers):
    """How probable each text is, part by part."""

    found: Sequence[Sequence[Likelihood]]

    @classmethod
    def ask(cls, pipeline: Any, inputs: Sequence[Any], **options: Any) -> Likelihoods:
        """Tell each token of all texts from those before."""
        return cls(pipeline.likelihoods(inputs, **options))

    def scores(self, expected: Sequence[Any], *, resamples: int = RESAMPLES) -> dict[str, Score]:
        """Return the scores of the texts, which are what should come out themselves."""
        return scores.likelihood_scores([part for parts in self.found for part in parts], resamples=resamples)

    def compare(self, other: Answers, expected: Sequence[Any]) -> dict[str, Pair]:
        """Return the scores beside those of another bundle, text by text: their parts may differ."""
        return scores.compare_likelihoods(
            *([sum_of(parts) for parts in side.found] for side in (self, other))
        )


@dataclass(frozen=True)
class HiddenTokens(Answers):
    """How well hidden tokens of each text are guessed, part by part."""

    found: Sequence[Sequence[Guesses]]

    @classmethod
    def ask(cls, pipeline: Any, inputs: Sequence[Any], **options: Any) -> HiddenTokens:
        """Hide tokens of all texts, the same ones each time, and guess them."""
        return cls(pipeline.guesses(inputs, **options))

    def scores(self, expected: Sequence[Any], *, resamples: int = RESAMPLES) -> dict[str, Score]:
        """Return the scores of the texts, which are what should come out themselves."""
        return scores.guess_scores([part for parts in self.found for part in parts], resamples=resamples)

    def compare(self, other: Answers, expected: Sequence[Any]) -> dict[str, Pair]:
        """Return the scores beside those of another bundle, text by text: their parts may differ."""
        return scores.compare_guesses(
            *(
                [
                    Guesses(
                        sum(part.log_probability for part in parts),
                        sum(part.tokens for part in parts),
                        sum(part.right for part in parts),
                    )
                    for parts in side.found
                ]
                for side in (self, other)
            )
        )


# By the task of the bundle.
ANSWERS: Mapping[str, type[Answers]] = {
    "classification": Classes,
    "image_classification": Classes,
    "multilabel": LabelSets,
    "tokens": WordLabels,
    "regression": Numbers,
    "embedding": Similarities,
    "seq2seq": Translations,
    "causal_lm": Likelihoods,
    "mlm": HiddenTokens,
}
