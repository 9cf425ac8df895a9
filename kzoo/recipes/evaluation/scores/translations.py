"""Scores of translations, with what it takes to compare them with others'."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from kzoo.recipes.evaluation.moses import moses
from kzoo.recipes.evaluation.scores.resampling import RESAMPLES, Pair, Score, affordable, check_counts

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

MOSES_BLEU = "bleu_lowercased_tokenized"


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
        `language` also `bleu_lowercased_tokenized`, see `kzoo.recipes.evaluation.moses.moses`.

    Raises:
        KzooError: there are no texts, not as many translations as references, or Moses does not know the language.

    Example:
        >>> scores = translation_scores(["Ein Hund läuft."], ["Ein Hund läuft."], resamples=0)
        >>> {name: round(score.value, 1) for name, score in scores.items()}
        {'bleu': 100.0, 'chrf': 100.0, 'ter': 0.0}
    """
    check_counts(references, translations)
    times = affordable(resamples, len(references))
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
    check_counts(references, first, second)
    from sacrebleu.significance import PairedTest

    times = affordable(resamples, len(references))
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
