"""Scores of translations and of classes, with what it takes to compare them with others'."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from kzoo.errors import KzooError
from kzoo.recipes.moses import moses

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

RESAMPLES = 1000
# What resampling may hold at once: examples times resamples.
_MOST_DRAWN = 10_000_000
_SEED = 12_345  # sacreBLEU's
MOSES_BLEU = "bleu_lowercased_tokenized"


@dataclass(frozen=True)
class Score:
    """A score, and how sure it is.

    Attributes:
        value: the score.
        margin: half the width of its 95% confidence interval, by bootstrap resampling of the examples; None if it was
            not asked for.
        signature: how it was computed, as sacreBLEU writes it; empty where the score's name says it all.
    """

    value: float
    margin: float | None = None
    signature: str = ""

    def __str__(self) -> str:
        return f"{self.value:.4g}" + (f" ± {self.margin:.2g}" if self.margin is not None else "")


@dataclass(frozen=True)
class Pair:
    """A score of two models on the same examples.

    Attributes:
        first: the first model's.
        second: the second's.
        p_value: how probable a difference at least this large would be if the models were equally good, by paired
            bootstrap resampling (Koehn, 2004): both are scored on the same resamples.
    """

    first: Score
    second: Score
    p_value: float


@dataclass(frozen=True)
class _Measure:
    """One of sacreBLEU's metrics, and what is done to texts before."""

    metric: Metric
    prepare: Callable[[Sequence[str]], list[str]] = list
    prepared: str = ""

    def signature(self) -> str:
        return "|".join(filter(None, (self.prepared, str(self.metric.get_signature()))))


def translation_scores(
    translations: Sequence[str],
    references: Sequence[str],
    *,
    language: str | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Score]:
    """Compare translations with one reference each.

    Args:
        translations: texts as they would be shown: cased, not tokenized.
        references: what they should be, in the same order.
        language: code of the language that they are in, such as `"de"`, for the score that needs Moses' tokenizer.
        resamples: how many resamples the margins come from, fewer where there are more than 10,000 texts; 0 for no
            margins.

    Returns:
        `bleu`, `chrf` and `ter` of sacreBLEU, of 0 to 100: higher is better for the first two, lower for `ter`. With
        `language` also `bleu_lowercased_tokenized`, see `kzoo.recipes.moses.moses`.

    Raises:
        KzooError: there are no texts, not as many translations as references, or Moses does not know the language.

    Example:
        >>> scores = translation_scores(["Ein Hund läuft."], ["Ein Hund läuft."], resamples=0)
        >>> {name: round(score.value, 1) for name, score in scores.items()}
        {'bleu': 100.0, 'chrf': 100.0, 'ter': 0.0}
    """
    _check_counts(references, translations)
    times = _affordable(resamples, len(references))
    scores = {}
    for name, measure in _measures(language).items():
        hypotheses, wanted = measure.prepare(translations), measure.prepare(references)
        found = measure.metric.corpus_score(hypotheses, [wanted], n_bootstrap=times)
        scores[name] = Score(float(found.score), float(found._ci) if times else None, measure.signature())
    return scores


def compare_translations(
    first: Sequence[str],
    second: Sequence[str],
    references: Sequence[str],
    *,
    language: str | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Pair]:
    """Compare two models' translations of the same texts, in each of the scores of `translation_scores`.

    Raises:
        KzooError: as `translation_scores` does.
    """
    _check_counts(references, first, second)
    from sacrebleu.significance import PairedTest

    times = _affordable(resamples, len(references))
    pairs = {}
    for name, measure in _measures(language).items():
        systems: Any = [
            (side, measure.prepare(texts)) for side, texts in (("first", first), ("second", second))
        ]
        # One at a time: it tells metrics apart by names, and two of ours are both BLEU to it.
        test: Any = PairedTest(systems, {name: measure.metric}, [measure.prepare(references)], "bs", times)
        signatures, found = test()
        ((key, signature),) = signatures.items()
        text = "|".join(filter(None, (measure.prepared, str(signature))))
        one, other = (Score(float(side.score), float(side.ci), text) for side in found[key])
        # It calls a difference of nothing significant.
        pairs[name] = Pair(one, other, float(found[key][1].p_value) if one.value != other.value else 1.0)
    return pairs


def class_scores(
    predicted: Sequence[str], expected: Sequence[str], *, resamples: int = RESAMPLES
) -> dict[str, Score]:
    """Compare predicted classes with the right ones.

    Args:
        predicted: names of classes.
        expected: the right ones, in the same order.
        resamples: as for `translation_scores`.

    Returns:
        `accuracy`, and `macro_f1`, the mean of all classes' F1; both from 0 to 1.

    Raises:
        KzooError: there are no examples, or not as many of the one as of the other.

    Example:
        >>> scores = class_scores(["a", "b", "b", "b"], ["a", "a", "b", "b"], resamples=0)
        >>> scores["accuracy"].value, round(scores["macro_f1"].value, 3)
        (0.75, 0.733)
    """
    _check_counts(expected, predicted)
    table = _Outcomes.count(expected, predicted)
    drawn = table.draw(resamples)
    return {
        name: Score(float(value[0]), _margin(measured))
        for (name, value), measured in zip(
            table.scores(0, table.counts[None]).items(), table.scores(0, drawn).values(), strict=True
        )
    }


def compare_classes(
    first: Sequence[str], second: Sequence[str], expected: Sequence[str], *, resamples: int = RESAMPLES
) -> dict[str, Pair]:
    """Compare two models' classes for the same inputs, in each of the scores of `class_scores`.

    Raises:
        KzooError: as `class_scores` does.
    """
    _check_counts(expected, first, second)
    table = _Outcomes.count(expected, first, second)
    drawn = table.draw(resamples)
    whole = [table.scores(side, table.counts[None]) for side in (0, 1)]
    parts = [table.scores(side, drawn) for side in (0, 1)]
    pairs = {}
    for name in whole[0]:
        one, other = (
            Score(float(values[name][0]), _margin(resampled[name]))
            for values, resampled in zip(whole, parts, strict=True)
        )
        apart = parts[1][name] - parts[0][name]
        beyond = np.abs(apart - apart.mean()) >= abs(other.value - one.value)
        pairs[name] = Pair(one, other, float((beyond.sum() + 1) / (len(apart) + 1)))
    return pairs


@dataclass(frozen=True)
class _Outcomes:
    """How often each combination of a right class and the models' answers came up.

    Resampling examples is drawing how often each came up, so no example is looked at twice.

    Attributes:
        right: int (combinations,), the right classes, numbered.
        answers: for each model int (combinations,), its answers.
        counts: int (combinations,).
        classes: how many classes there are.
    """

    right: np.ndarray
    answers: list[np.ndarray]
    counts: np.ndarray
    classes: int

    @classmethod
    def count(cls, expected: Sequence[str], *predicted: Sequence[str]) -> _Outcomes:
        names, numbers = np.unique(np.array([expected, *predicted]), return_inverse=True)
        combinations, counts = np.unique(numbers.reshape(1 + len(predicted), -1), axis=1, return_counts=True)
        return cls(combinations[0], list(combinations[1:]), counts, len(names))

    def draw(self, resamples: int) -> np.ndarray:
        """Return counts of resampled examples (resamples, combinations)."""
        total = int(self.counts.sum())
        times = _affordable(resamples, len(self.counts))
        return np.random.default_rng(_SEED).multinomial(total, self.counts / total, size=times)

    def scores(self, model: int, counts: np.ndarray) -> dict[str, np.ndarray]:
        """Return a model's scores (rows,) for counts (rows, combinations)."""
        answers, hit = self.answers[model], self.right == self.answers[model]
        columns = np.eye(self.classes)
        hits = counts[:, hit] @ columns[self.right[hit]]
        mentions = counts @ (columns[self.right] + columns[answers])
        f1 = np.divide(2 * hits, mentions, out=np.zeros_like(hits), where=mentions > 0)
        # A class that neither came up nor was answered has no score.
        return {
            "accuracy": hits.sum(axis=1) / counts.sum(axis=1),
            "macro_f1": f1.sum(axis=1) / (mentions > 0).sum(axis=1),
        }


def _measures(language: str | None) -> dict[str, _Measure]:
    from sacrebleu.metrics import BLEU, CHRF, TER

    measures = {"bleu": _Measure(BLEU()), "chrf": _Measure(CHRF()), "ter": _Measure(TER())}
    if language is not None:
        measures[MOSES_BLEU] = _Measure(
            BLEU(tokenize="none", force=True),
            lambda texts: moses(texts, language),
            f"moses:lc.norm.tok.{language}|sacremoses:{version('sacremoses')}",
        )
    return measures


def _check_counts(expected: Sequence[str], *found: Sequence[str]) -> None:
    if not expected:
        raise KzooError("There is nothing to compare: the list of what should come out is empty.")
    for answers in found:
        if len(answers) != len(expected):
            raise KzooError(
                f"There are {len(answers)} answers, but {len(expected)} things that should come out."
            )


def _affordable(resamples: int, examples: int) -> int:
    return min(resamples, max(100, _MOST_DRAWN // examples))


def _margin(values: np.ndarray) -> float | None:
    """Return half the width of the middle 95% of some scores, as sacreBLEU reckons it."""
    if not len(values):
        return None
    ordered = np.sort(values)
    outside = len(values) // 40
    return float(ordered[len(values) - outside - 1] - ordered[outside]) / 2
