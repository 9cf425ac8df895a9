import json
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

import kzoo
from kzoo.errors import BundleError, KzooError
from kzoo.runtime import TASKS, Pipeline, TruncationWarning
from kzoo.text import Tokenizer
from tests.bundles import write_image_classifier, write_translator
from tests.runtime.graphs import (
    LABELS,
    edit,
    write_copier,
    write_language_model,
    write_text_bundle,
    write_token_bundle,
)

MIXED = [
    "a bird sings in the tree",
    "the dog",
    "",
    "the cat sleeps on monday",
    "dog",
    "shares fell fast",
    "the the the",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A bundle for each task; tests do not write to them."""
    root = tmp_path_factory.mktemp("bundles")
    for task in ("classification", "multilabel", "embedding", "features", "next_sentence", "regression"):
        write_text_bundle(root / task, task)
    for task in ("tokens", "qa", "mlm", "replaced_token"):
        write_token_bundle(root / task, task)
    write_image_classifier(root / "image_classification")
    write_copier(root / "seq2seq")
    write_language_model(root / "causal_lm")
    return root


@pytest.fixture(scope="module")
def pipelines(folders):
    return {folder.name: kzoo.load(folder, device="cpu", threads=1) for folder in folders.iterdir()}


def close(a, b):
    """Compare results, whose floats may differ in the last bits from batch to batch."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(close, a, b))
    return a == b if isinstance(a, str) else np.allclose(a, b, atol=1e-5)


# What holds for every task.


def test_every_task_has_a_bundle_here(folders):
    assert {folder.name for folder in folders.iterdir()} == TASKS.keys()


@pytest.mark.parametrize("task", sorted(TASKS))
def test_describes_itself(pipelines, task):
    pipeline = pipelines[task]
    assert isinstance(pipeline, Pipeline)
    assert pipeline.task == task and pipeline.device == "cpu"
    for word in (pipeline.name, task, "cpu"):
        assert word in repr(pipeline)


def for_task(task, text):
    """Make of a text what the task takes."""
    if task in ("qa", "next_sentence"):
        return ("the cat", text)
    return f"{text} [MASK] dog" if task == "mlm" and isinstance(text, str) else text


def inputs_of(task):
    if task == "image_classification":
        return [Image.new("L", (9, 9), level) for level in (0, 255, 90, 140, 30)]
    return [for_task(task, text) for text in MIXED]


@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_order_and_batches_make_no_difference(pipelines, task, batch_size):
    pipeline, inputs = pipelines[task], inputs_of(task)
    together = pipeline(inputs, batch_size=batch_size)
    assert len(together) == len(inputs)
    for item, result in zip(inputs, together, strict=True):
        assert close(pipeline(item), result)


@pytest.mark.parametrize("task", sorted(TASKS.keys() - {"image_classification"}))
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "empty"),
        (["ok", 3], "Text 1 is of type int"),
        ([None], "Text 0"),
        (7, "of type int"),
        (b"bytes", "of type bytes"),
        ({"text": "a"}, "of type dict"),
        (["ok", "\ud800"], "Text 1 holds half"),
        (("a", "b", "c"), "Text 0 is of type tuple"),
    ],
)
def test_bad_texts(pipelines, task, inputs, message):
    if isinstance(inputs, list):
        inputs = [for_task(task, text) if isinstance(text, str) else text for text in inputs]
    with pytest.raises(KzooError, match=message):
        pipelines[task](inputs)


def test_bad_batch_size(pipelines):
    with pytest.raises(KzooError, match="batch_size is 0"):
        pipelines["classification"](MIXED, batch_size=0)


@pytest.mark.parametrize("task", ["seq2seq", "causal_lm", "tokens", "mlm", "replaced_token"])
def test_pairs_only_where_they_mean_something(pipelines, task):
    with pytest.raises(KzooError, match="Text 1 is a pair"):
        pipelines[task](["ok", ("a", "b")])


@pytest.mark.parametrize("task", ["qa", "next_sentence"])
def test_pairs_where_one_text_means_nothing(pipelines, task):
    with pytest.raises(KzooError, match="Text 1 is a single string; this task takes pairs"):
        pipelines[task]([("a", "b"), "ok"])


@pytest.mark.parametrize("task", ["classification", "seq2seq", "causal_lm"])
def test_many_threads_at_once(pipelines, task):
    wanted = pipelines[task](MIXED)
    turns = range(len(MIXED))
    with ThreadPoolExecutor(8) as pool:
        results = pool.map(pipelines[task], [MIXED[turn:] + MIXED[:turn] for turn in turns])
        for turn, result in zip(turns, results, strict=True):
            assert close(result, wanted[turn:] + wanted[:turn])


def test_any_iterable_of_texts(pipelines):
    wanted = pipelines["classification"](MIXED)
    assert pipelines["classification"](text for text in MIXED) == wanted
    assert pipelines["classification"](np.array(MIXED)) == wanted


# Truncation.


def test_truncation_warns_once_with_indices(pipelines):
    long = "dog " * 50
    with pytest.warns(TruncationWarning) as caught:
        pipelines["classification"]([long, "short", long, "dog"], batch_size=1)
    assert len(caught) == 1
    assert "2 of 4" in str(caught[0].message) and "index 0, 2" in str(caught[0].message)
    assert caught[0].filename == __file__


def test_many_truncated_texts_make_a_short_warning(pipelines):
    with pytest.warns(TruncationWarning, match=r"30 of 30 .*8, 9, \.\.\."):
        pipelines["classification"](["dog " * 50] * 30)


def test_fitting_texts_do_not_warn(pipelines):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipelines["classification"](MIXED)


# Classification.


def test_classification(pipelines):
    best = pipelines["classification"]("the dog")
    ranked = pipelines["classification"]("the dog", top_k=99)
    assert best == ranked[0]
    assert sorted(entry["label"] for entry in ranked) == sorted(LABELS)
    assert sum(entry["score"] for entry in ranked) == pytest.approx(1)
    scores = [entry["score"] for entry in ranked]
    assert scores == sorted(scores, reverse=True)
    assert isinstance(best["score"], float)
    assert [len(result) for result in pipelines["classification"](MIXED, top_k=2)] == [2] * len(MIXED)


def test_classification_of_pairs(pipelines):
    pair = ("the dog", "a cat")
    bare = pipelines["classification"](pair)
    assert close(pipelines["classification"]([pair, "the dog"])[0], bare)
    assert not close(pipelines["classification"]("the dog"), bare)


def test_labels_that_the_bundle_does_not_name(tmp_path):
    pipeline = kzoo.load(write_text_bundle(tmp_path / "b", labels=None))
    assert {entry["label"] for entry in pipeline("dog", top_k=3)} == {"LABEL_0", "LABEL_1", "LABEL_2"}


def test_labels_that_do_not_fit_the_graph(tmp_path):
    pipeline = kzoo.load(write_text_bundle(tmp_path / "b", labels=["one"]))
    with pytest.raises(BundleError, match="3 classes and the manifest 1 labels"):
        pipeline("dog")


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_top_k_out_of_range(pipelines, task):
    with pytest.raises(KzooError, match="top_k is 0"):
        pipelines[task]("dog", top_k=0)


def test_multilabel(pipelines):
    pipeline = pipelines["multilabel"]
    everything = pipeline("the dog", threshold=0.0)
    scores = [entry["score"] for entry in everything]
    assert len(everything) == len(LABELS) and scores == sorted(scores, reverse=True)
    assert pipeline("the dog", threshold=scores[1]) == everything[:2]
    assert pipeline("the dog", threshold=0.0, top_k=1) == everything[:1]
    assert pipeline("the dog", threshold=1.0) == []
    assert pipeline("the dog") == [entry for entry in everything if entry["score"] >= 0.5]


def test_multilabel_thresholds_of_the_manifest(pipelines, tmp_path):
    """Each label has its own; a call's own threshold is for all."""
    every = {entry["label"]: entry["score"] for entry in pipelines["multilabel"]("the dog", threshold=0.0)}
    least = [every[label] + step for label, step in zip(LABELS, (0.01, 0, -0.01), strict=True)]
    pipeline = kzoo.load(write_text_bundle(tmp_path / "tuned", "multilabel", thresholds=least))
    assert {entry["label"] for entry in pipeline("the dog")} == set(LABELS[1:])
    assert len(pipeline("the dog", top_k=1)) == 1
    assert pipeline("the dog", threshold=0.0) == pipelines["multilabel"]("the dog", threshold=0.0)
    with pytest.raises(BundleError, match="3 labels and 2 thresholds"):
        kzoo.load(write_text_bundle(tmp_path / "short", "multilabel", thresholds=least[:2]))


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_probabilities_are_those_of_the_results(pipelines, task):
    texts = ["the dog", "a bird sings in the tree", "shares"]
    found = pipelines[task].probabilities(texts, batch_size=2)
    assert found.shape == (3, len(LABELS))
    options = {"threshold": 0.0} if task == "multilabel" else {"top_k": len(LABELS)}
    for row, results in zip(found, pipelines[task](texts, **options), strict=True):
        assert {entry["label"]: entry["score"] for entry in results} == pytest.approx(
            dict(zip(LABELS, row, strict=True))
        )
    assert pipelines[task].probabilities("the dog") == pytest.approx(found[0])


def test_regression(pipelines):
    one, other = pipelines["regression"](["the dog", ("the dog", "shares fell")])
    assert one.keys() == other.keys() == {"score"}
    assert one["score"] != other["score"]


def test_multilabel_scores_are_each_a_sigmoid(pipelines):
    """Of the same graph, softmax of the logits and the sigmoids must tell of the same logits."""
    shares = {entry["label"]: entry["score"] for entry in pipelines["classification"]("the dog", top_k=3)}
    chances = {entry["label"]: entry["score"] for entry in pipelines["multilabel"]("the dog", threshold=0)}
    logits = {label: np.log(p / (1 - p)) for label, p in chances.items()}
    total = sum(np.exp(value) for value in logits.values())
    for label, value in logits.items():
        assert np.exp(value) / total == pytest.approx(shares[label])


def test_image_classification(pipelines, tmp_path):
    pipeline = pipelines["image_classification"]
    bright = np.full((20, 10), 250, np.uint8)
    assert pipeline(bright)["label"] == "bright"
    Image.fromarray(255 - bright).save(tmp_path / "dark.png")
    results = pipeline([tmp_path / "dark.png", bright, (tmp_path / "dark.png").read_bytes()])
    assert [result["label"] for result in results] == ["dark", "bright", "dark"]
    assert [result["label"] for result in pipeline(np.stack([bright[..., None], 5 - bright[..., None]]))] == [
        "bright",
        "dark",
    ]
    assert pipeline(str(tmp_path / "dark.png"), top_k=2)[1]["label"] == "bright"


def test_bad_image_is_named_by_its_place_in_the_list(pipelines):
    images = [np.zeros((4, 4), np.uint8)] * 5 + [b"no image"]
    with pytest.raises(KzooError, match="Image 5 is not an image file"):
        pipelines["image_classification"](images, batch_size=2)
    with pytest.raises(KzooError, match="empty"):
        pipelines["image_classification"]([])


# Embeddings and features.


def test_embedding(pipelines):
    vectors = pipelines["embedding"](MIXED)
    assert vectors.shape == (len(MIXED), 8) and vectors.dtype == np.float32
    one = pipelines["embedding"](MIXED[0])
    assert one.shape == (8,)
    np.testing.assert_allclose(one, vectors[0], atol=1e-6)


def test_features_leave_padding_out(pipelines):
    short, long = pipelines["features"](["dog", "the cat sleeps"])
    assert short["last_hidden_state"].shape == (3, 8)
    assert long["last_hidden_state"].shape == (5, 8)
    np.testing.assert_allclose(short["last_hidden_state"].mean(axis=0), short["pooled"], atol=1e-6)


# Translation.


def test_translation_of_a_shrinking_batch(pipelines):
    texts = [*MIXED, "ümlauts and 🎉 in a longer text", "x"]
    results = pipelines["seq2seq"](texts)
    assert [result["translation"] for result in results] == texts
    assert all(-0.1 < result["score"] <= 0 for result in results)


def test_translation_of_words(tmp_path):
    translate = kzoo.load(write_translator(tmp_path / "en-de"))
    results = translate(["A cat sleeps.", "A dog runs."])
    assert [result["translation"] for result in results] == ["Ein Kater schläft.", "Ein Hund rennt."]


def test_translation_stops_at_the_limit(pipelines):
    assert pipelines["seq2seq"]("abcdefgh", max_new_tokens=3)["translation"] == "abcdefgh"[:3]
    with pytest.raises(KzooError, match="max_new_tokens is 0"):
        pipelines["seq2seq"]("abc", max_new_tokens=0)


def test_translation_of_a_long_text_is_cut(pipelines):
    with pytest.warns(TruncationWarning):
        result = pipelines["seq2seq"]("xyz" * 30)
    assert result["translation"] == ("xyz" * 30)[:39]  # 40 tokens, one of them the end


# Generation.


def continue_by_hand(tokenizer, prompt, limit, history, last):
    """Continue greedily, without cache, batch or padding."""
    ids = tokenizer.encode([prompt], max_length=99, special_tokens=False).input_ids[0].tolist()
    ids = ids if prompt else [tokenizer.start_id]
    new = []
    for _ in range(limit):
        logits = np.sum([history[token] for token in ids + new], axis=0) + last[(ids + new)[-1]]
        token = int(logits.argmax())
        if token == tokenizer.end_id:
            break
        new.append(token)
    return tokenizer.decode(new)


def test_generation_is_that_of_the_model(tmp_path):
    folder, history, last = write_language_model(tmp_path / "lm")
    tokenizer = Tokenizer.from_file(folder)
    results = kzoo.load(folder)(MIXED)
    for prompt, result in zip(MIXED, results, strict=True):
        assert result == {"text": continue_by_hand(tokenizer, prompt, 8, history, last)}


def test_generation_by_drawing(pipelines):
    generate = pipelines["causal_lm"]
    options = {"temperature": 1.5, "top_k": 50, "top_p": 0.95}
    assert generate(MIXED, seed=1, **options) == generate(MIXED, seed=1, **options)
    assert generate(MIXED, seed=1, **options) != generate(MIXED, seed=2, **options)
    assert generate(MIXED, seed=1, temperature=1e-6) == generate(MIXED)
    assert generate("dog", seed=1, temperature=2.0, top_k=1) == generate("dog")


@pytest.mark.parametrize(
    "options",
    [{"temperature": -1.0}, {"top_k": 5}, {"top_p": 0.5}, {"temperature": 1.0, "top_p": 2.0}, {"seed": -1}],
)
def test_generation_arguments_out_of_range(pipelines, options):
    with pytest.raises(KzooError, match=r"temperature|top_p|seed"):
        pipelines["causal_lm"]("dog", **options)


def test_generation_keeps_the_end_of_a_long_prompt(tmp_path):
    folder, history, last = write_language_model(tmp_path / "lm", max_length=32)
    tokenizer, generate = Tokenizer.from_file(folder), kzoo.load(folder)
    prompt = "".join(chr(ord("b") + i % 20) for i in range(60))
    with pytest.warns(TruncationWarning):
        result = generate(prompt, max_new_tokens=8)
    # 32 less 8 for the continuation, less the end token that the template adds and generation drops.
    assert result["text"] == continue_by_hand(tokenizer, prompt[-23:], 8, history, last)


def test_generation_never_exceeds_the_models_length(tmp_path):
    folder, _, _ = write_language_model(tmp_path / "lm", max_length=10)
    edit(folder, generation={"start_id": 1, "end_id": None})
    generate = kzoo.load(folder)
    run, lengths = generate._sessions["model"].run_kept, []

    def watched(feeds, outputs):
        lengths.append(feeds["attention_mask"].shape[1])
        return run(feeds, outputs)

    generate._sessions["model"].run_kept = watched
    with pytest.warns(TruncationWarning):
        generate("abcdefghijkl", max_new_tokens=500)
    assert max(lengths) == 9  # the tenth token is the last that is written, and is not read again


def test_empty_prompt_without_a_start_token(tmp_path):
    folder, _, _ = write_language_model(tmp_path / "lm")
    edit(folder, generation={"end_id": 2})
    with pytest.raises(KzooError, match="A prompt is empty"):
        kzoo.load(folder)(["dog", ""])


# Bundles that do not fit their task.


def test_unknown_task(bundle):
    edit(bundle, task="clasification")
    with pytest.raises(BundleError, match="Did you mean 'classification'"):
        kzoo.load(bundle)


def test_missing_sections(tmp_path, bundle):
    edit(bundle, text=None)
    with pytest.raises(BundleError, match="no section 'text'"):
        kzoo.load(bundle)
    folder, _, _ = write_language_model(tmp_path / "lm")
    edit(folder, generation=None)
    with pytest.raises(BundleError, match="no section 'generation'"):
        kzoo.load(folder)
    edit(write_copier(tmp_path / "copier"), generation={"end_id": 2})
    with pytest.raises(BundleError, match="start_id"):
        kzoo.load(tmp_path / "copier")


def test_wrong_graphs_and_outputs(bundle):
    edit(bundle, task="embedding")
    with pytest.raises(BundleError, match="no output embedding"):
        kzoo.load(bundle)
    edit(bundle, task="seq2seq")
    with pytest.raises(BundleError, match="needs graphs encoder, decoder"):
        kzoo.load(bundle)


def test_cache_of_unknown_size(tmp_path):
    folder, _, _ = write_language_model(tmp_path / "lm")
    graphs = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["graphs"]
    shapes = {tensor["name"]: tensor for side in ("inputs", "outputs") for tensor in graphs["model"][side]}
    shapes["past_key_values.0.key"]["shape"] = ["batch", "heads", "past", "dim"]
    edit(folder, graphs=graphs)
    with pytest.raises(BundleError, match=r"past_key_values\.0\.key"):
        kzoo.load(folder)("dog")
    shapes["past_key_values.0.key"]["shape"] = ["batch", 1, "past", 8]
    shapes["log_probs"]["shape"] = ["rows", "kept", "vocab"]
    edit(folder, graphs=graphs)
    with pytest.raises(BundleError, match="does not say how many tokens"):
        kzoo.load(folder)("dog")
