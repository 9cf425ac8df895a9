"""Sentences are found by their punctuation, and nothing of a paragraph gets lost."""

from __future__ import annotations

import pytest

from kzoo.text.sentences import split_sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["One. ", "Two! ", "Three? ", "Four"],
        ['He said "Yes." ', "(She left.) ", "\u201eNein!\u201c ", "\u00abBon.\u00bb ", "Ja\u2026 ", "Gut."],
        ["Dr. Who and J. R. Smith met Mrs. Jones at 5 p.m. in St. Ives. ", "Next."],
        ["Am 3. Oktober kam z.B. Herr Prof. Meier, d.h. er. ", "Dann nicht."],
        ["M. Dupont arrive le 12. Mai. ", "Et puis?"],
        ["It cost 3.50 e.g. here, i.e. www.example.com is down. ", "In 1999. ", "\u00bfQu\u00e9?"],
        ["What? no. maybe... it is"],
        ["\u4eca\u65e5\u306f\u3002", "\u5143\u6c17\uff1f", "\u306f\u3044"],
        ["\u0645\u0631\u062d\u0628\u0627\u061f ", "\u0646\u0639\u0645."],
        ["No end"],
        ["   "],
        [],
    ],
)
def test_sentences(sentences):
    assert split_sentences("".join(sentences)) == sentences


def test_long_texts_take_no_time():
    text = "a" * 100_000 + ". " + "?!" * 50_000 + "A. " * 10_000
    assert "".join(split_sentences(text)) == text
