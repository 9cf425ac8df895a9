# ruff: noqa: RUF001 (quotation marks that look like others are what is evened out)
"""Scores of translations, against the programs that others use for them."""

from __future__ import annotations

import random

import pytest

from kzoo.errors import KzooError
from kzoo.recipes.evaluation.moses import moses
from kzoo.recipes.evaluation.scores import compare_translations, translation_scores
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


def test_unequal_numbers_are_refused_with_both():
    require("sacrebleu")
    with pytest.raises(KzooError, match="2 answers, but 3"):
        translation_scores(["a", "b"], ["a", "b", "c"])
    with pytest.raises(KzooError, match="nothing to compare"):
        translation_scores([], [])
