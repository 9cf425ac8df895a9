# ruff: noqa: RUF001 (quotation marks that look like others are what is evened out)
"""Scores, against the programs that others use for them."""

from __future__ import annotations

import random

import numpy as np
import pytest

from kzoo.errors import KzooError
from kzoo.recipes.moses import moses
from kzoo.recipes.scores import class_scores, compare_classes, compare_translations, translation_scores
from tests.optional import require

CHANCE = random.Random(0)
WORDS = [
    "Ein",
    "Hund",
    "läuft",
    "über",
    "die",
    "Straße",
    "während",
    "zwei",
    "Männer",
    "am",
    "Tisch",
    "sitzen",
]
REFERENCES = [" ".join(CHANCE.choices(WORDS, k=12)) + "." for _ in range(60)]


def worsened(texts: list[str], share: float) -> list[str]:
    return [" ".join(word for word in text.split() if CHANCE.random() > share) or "Ja" for text in texts]


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        # What the original scripts make of these: lowercase, normalize-punctuation, tokenizer.
        ("de", "Er trägt „New York“-Schuhe.", "er trägt &quot; new york &quot; -schuhe ."),
        ("de", "Das „Hook ’em Horns“-Zeichen. ", "das &quot; hook &quot; em horns &quot; -zeichen ."),
        ("de", "U-Bahn, z.B. um 12.30 Uhr", "u-bahn , z.b. um 12.30 uhr"),
        (
            "fr",
            'Un bar qui s\'appelle "32 De Neude."',
            "un bar qui s&apos; appelle &quot; 32 de neude &quot; .",
        ),
        ("fr", "Un coup d’œil à l’œuvre…", "un coup d &quot; œil à l &quot; œuvre ..."),
        ("en", "A man's T-shirt isn't $5,000 (yet).", "a man &apos;s t-shirt isn &apos;t $ 5,000 ( yet ) ."),
        ("en", "", ""),
    ],
)
def test_texts_are_prepared_as_moses_does(language, text, expected):
    require("sacremoses")
    assert moses([text], language) == [expected]


def test_a_language_that_moses_does_not_know_is_refused():
    require("sacremoses")
    with pytest.raises(KzooError, match="'xx'"):
        moses(["A text."], "xx")


def test_translations_score_as_sacrebleu_says():
    sacrebleu = require("sacrebleu")
    translations = worsened(REFERENCES, 0.2)
    scores = translation_scores(translations, REFERENCES, language="de")
    assert list(scores) == ["bleu", "chrf", "ter", "bleu_lowercased_tokenized"]
    assert scores["bleu"].value == sacrebleu.corpus_bleu(translations, [REFERENCES]).score
    assert scores["chrf"].value == sacrebleu.corpus_chrf(translations, [REFERENCES]).score
    assert scores["ter"].value == sacrebleu.corpus_ter(translations, [REFERENCES]).score
    prepared = sacrebleu.corpus_bleu(
        moses(translations, "de"), [moses(REFERENCES, "de")], tokenize="none", force=True
    )
    assert scores["bleu_lowercased_tokenized"].value == prepared.score
    signature = "nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp|version:"
    assert scores["bleu"].signature.startswith(signature)
    assert scores["bleu_lowercased_tokenized"].signature.startswith("moses:lc.norm.tok.de|sacremoses:")
    assert 0.5 < scores["bleu"].margin < 10
    assert translation_scores(translations, REFERENCES, resamples=0)["bleu"].margin is None
    assert str(translation_scores(REFERENCES, REFERENCES)["bleu"]) == "100 ± 0"


def test_case_counts_in_bleu_and_not_in_the_lower_cased_one():
    require("sacremoses")
    shouted = [text.title() for text in REFERENCES]
    scores = translation_scores(shouted, REFERENCES, language="de", resamples=0)
    assert scores["bleu"].value < 90
    assert scores["bleu_lowercased_tokenized"].value == pytest.approx(100)


def test_of_two_translators_the_better_one_is_found_out():
    require("sacrebleu")
    good, bad = worsened(REFERENCES, 0.1), worsened(REFERENCES, 0.4)
    pairs = compare_translations(bad, good, REFERENCES, language="de")
    assert list(pairs) == ["bleu", "chrf", "ter", "bleu_lowercased_tokenized"]
    alone = translation_scores(bad, REFERENCES, language="de")
    for name, pair in pairs.items():
        assert pair.p_value < 0.01
        assert (pair.second.value > pair.first.value) == (name != "ter")
        assert pair.first.value == alone[name].value
        assert pair.first.margin == pytest.approx(alone[name].margin, rel=1e-6)
    again = compare_translations(good, good, REFERENCES)
    assert {pair.p_value for pair in again.values()} == {1.0}


def answered(rng: np.random.Generator, right: np.ndarray, share: float) -> np.ndarray:
    return np.where(rng.random(len(right)) < share, right, rng.choice(["a", "b", "c"], len(right)))


def test_classes_score_as_scikit_learn_says():
    metrics = require("sklearn.metrics")
    rng = np.random.default_rng(0)
    right = rng.choice(["a", "b", "c", "rare"], 400, p=[0.6, 0.3, 0.09, 0.01])
    found = answered(rng, right, 0.8)
    scores = class_scores(list(found), list(right))
    accuracy = metrics.accuracy_score(right, found)
    assert scores["accuracy"].value == pytest.approx(accuracy)
    assert scores["macro_f1"].value == pytest.approx(metrics.f1_score(right, found, average="macro"))
    # What theory says of a share.
    assert scores["accuracy"].margin == pytest.approx(
        1.96 * np.sqrt(accuracy * (1 - accuracy) / 400), rel=0.1
    )


def test_of_two_classifiers_the_better_one_is_found_out():
    rng = np.random.default_rng(1)
    right = rng.choice(["a", "b", "c"], 500)
    good, bad, other = (list(answered(rng, right, share)) for share in (0.9, 0.7, 0.9))
    pairs = compare_classes(bad, good, list(right))
    assert {name: pair.p_value < 0.01 for name, pair in pairs.items()} == {
        "accuracy": True,
        "macro_f1": True,
        "micro_f1": True,
    }
    assert pairs["accuracy"].second.value == class_scores(good, list(right))["accuracy"].value
    assert all(pair.p_value > 0.05 for pair in compare_classes(other, good, list(right)).values())
    assert {pair.p_value for pair in compare_classes(good, good, list(right)).values()} == {1.0}


def test_a_paired_test_sees_what_two_margins_hide():
    """Ten examples of 500 that one gets right and the other not, and no other difference."""
    right = ["a"] * 500
    one = ["b"] * 100 + ["a"] * 400
    other = ["b"] * 90 + ["a"] * 410
    pair = compare_classes(one, other, right)["accuracy"]
    assert pair.second.value - pair.first.value < pair.first.margin
    assert pair.p_value < 0.01


@pytest.mark.parametrize("compare", [translation_scores, class_scores])
def test_unequal_numbers_are_refused_with_both(compare):
    require("sacrebleu")
    with pytest.raises(KzooError, match="2 answers, but 3"):
        compare(["a", "b"], ["a", "b", "c"])
    with pytest.raises(KzooError, match="nothing to compare"):
        compare([], [])
