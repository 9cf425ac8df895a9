"""What the translation page knows of languages, words and attention, without a browser."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import kzoo
from kzoo.apps import heatmap, translating
from kzoo.apps.languages import Direction, directions
from kzoo.errors import KzooError
from tests import bundles


def named(name: str, *languages: str) -> SimpleNamespace:
    return SimpleNamespace(name=name, languages=languages)


@pytest.fixture(scope="module")
def german(tmp_path_factory):
    return Direction(
        kzoo.load(bundles.write_translator(tmp_path_factory.mktemp("bundle") / "en-de")), "en", "de"
    )


def test_languages_come_from_the_bundles_names():
    found = directions(
        [
            named("translate-en-de"),
            named("opus-mt_fr-en"),
            named("mine"),
            named("opus-mt-en-ROMANCE", "fr", "pt_BR", "xyz"),
            named("de-other"),
        ]
    )
    assert list(found) == [
        "English → German",
        "French → English",
        "Text → Translation (mine)",
        "English → French",
        "English → Portuguese",
        "English → xyz",
        "Text → Translation (de-other)",
    ]
    assert [each.target_language for each in found.values()] == [None, None, None, "fr", "pt_BR", "xyz", None]


def test_two_bundles_of_one_pair_are_told_apart():
    assert list(directions([named("en-de"), named("en-de-int8"), named("de-en")])) == [
        "English → German (en-de)",
        "English → German (en-de-int8)",
        "German → English",
    ]


@pytest.mark.parametrize("steps", [translating.stream, translating.in_batches])
def test_a_text_grows_line_by_line_to_what_a_call_gives(german, steps, monkeypatch):
    monkeypatch.setattr(translating, "_PAUSE", -1)
    monkeypatch.setattr(translating, "_AT_ONCE", 1)
    text = "- A dog runs.\n\n3\n  A cat sleeps. A dog runs."
    shown = [work.result for work in steps(translating.begin(german, text, 1))]
    assert shown[-1] == "- Ein Hund rennt.\n\n3\n  Ein Kater schläft. Ein Hund rennt."
    assert shown[-1] == german.pipeline.translate_document(text)
    assert len(set(shown)) >= 4
    assert {result.count("\n") for result in shown} == {3}


def test_other_words_are_offered_with_what_they_lead_to(german):
    (*_, work) = translating.stream(translating.begin(german, "A dog runs.", 1))
    work = work.look(0)
    assert work.words() == ["Ein", "Hund", "rennt", "."]
    (first, probability, beginning), (second, less, other) = work.alternatives(1)[:2]
    assert (first, beginning) == ("Hund", "Ein Hund")
    assert (second, other) == ("Kater", "Ein Kater")
    assert probability == pytest.approx(0.88, abs=0.01)
    assert less == pytest.approx(0.12, abs=0.01)
    assert work.look(0, other).result == "Ein Kater rennt."
    # A sign stands right behind its word.
    assert work.alternatives(3)[0][2] == "Ein Hund rennt."


def test_no_translation_is_listed_twice(german):
    (*_, work) = translating.in_batches(translating.begin(german, "A dog runs.", 8))
    found = [each["translation"] for each in work.look(0).found]
    assert found[:2] == ["Ein Hund rennt.", "Ein Kater rennt."]
    assert len(found) == len(set(found))


def test_beams_have_a_limit(german):
    with pytest.raises(KzooError, match="1 to 8 beams, not 9"):
        translating.begin(german, "A dog", 9)


@pytest.mark.parametrize("text", ["\ud83d", "A dog \udc00 runs."])
def test_half_a_character_is_refused(german, text):
    with pytest.raises(KzooError, match="half of a surrogate pair"):
        translating.begin(german, text, 1)


def test_a_map_shows_weights_and_no_markup():
    table = heatmap.draw(
        {
            "source": ["<b>", " a\n\n"],
            "target": ["&"],
            "weights": np.array([[0.95, 0.05]], np.float32),
        }
    )
    assert "<b>" not in table
    assert "\n" not in table
    assert "<th>&amp;</th>" in table
    assert '<td class="shade-9" title="0.95">' in table
    assert '<td class="shade-0" title="0.05">' in table
