"""Texts said in other words, through bundles that translate."""

import pytest

from kzoo import KzooError
from kzoo.recipes.data.back_translation import back_translator
from tests import bundles


def test_texts_go_there_and_back_once(tmp_path):
    bundles.write_translator(tmp_path / "there")
    said = []
    texts = ["A dog runs.", ("A cat sleeps.", "A dog runs.")]
    translate = back_translator(["there", "there"], tmp_path, texts, said.append)
    # The second pass leaves the first one's words as they are.
    assert translate(["A cat sleeps.", "A dog runs."]) == ["Ein Kater schläft.", "Ein Hund rennt."]
    assert said == ["Translating 2 texts there and back."]


def test_bundles_that_do_not_translate(tmp_path):
    bundles.write_text_classifier(tmp_path / "topic")
    with pytest.raises(KzooError, match="'topic' is for the task 'classification'"):
        back_translator(["topic", "topic"], tmp_path, ["a dog"])
    with pytest.raises(KzooError, match="'elsewhere' is missing"):
        back_translator(["elsewhere", "topic"], tmp_path, ["a dog"])
