"""Scores of what models answer, each with what it takes to know how much of it is chance."""

from kzoo.recipes.evaluation.scores.classes import (
    class_scores,
    class_table,
    compare_classes,
    compare_label_sets,
    confusion,
    indicators,
    label_scores,
    label_table,
    named_classes,
)
from kzoo.recipes.evaluation.scores.likelihoods import (
    compare_guesses,
    compare_likelihoods,
    guess_scores,
    likelihood_scores,
)
from kzoo.recipes.evaluation.scores.numbers import compare_numbers, number_scores, ranks
from kzoo.recipes.evaluation.scores.probabilities import (
    MOST_RANKED,
    Bin,
    calibration,
    confidences,
    probability_scores,
    ranking_scores,
)
from kzoo.recipes.evaluation.scores.resampling import RESAMPLES, Pair, Score
from kzoo.recipes.evaluation.scores.spans import compare_spans, span_scores, span_table
from kzoo.recipes.evaluation.scores.thresholds import tune_thresholds
from kzoo.recipes.evaluation.scores.translations import MOSES_BLEU, compare_translations, translation_scores

__all__ = [
    "MOSES_BLEU",
    "MOST_RANKED",
    "RESAMPLES",
    "Bin",
    "Pair",
    "Score",
    "calibration",
    "class_scores",
    "class_table",
    "compare_classes",
    "compare_guesses",
    "compare_label_sets",
    "compare_likelihoods",
    "compare_numbers",
    "compare_spans",
    "compare_translations",
    "confidences",
    "confusion",
    "guess_scores",
    "indicators",
    "label_scores",
    "label_table",
    "likelihood_scores",
    "named_classes",
    "number_scores",
    "probability_scores",
    "ranking_scores",
    "ranks",
    "span_scores",
    "span_table",
    "translation_scores",
    "tune_thresholds",
]
