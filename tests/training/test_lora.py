"""LoRA: what trains, what is kept, and that adapters fold into the kernels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo import KzooError
from kzoo.models import TransformerModel, load_adapters, save_adapters
from kzoo.training import add_lora, cosine_schedule, freeze, make_optimizer, merge_lora
from tests.models.tiny import make_inputs, outputs, shaken, tiny

LABELS = np.array([0, 1, 0])


def build(seed: int = 0, **knobs: Any) -> TransformerModel:
    keras.utils.set_random_seed(0)
    return shaken(tiny("Bert", dropout=0.0, attention_dropout=0.0, **knobs), seed)


def compiled(model: TransformerModel) -> TransformerModel:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # To compile for the machine takes longer than a few steps do.
    model.compile(optimizer=make_optimizer(cosine_schedule(3e-3, 100, 0)), loss=loss, run_eagerly=True)
    return model


def train(model: TransformerModel) -> TransformerModel:
    for _ in range(2):
        model.train_on_batch(make_inputs(model), LABELS)
    return model


def values(model: TransformerModel) -> dict[str, np.ndarray]:
    return {
        re.sub("^bert_tiny/", "", weight.path): np.array(keras.ops.convert_to_numpy(weight))
        for weight in model.weights
    }


def logits(model: TransformerModel) -> np.ndarray:
    return outputs(model, make_inputs(model))["logits"]


@pytest.mark.backend
def test_adapters_train_are_saved_as_they_are_and_fold_into_the_kernels(tmp_path: Path) -> None:
    model = build()
    plain, before = logits(model), values(model)
    count = add_lora(model, 4, alpha=8, targets=("query", "value", "expand"))
    # Two of rank 4 on 16 x 16 and one on 16 x 24 in each of two blocks; pooler and classifier.
    assert count == 2 * (2 * 4 * 32 + 4 * 40) + 17 * 16 + 17 * 2
    np.testing.assert_array_equal(logits(model), plain)

    train(compiled(model))
    changed = {path for path, value in before.items() if not np.array_equal(value, values(model)[path])}
    assert {path.rsplit("/", 1)[0] for path in changed} == {
        "backbone/pooler",
        "head/classifier",
    }
    trained = logits(model)
    assert np.abs(trained - plain).max() > 1e-3

    model.save(tmp_path / "model.keras")
    again = kzoo.models.load(tmp_path / "model.keras")
    for path, value in values(model).items():
        np.testing.assert_array_equal(value, values(again)[path])
    train(model), train(again)
    np.testing.assert_allclose(logits(again), logits(model), atol=1e-3)

    trained = logits(model)
    merge_lora(model)
    np.testing.assert_allclose(logits(model), trained, atol=1e-5)
    assert values(model).keys() == before.keys()
    assert len(model.trainable_variables) == len(before)
    model.save(tmp_path / "plain.keras")
    np.testing.assert_allclose(logits(kzoo.models.load(tmp_path / "plain.keras")), trained, atol=1e-5)


def test_what_was_compiled_before_sees_the_folded_kernels() -> None:
    model = build(num_layers=1)
    add_lora(model, 2)
    train(compiled(model))
    model.run_eagerly = False
    inputs = make_inputs(model)
    predicted = model.predict(inputs, verbose=0)["logits"]
    merge_lora(model)
    np.testing.assert_allclose(model.predict(inputs, verbose=0)["logits"], predicted, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
def test_weights_of_a_plain_model_go_into_one_with_adapters(tmp_path: Path) -> None:
    plain, model = build(seed=1), build()
    plain.save_weights(tmp_path / "plain.weights.h5")
    add_lora(model, 2)
    train(compiled(model))
    model.load_weights(tmp_path / "plain.weights.h5")
    np.testing.assert_allclose(logits(model), logits(plain), atol=1e-6)


@pytest.mark.parametrize("has_adapters", [False, True])
def test_adapters_alone_go_from_file_to_file(tmp_path: Path, has_adapters: bool) -> None:
    model, other = build(), build(name="another")
    add_lora(model, 3, alpha=6)
    save_adapters(train(compiled(model)), tmp_path / "adapters.safetensors")
    if has_adapters:
        add_lora(other, 3, alpha=6)
    load_adapters(other, tmp_path / "adapters.safetensors")
    np.testing.assert_array_equal(logits(other), logits(model))
    assert len(other.trainable_variables) == len(model.trainable_variables)
    assert (tmp_path / "adapters.safetensors").stat().st_size < 5_000


@pytest.mark.parametrize(
    ("knobs", "lora", "message"),
    [
        ({}, {"rank": 4}, "has rank 3 and alpha 3; the model's has rank 4 and alpha 4"),
        ({}, {"rank": 3, "alpha": 5}, "has rank 3 and alpha 3; the model's has rank 3 and alpha 5"),
        ({}, {"rank": 3, "targets": ("query",)}, "has an adapter of 'backbone/block_0/attention/value'"),
        ({"hidden_dim": 12}, {"rank": 3}, r"has shape \(.*\); the model's has"),
        ({"hidden_dim": 12}, None, r"has shape \(.*\); the model's has"),
        ({"num_layers": 1}, None, r"'backbone/block_1/.*', which the model has not. Did you mean"),
        ({"num_classes": 3}, None, r"'head/classifier/.*' has shape"),
    ],
)
def test_adapters_of_another_model_are_refused_and_change_nothing(
    tmp_path: Path, knobs: dict[str, Any], lora: dict[str, Any] | None, message: str
) -> None:
    model, other = build(), build(**knobs)
    add_lora(model, 3)
    save_adapters(model, tmp_path / "adapters.safetensors")
    if lora is not None:
        add_lora(other, **lora)
    before = values(other)
    with pytest.raises(KzooError, match=message):
        load_adapters(other, tmp_path / "adapters.safetensors")
    after = values(other)
    assert before.keys() == after.keys()
    for path, value in before.items():
        np.testing.assert_array_equal(value, after[path])


def test_other_files_are_refused(tmp_path: Path) -> None:
    model = build()
    with pytest.raises(KzooError, match="no adapters to save"):
        save_adapters(model, tmp_path / "adapters.safetensors")
    model.save_pretrained(tmp_path / "checkpoint")
    with pytest.raises(KzooError, match="holds no adapters"):
        load_adapters(model, tmp_path / "checkpoint" / "model.safetensors")
    with pytest.raises(KzooError, match=r"has no absent\.safetensors"):
        load_adapters(model, tmp_path / "absent.safetensors")
    add_lora(model, 2)
    with pytest.raises(KzooError, match="merge_lora"):
        model.save_pretrained(tmp_path / "adapted")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "rank of 1 or more"),
        ({"rank": 2, "alpha": 0.0}, "alpha above 0"),
        ({"rank": 2, "targets": ("queri",)}, "Did you mean 'query'"),
        ({"rank": 2, "targets": ()}, "name some of"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(KzooError, match=message):
        add_lora(build(), **arguments)


def test_adapters_are_added_once_and_only_to_models_of_the_zoo() -> None:
    model = build()
    with pytest.raises(KzooError, match="no adapters to merge"):
        merge_lora(model)
    add_lora(model, 2)
    with pytest.raises(KzooError, match="merge them first"):
        add_lora(model, 2)
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(KzooError, match="no model of the zoo"):
        add_lora(other, 2)
    with pytest.raises(KzooError, match="no model of the zoo"):
        freeze(other, "embeddings")
