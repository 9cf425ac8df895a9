"""Every family and every task leaves Keras as a verified graph and a bundle."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import onnxruntime
import pytest

import kzoo
from kzoo import models
from kzoo.errors import ExportError
from kzoo.models import TransformerModel
from kzoo.runtime import TASKS
from kzoo.text import Tokenizer
from tests.models.tiny import FAMILIES, make_inputs, shaken, tiny

TEXTS = ["the dog runs in the park", "a cat sleeps", "two birds sing in the tree", "the bank sold its shares"]

CARRIED = {family: getattr(kzoo.models, family).tasks for family in FAMILIES}
# One family for each default task goes the whole way on each backend.
THOROUGH = {next(f for f in FAMILIES if CARRIED[f][0] == tasks[0]) for tasks in CARRIED.values()}


def rest() -> list[tuple[str, str]]:
    """Return the other families, and the other tasks that bundles carry, each of both at least once."""
    left = [task for task in TASKS if task not in {CARRIED[family][0] for family in THOROUGH}]
    pairs = []
    for family in sorted(FAMILIES.keys() - THOROUGH):
        default = CARRIED[family][0]
        carried = [default] if default == "seq2seq" else CARRIED[family]
        task = next((task for task in left if task in carried), default)
        left = [other for other in left if other != task]
        pairs.append((family, task))
    return pairs + [(next(family for family in FAMILIES if task in CARRIED[family]), task) for task in left]


def fit_a_few_steps(model: TransformerModel, bpe: Tokenizer) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3)).astype("uint8")
    if model.task == "image_classification":
        model.fit(images, np.arange(8) % 3, batch_size=4, verbose=0)
        return
    model.tokenizer = bpe
    if model.task == "image_text_similarity":
        model.fit({"input_ids": TEXTS * 2, "pixel_values": images}, batch_size=4, verbose=0)
    elif model.task == "classification":
        model.fit(TEXTS * 2, ["x", "y", "z", "x"] * 2, batch_size=4, verbose=0)
    else:
        model.fit(TEXTS * 2, TEXTS * 2 if model.task == "seq2seq" else None, batch_size=4, verbose=0)


@pytest.mark.backend
@pytest.mark.parametrize("family", sorted(THOROUGH))
def test_fit_save_load_export_and_agree(family: str, bpe: Tokenizer, tmp_path: pathlib.Path) -> None:
    task = CARRIED[family][0]
    model = tiny(family, **({"num_classes": 3} if models.TASKS[task].has_classes else {}))
    fit_a_few_steps(model, bpe)
    model.save(tmp_path / "model.keras")
    loaded = kzoo.models.load(tmp_path / "model.keras")

    loaded.export(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    assert {value.name for value in session.get_inputs()} == set(model.signature())
    for batch, length in [(1, 4), (3, 11)]:
        inputs = make_inputs(model, batch, length)
        feeds = {name: array.astype(model.signature()[name].dtype) for name, array in inputs.items()}
        expected = model.predict_on_batch(inputs)
        for output, array in zip(session.get_outputs(), session.run(None, feeds), strict=True):
            np.testing.assert_allclose(array, expected[output.name], rtol=1e-4, atol=1e-4)

    if task in TASKS:
        loaded.export(tmp_path / "bundle")
        assert kzoo.load(tmp_path / "bundle").verify() < 1e-4


@pytest.mark.parametrize(("family", "task"), rest())
def test_every_family_and_task_leaves_as_a_bundle(
    family: str, task: str, wordpiece: Tokenizer, bpe: Tokenizer, tmp_path: pathlib.Path
) -> None:
    labels = ["x", "y", "z"] if task in ("multilabel", "tokens") else None
    model = shaken(tiny(family, task=task, **({"labels": labels} if labels else {})), by=0.1)
    if "input_ids" in model.signature():
        model.tokenizer = bpe if task in ("causal_lm", "seq2seq") else wordpiece
    model.export(tmp_path / "bundle")
    pipeline = kzoo.load(tmp_path / "bundle")
    assert pipeline.verify() < 1e-3
    inputs: Any = TEXTS
    if model.image_preprocessing is not None:
        inputs = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype("uint8")
    elif task in ("qa", "next_sentence"):
        inputs = [("who", text) for text in TEXTS]
    elif task == "mlm":
        inputs = [f"{text} [MASK]" for text in TEXTS]
    results = pipeline(inputs)
    assert len(results) == len(inputs)
    if task in ("embedding", "features", "multilabel"):
        expected = model.predict(inputs, verbose=0)
        if task == "embedding":
            np.testing.assert_allclose(results, expected["embedding"], rtol=1e-4, atol=1e-4)
        elif task == "features":
            for result, pooled in zip(results, expected["pooled"], strict=True):
                np.testing.assert_allclose(result["pooled"], pooled, rtol=1e-4, atol=1e-4)
        else:
            for result, logits in zip(results, expected["logits"] >= 0, strict=True):
                assert {label["label"] for label in result} == set(np.array(labels)[logits])


def test_no_bundle_for_what_nothing_serves(bpe: Tokenizer, tmp_path: pathlib.Path) -> None:
    (unserved,) = models.TASKS.keys() - TASKS.keys()
    two_sided = [family for family in FAMILIES if CARRIED[family][0] in (unserved, "seq2seq")]
    for family, task in [(two_sided[-1], unserved), *((family, "features") for family in two_sided)]:
        with pytest.raises(ExportError, match=f"There is no bundle for task='{task}' of {family} yet"):
            tiny(family, task=task, tokenizer=bpe).export(tmp_path / "bundle")


def next_token(model: TransformerModel, inputs: dict[str, Any], name: str, ids: list[int]) -> int:
    """Return the likeliest token after `ids`, by running Keras on all of them, without any cache.

    What stands after them is never seen, so that one shape, compiled once, serves every step.
    """
    padded = np.zeros((1, 16), "int32")
    padded[0, : len(ids)] = ids
    logits = np.asarray(model.predict_on_batch({**inputs, name: padded})["logits"])
    return int(logits[0, len(ids) - 1].argmax())


def test_a_generation_bundle_continues_as_keras_does(bpe: Tokenizer, tmp_path: pathlib.Path) -> None:
    model = shaken(tiny("GPT2", tokenizer=bpe))
    model.export(tmp_path / "bundle")
    generate = kzoo.load(tmp_path / "bundle")
    prompts = ["the dog", "a cat sleeps on the"]
    results = generate(prompts, max_new_tokens=6)
    for prompt, result in zip(prompts, results, strict=True):
        ids = bpe.encode([prompt], max_length=32).input_ids[0].tolist()
        prompt_ids = ids[:-1] if ids[-1] == bpe.end_id else ids
        ids = list(prompt_ids)
        for _ in range(6):
            ids.append(next_token(model, {}, "input_ids", ids))
        expected = ids[len(prompt_ids) :]
        end = expected.index(bpe.end_id) if bpe.end_id in expected else len(expected)
        assert result["text"] == bpe.decode(expected[:end])


def test_a_translation_bundle_searches_as_keras_does(bpe: Tokenizer, tmp_path: pathlib.Path) -> None:
    model = shaken(tiny("Transformer", tokenizer=bpe))
    model.export(tmp_path / "bundle")
    translate = kzoo.load(tmp_path / "bundle")
    source = "the dog runs"
    encoded = bpe.encode([source], max_length=32)
    inputs = {"input_ids": encoded.input_ids, "attention_mask": encoded.attention_mask}
    ids = [bpe.start_id]
    while len(ids) < 9 and ids[-1] != bpe.end_id:
        ids.append(next_token(model, inputs, "decoder_input_ids", ids))
    expected = [token for token in ids[1:] if token != bpe.end_id]
    assert translate(source, max_new_tokens=8)["translation"] == bpe.decode(expected)
