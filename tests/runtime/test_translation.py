"""What a translation bundle can be asked for, on a small model whose every weight matters."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from onnxruntime import SessionOptions

import kzoo
from kzoo.errors import KzooError
from kzoo.runtime import Ensemble, TruncationWarning
from kzoo.text import Tokenizer
from tests.models.tiny import outputs, shaken, tiny
from tests.runtime.graphs import TEXTS as CORPUS
from tests.runtime.graphs import write_copier, write_text_bundle

TEXTS = ["the dog runs", "a bird sings in the tree", "shares fell on monday", "x", "the cat sleeps fast"]


def make_model(seed):
    # Most random models of this size write one token for ever; this one writes five texts for five.
    keras.utils.set_random_seed(seed)
    tokenizer = Tokenizer.train(CORPUS, kind="unigram", vocab_size=120, special_tokens=[">>de<<", ">>fr<<"])
    knobs = {"num_decoder_layers": 3, "norm_first": True, "vocab_size": tokenizer.vocab_size}
    return shaken(tiny("Transformer", tokenizer=tokenizer, **knobs), seed, by=0.6)


@pytest.fixture(scope="module")
def models():
    return [make_model(seed) for seed in (9, 11)]


@pytest.fixture(scope="module")
def pipelines(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("translators")
    for index, model in enumerate(models):
        model.export(folder / f"model-{index}")
    return [kzoo.load(folder / f"model-{index}", device="cpu") for index in range(len(models))]


@pytest.fixture
def translate(pipelines):
    return pipelines[0]


def said(pieces):
    """Return what pieces say together, special tokens left out."""
    return "".join(piece for piece in pieces if not (piece.startswith("<") and piece.endswith(">")))


def texts_of(results):
    return [result["translation"] for result in results]


@pytest.mark.parametrize("beams", [1, 3])
def test_batches_change_nothing_but_the_time(translate, beams):
    texts = TEXTS * 3
    calls = []
    expected = [translate(text, num_beams=beams) for text in texts]
    assert len({result["translation"] for result in expected}) == len(TEXTS)
    for options in ({}, {"batch_tokens": 20}, {"batch_tokens": 1}, {"batch_size": 2}):
        found = translate(
            texts, num_beams=beams, **options, progress=lambda done, total: calls.append((done, total))
        )
        assert texts_of(found) == texts_of(expected)
        np.testing.assert_allclose(
            [result["score"] for result in found], [result["score"] for result in expected], atol=1e-5
        )
        assert calls[-1] == (15, 15) and [done for done, _ in calls] == sorted(done for done, _ in calls)
        calls.clear()


def test_lanes_change_nothing_but_the_time(translate, monkeypatch):
    assert kzoo.load(translate._bundle.folder, device="cpu", threads=3).lanes == 3
    assert kzoo.load(translate._bundle.folder, session_options=SessionOptions()).lanes == 1
    texts = TEXTS * 3
    found = {}
    for lanes in (1, 3):
        monkeypatch.setattr(translate, "lanes", lanes)
        calls = []
        found[lanes] = (
            translate(texts, num_beams=2, progress=lambda done, total, calls=calls: calls.append(done)),
            translate.score(texts, texts[::-1]),
            translate(texts, temperature=1.0, seed=3, batch_size=4),
        )
        assert calls == [15] if lanes == 1 else calls == [5, 10, 15]
        with pytest.raises(InterruptedError):
            translate(texts, batch_size=3, progress=interrupt)
        with pytest.raises(KzooError, match="batch_size is 0"):
            translate(texts, batch_size=0)
    assert found[1][2] == found[3][2]
    for one, three in zip(found[1][0], found[3][0], strict=True):
        assert one["translation"] == three["translation"]
        assert one["score"] == pytest.approx(three["score"], abs=1e-5)
    for one, three in zip(found[1][1], found[3][1], strict=True):
        assert one["tokens"] == three["tokens"]
        np.testing.assert_allclose(one["log_probs"], three["log_probs"], atol=1e-5)


def interrupt(done, total):
    raise InterruptedError


def test_blank_texts_have_blank_translations(translate):
    texts = ["", "the dog", " \t\r\n\u3000", "x", ""]
    results = translate(texts)
    assert len(results) == 5
    for place in (0, 2, 4):
        assert results[place] == {"translation": "", "score": 0.0}
    assert [results[1], results[3]] == translate(["the dog", "x"])
    assert translate("  ") == {"translation": "", "score": 0.0}
    assert translate(["", ""], num_beams=2, num_return=2) == [[{"translation": "", "score": 0.0}]] * 2
    assert translate.alternatives(" ") == [] and list(translate.stream("")) == [""]


def test_odd_characters_go_through(translate):
    texts = [
        "a\x00b\x07\x1b[0m",
        "dog \U0001f415\u200d\U0001f9ba",
        "\u0643\u0644\u0628 \u202eabc",
        "a\nb",
        "\ufeffx",
    ]
    results = translate(texts, num_beams=2)
    assert len(results) == 5 and all(result["score"] < 0 for result in results)
    with pytest.raises(KzooError, match="Text 1 holds half of a surrogate pair"):
        translate(["x", "a\ud83d"])


def test_a_long_text_is_cut_and_named(translate):
    with pytest.warns(
        TruncationWarning, match=r"1 of 3 texts had more than 32 tokens.*\(index 1\)"
    ) as caught:
        results = translate(["x", "dog" * 3_334, ""])
    assert caught[0].filename == __file__
    assert results[0] == translate("x")
    assert results[1]["translation"]


def test_languages(translate, tmp_path):
    assert translate.languages == ("de", "fr")
    plain, french, german = (
        translate("the dog", target_language=language) for language in (None, "fr", "de")
    )
    assert len({plain["score"], french["score"], german["score"]}) == 3
    with pytest.raises(KzooError, match=r"does not translate into 'fr_', but into 2 languages.*'fr'"):
        translate("the dog", target_language="fr_")
    copy = kzoo.load(write_copier(tmp_path / "copier"))
    with pytest.raises(KzooError, match="'copier' does not translate into 'fr', but into its one language"):
        copy("abc", target_language="fr")


def test_scores_of_pairs_are_the_models(models, translate):
    tokenizer = translate.reader.tokenizer
    targets = ["a dog runs fast", "x", "the bird", "", "monday monday"]
    found = translate.score(TEXTS, targets, batch_size=3)
    for source, target, result in zip(TEXTS, targets, found, strict=True):
        ids = tokenizer.encode([target], max_length=32).input_ids[0]
        encoded = tokenizer.encode([source], max_length=32)
        inputs = {
            "input_ids": encoded.input_ids,
            "attention_mask": encoded.attention_mask,
            "decoder_input_ids": np.array([[1, *ids[:-1]]]),
        }
        logits = outputs(models[0], inputs)["logits"]
        log_probs = keras.ops.convert_to_numpy(keras.ops.log_softmax(logits))[0, np.arange(len(ids)), ids]
        np.testing.assert_allclose(result["log_probs"], log_probs, atol=1e-4)
        assert result["score"] == pytest.approx(log_probs.mean(), abs=1e-4)
        assert said(result["tokens"]) == target.replace("x", "") and result["tokens"][-1] == "</s>"
    assert translate.score(TEXTS[0], targets[0])["score"] == pytest.approx(found[0]["score"], abs=1e-5)
    with pytest.raises(KzooError, match="5 sources and 2 targets"):
        translate.score(TEXTS, ["a", "b"])


def test_a_prefix_is_gone_on_from(translate):
    options = {"return_alignment": True, "max_new_tokens": 8}
    for text in TEXTS:
        whole = translate(text, **options)
        pieces = whole["alignment"]["target"]
        assert said(pieces) == whole["translation"]
        forced = translate([text, "x", ""], prefix=["the cat ", "", "a"], num_beams=2)
        assert forced[0]["translation"].startswith("the cat")
        assert forced[1:] == translate(["x", ""], num_beams=2)
    with (
        pytest.raises(KzooError, match="takes all of the model's 32 tokens"),
        pytest.warns(TruncationWarning),
    ):
        translate("x", prefix="dog" * 33)
    with pytest.raises(KzooError, match="2 texts and 1 prefixes"):
        translate(["x", "y"], prefix=["a"])


def test_what_follows_a_prefix_scores_as_in_a_pair(translate):
    for text in TEXTS:
        ways = translate.alternatives(text, "the cat", count=999, max_new_tokens=1)
        pair = translate.score(text, "the cat")
        best = translate(text, prefix="the cat", max_new_tokens=1)
        assert best["score"] == pytest.approx(np.log(ways[0]["probability"]), abs=1e-4)
        chances = [way["score"] for way in ways]
        assert min(abs(chance - pair["log_probs"][-1]) for chance in chances) < 1e-4


def test_alternatives_at_a_place(translate):
    for prefix in ("", "the cat"):
        found = translate.alternatives("the dog runs", prefix, count=4, max_new_tokens=8)
        best = translate("the dog runs", prefix=prefix, max_new_tokens=8)
        assert found[0]["translation"] == best["translation"]
        assert found[0]["score"] == pytest.approx(best["score"], abs=1e-5)
        chances = [alternative["probability"] for alternative in found]
        assert chances == sorted(chances, reverse=True) and len(found) == 4
        for alternative in found:
            assert alternative["translation"].startswith(prefix)
            rest = alternative["translation"][len(prefix) :]
            assert rest.startswith(alternative["token"])
            assert alternative["word"] == (rest.split() or [""])[0]
    whole = translate.alternatives("the dog runs", count=10_000, max_new_tokens=1)
    assert sum(alternative["probability"] for alternative in whole) == pytest.approx(1, abs=1e-4)
    with pytest.raises(KzooError, match="count is 0"):
        translate.alternatives("the dog", count=0)


def test_a_stream_grows_to_what_a_call_gives(translate):
    lengths = []
    for text in TEXTS:
        shown = list(translate.stream(text))
        assert shown[-1] == translate(text)["translation"]
        assert len(set(shown)) == len(shown)
        lengths.append(len(shown))
    assert max(lengths) > 5
    drawn = list(translate.stream("the dog", temperature=1.0, seed=3))
    assert drawn[-1] == translate("the dog", temperature=1.0, seed=3)["translation"]
    with pytest.raises(KzooError, match="Give one text"):
        translate.stream(["a", "b"])


def test_a_stream_holds_half_characters_back(tmp_path):
    copy = kzoo.load(write_copier(tmp_path / "copier"))
    assert list(copy.stream("a\U0001f389b")) == ["a", "a\U0001f389", "a\U0001f389b"]


def test_drawn_translations_follow_the_seed(translate):
    first, same, other = (texts_of(translate(TEXTS, temperature=1.0, seed=seed)) for seed in (1, 1, 2))
    assert first == same != other
    assert texts_of(translate(TEXTS, temperature=1.0, top_k=1, seed=1)) == texts_of(translate(TEXTS))
    with pytest.raises(KzooError, match="temperature above 0"):
        translate("x", top_p=0.5)
    with pytest.raises(KzooError, match="num_beams is for a search"):
        translate("x", temperature=1.0, num_beams=2)
    with pytest.raises(KzooError, match="seed is -1"):
        translate("x", temperature=1.0, seed=-1)


def test_nothing_comes_twice_where_it_may_not(translate):
    def repeats(results):
        pieces = [result["alignment"]["target"] for result in results]
        return sum(len(each) - len(set(each)) for each in pieces if "" not in each)

    options = {"return_alignment": True, "max_new_tokens": 20}
    assert repeats(translate(TEXTS, **options)) > 0
    for beams in (1, 3):
        assert repeats(translate(TEXTS, **options, no_repeat_ngram=1, num_beams=beams)) == 0
        penalised = translate(TEXTS, **options, repetition_penalty=5.0, num_beams=beams)
        assert repeats(penalised) < repeats(translate(TEXTS, **options, num_beams=beams))


def test_coverage_ranks_by_attention(translate):
    options = {"num_beams": 5, "num_return": 5, "return_alignment": True, "max_new_tokens": 6}
    moved = False
    for text in TEXTS:
        plain = {result["translation"]: result for result in translate(text, **options)}
        found = translate(text, **options, coverage_penalty=0.5)
        scores = [result["score"] for result in found]
        assert scores == sorted(scores, reverse=True)
        assert {result["translation"] for result in found} == set(plain)
        moved |= [result["translation"] for result in found] != list(plain)
        for result in found:
            # The token behind the last one looks at the source too, so that its share is not known here.
            covered = result["alignment"]["weights"].sum(axis=0)
            least = 0.5 * np.log(np.minimum(covered, 1)).sum()
            gained = result["score"] - plain[result["translation"]]["score"]
            assert least - 1e-4 <= gained <= 0
    assert moved


def test_alignment_says_where_tokens_come_from(translate):
    results = translate([*TEXTS, ""], num_beams=3, num_return=2, return_alignment=True, prefix="a")
    for text, best in zip(TEXTS, results, strict=False):
        for result in best:
            alignment = result["alignment"]
            assert said(alignment["source"]) == text.replace("x", "")
            assert said(alignment["target"]) == result["translation"]
            assert alignment["weights"].shape == (len(alignment["target"]), len(alignment["source"]))
            np.testing.assert_allclose(alignment["weights"].sum(axis=1), 1, atol=1e-5)
    assert results[-1][0]["alignment"]["weights"].shape == (0, 0)
    alone = translate(TEXTS[0], num_beams=3, return_alignment=True, prefix="a")
    np.testing.assert_allclose(
        alone["alignment"]["weights"], results[0][0]["alignment"]["weights"], atol=1e-5
    )


def test_an_older_bundle_says_that_it_cannot_align(tmp_path):
    copy = kzoo.load(write_copier(tmp_path / "copier"))
    with pytest.raises(KzooError, match="Export the bundle again"):
        copy("abc", return_alignment=True)


def test_an_ensemble_is_the_mean_of_its_members(pipelines):
    both = Ensemble(pipelines)
    assert both.name == "model-0+model-1"
    assert both.verify() == max(pipeline.verify() for pipeline in pipelines)
    found = both.score(TEXTS, TEXTS[::-1])
    each = [pipeline.score(TEXTS, TEXTS[::-1]) for pipeline in pipelines]
    for mean, first, second in zip(found, *each, strict=True):
        expected = (np.exp(first["log_probs"]) + np.exp(second["log_probs"])) / 2
        np.testing.assert_allclose(np.exp(mean["log_probs"]), expected, rtol=1e-4)
    results = both(TEXTS, num_beams=3, return_alignment=True)
    assert texts_of(results) != texts_of(pipelines[0](TEXTS, num_beams=3))
    assert list(both.stream("x"))[-1] == both("x")["translation"]
    assert texts_of(Ensemble(pipelines[:1] * 2)(TEXTS)) == texts_of(pipelines[0](TEXTS))


def test_an_ensemble_needs_one_vocabulary(pipelines, tmp_path):
    with pytest.raises(KzooError, match="at least one"):
        Ensemble([])
    with pytest.raises(KzooError, match="does classification"):
        Ensemble([kzoo.load(write_text_bundle(tmp_path / "topic"))])
    with pytest.raises(KzooError, match="'model-0' and 'copier' have different vocabularies"):
        Ensemble([pipelines[0], kzoo.load(write_copier(tmp_path / "copier"))])


DOCUMENT = (
    "# The dog\r\n\r\nThe dog runs. It sleeps!  \n\n"
    "  - a <b>cat</b>, 3\n```\n1 2 3\n<br/>\n\t> said\n12.5 % -->\nend"
)


def test_a_document_keeps_its_lines_and_marks(tmp_path):
    copy = kzoo.load(write_copier(tmp_path / "copier"))
    assert copy.translate_document(DOCUMENT, num_beams=2) == DOCUMENT
    for text in ("", "\n", "\n\n \n", "x\n", "\r\nx"):
        assert copy.translate_document(text) == text
    with pytest.raises(KzooError, match="num_return is for a call"):
        copy.translate_document("x", num_return=1)


def test_a_document_has_as_many_lines_whatever_the_model_writes(translate):
    for text in (DOCUMENT, "\n".join(TEXTS), "a\x0bb\u2028c\nd\n"):
        found = translate.translate_document(text, temperature=2.0, seed=0)
        assert found.count("\n") == text.count("\n")
        assert [line == "" for line in found.split("\n")] == [line == "" for line in text.split("\n")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_tokens": 0}, "batch_tokens is 0"),
        ({"max_new_tokens": 0}, "max_new"),
    ],
)
def test_numbers_out_of_range(translate, options, message):
    with pytest.raises(KzooError, match=message):
        translate("the dog", **options)
