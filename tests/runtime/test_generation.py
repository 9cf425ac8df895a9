"""Beams in the pipelines that write text: what they find, how it is scored, and what they refuse."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

import kzoo
from kzoo.errors import KzooError
from tests.bundles import ALPHABET, write_writer
from tests.runtime.graphs import write_copier, write_language_model

TEXTS = ["abcdefgh", "x", "the dog runs in the tree", "", "ümlauts"]


def test_beams_of_a_translator_that_is_sure(tmp_path):
    translate = kzoo.load(write_copier(tmp_path / "copier"))
    results = translate(TEXTS, num_beams=3, batch_size=3)
    assert [result["translation"] for result in results] == TEXTS
    assert all(-0.1 < result["score"] <= 0 for result in results)


def test_the_best_translations_of_each_text(tmp_path):
    translate = kzoo.load(write_copier(tmp_path / "copier"))
    results = translate(TEXTS, num_beams=4, num_return=3)
    for text, best in zip(TEXTS, results, strict=True):
        assert len(best) == (3 if text else 1) and best[0]["translation"] == text
        scores = [result["score"] for result in best]
        assert scores == sorted(scores, reverse=True)
    one = translate(TEXTS[0], num_beams=4, num_return=1)
    assert one == [translate(TEXTS[0], num_beams=4)]
    assert translate(TEXTS[:2], num_return=1) == [[result] for result in translate(TEXTS[:2])]


def test_beams_of_a_language_model(tmp_path):
    folder, _, _ = write_language_model(tmp_path / "lm")
    generate = kzoo.load(folder)
    prompts = ["the dog", "a bird sings", "x"]
    results = generate(prompts, num_beams=4, num_return=4, length_penalty=0.0)
    found_more = False
    for prompt, best in zip(prompts, results, strict=True):
        scores = [result["score"] for result in best]
        assert len(best) == 4 and scores == sorted(scores, reverse=True)
        # A prompt's result does not depend on its neighbours' in the batch.
        alone = generate(prompt, num_beams=4, num_return=4, length_penalty=0.0)
        assert [result["text"] for result in alone] == [result["text"] for result in best]
        greedy = generate(prompt, num_beams=1, num_return=1)[0]
        found_more |= greedy["text"] != best[0]["text"]
        assert generate(prompt, num_beams=4, length_penalty=0.0) == {"text": best[0]["text"]}
    assert found_more, "beams that find nothing else than greedy show nothing"


def test_the_length_penalty_is_what_divides_the_score(tmp_path):
    folder, _, _ = write_language_model(tmp_path / "lm")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["generation"]["end_id"] = None  # so that all continuations have as many tokens
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    generate = kzoo.load(folder)
    options = {"num_beams": 2, "num_return": 2, "max_new_tokens": 7}
    plain = generate("dog", **options, length_penalty=0.0)
    mean = generate("dog", **options)
    wu = generate("dog", **options, length_penalty=0.6, length_offset=5.0)
    for one, other, third in zip(plain, mean, wu, strict=True):
        assert one["text"] == other["text"] == third["text"]
        assert other["score"] == pytest.approx(one["score"] / 7, rel=1e-5)
        assert third["score"] == pytest.approx(one["score"] / (12 / 6) ** 0.6, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, "num_beams is 0"),
        ({"num_return": 2}, "num_return is 2; it must be at least 1, and at most num_beams, which is 1"),
        ({"num_beams": 4, "num_return": 0}, "num_return is 0"),
        ({"num_beams": 2, "length_offset": -2.0}, "length_offset is -2"),
    ],
)
def test_beams_out_of_range(tmp_path, options, message):
    with pytest.raises(KzooError, match=message):
        kzoo.load(write_copier(tmp_path / "copier"))("abc", **options)


def test_no_drawing_with_beams(tmp_path):
    folder, _, _ = write_language_model(tmp_path / "lm")
    with pytest.raises(KzooError, match="num_beams is for a search"):
        kzoo.load(folder)("dog", num_beams=2, temperature=1.0)


def test_a_stream_ends_with_what_a_call_gives_and_goes_on_beyond_the_model(tmp_path):
    folder, _, _ = write_language_model(tmp_path / "lm")
    generate = kzoo.load(folder)
    for options in (
        {},
        {"temperature": 1.3, "seed": 5},
        {"temperature": 0.7, "top_k": 4, "top_p": 0.9, "seed": 1},
    ):
        grown = list(generate.stream("the dog", max_new_tokens=6, **options))
        assert generate("the dog", max_new_tokens=6, **options) == {"text": grown[-1]}
        assert all(later.startswith(former) for former, later in itertools.pairwise(grown))
    write = kzoo.load(write_writer(tmp_path / "alphabet"))
    grown = list(write.stream("abc", max_new_tokens=75))
    assert grown == [(3 * ALPHABET)[3 : 4 + place] for place in range(75)]
    # Of a prompt that is longer than the model the end counts.
    assert list(write.stream("z" + 9 * ALPHABET, max_new_tokens=4))[-1] == "abcd"
    assert list(write.stream("", max_new_tokens=2)) == ["a", "ab"]


def test_a_stream_refuses_what_a_call_does(tmp_path):
    write = kzoo.load(write_writer(tmp_path / "alphabet"))
    with pytest.raises(KzooError, match="stream takes one prompt"):
        write.stream(["a", "b"])
    with pytest.raises(KzooError, match="max_new_tokens is 0"):
        write.stream("a", max_new_tokens=0)
    with pytest.raises(KzooError, match="top_k and top_p are for drawing"):
        write.stream("a", top_k=3)


def test_a_text_is_as_probable_as_its_tokens_together(tmp_path):
    write = kzoo.load(write_writer(tmp_path / "alphabet", max_length=16))
    likely, unlikely, single = write.likelihoods([2 * ALPHABET, "abd" + "ä" * 2, "a"])
    assert [part.tokens for part in likely] == [16, 16, 16, 3]
    assert [part.characters for part in likely] == [16, 16, 16, 3]
    assert sum(part.log_probability for part in likely) == pytest.approx(51 * np.log(0.9), rel=1e-5)
    (part,) = unlikely
    assert (part.tokens, part.characters, part.size) == (4, 4, 6)
    assert part.log_probability < np.log(0.9 * 0.1) - 2 * 10
    assert single == []
    (text,) = write.likelihoods([2 * ALPHABET], batch_size=1)
    assert text == likely
    with pytest.raises(KzooError, match="list of inputs is empty"):
        write.likelihoods([])
