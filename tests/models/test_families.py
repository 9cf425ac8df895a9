"""What holds for every family: shapes, padding, precision, causality, attention maps."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import kzoo
from kzoo.errors import KzooError
from kzoo.models import TASKS
from tests.models.tiny import FAMILIES, MAX_POSITIONS, VOCAB_SIZE, make_inputs, outputs, shaken, tiny

pytestmark = pytest.mark.backend

TEXT = [family for family in FAMILIES if family != "ViT"]
CARRIED = [(family, task) for family in FAMILIES for task in getattr(kzoo.models, family).tasks]


@pytest.mark.parametrize(("family", "task"), CARRIED)
def test_shapes_at_two_batch_sizes_and_two_lengths(family, task):
    model = tiny(family, task=task)
    for batch, length in [(1, 5), (3, 9)]:
        inputs = make_inputs(model, batch, length)
        tokens = {"ViT": 5, "Transformer": length + 2}.get(family, length)
        each_token = [tokens] if TASKS[task].outputs_tokens else []
        each_class = [] if task == "replaced_token" else [model.num_classes or VOCAB_SIZE]
        expected = {
            "last_hidden_state": (batch, tokens, 16),
            "encoder_last_hidden_state": (batch, length, 16),
            "pooled": (batch, 16),
            "embedding": (batch, 16),
            "logits": (batch, *each_token, *each_class),
            "start_logits": (batch, tokens),
            "end_logits": (batch, tokens),
        }
        got = outputs(model, inputs)
        assert got
        for name, value in got.items():
            assert value.shape == expected[name]
            assert np.isfinite(value).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bare_array_and_left_out_inputs_mean_the_same(family):
    model = shaken(tiny(family))
    inputs = make_inputs(model)
    main = {name: value for name, value in inputs.items() if name.endswith("input_ids")} or inputs
    whole = outputs(model, main)
    if "attention_mask" in inputs:
        ones = {"attention_mask": np.ones_like(inputs["attention_mask"])}
        types = {"token_type_ids": np.zeros_like(ones["attention_mask"])} if family == "Bert" else {}
        spelled_out = outputs(model, {**main, **ones, **types})
        for name, value in whole.items():
            np.testing.assert_allclose(value, spelled_out[name], atol=1e-5)
    if len(main) == 1:
        bare = outputs(model, main[model.main_input])
        for name, value in whole.items():
            np.testing.assert_allclose(value, bare[name], atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_finite_and_close(family, dtype):
    exact, mixed = shaken(tiny(family)), tiny(family, dtype=dtype)
    mixed.set_weights(exact.get_weights())
    inputs = make_inputs(exact)
    expected, got = outputs(exact, inputs), outputs(mixed, inputs)
    if "attention_mask" in inputs:
        # Nobody reads what padding turns into.
        for name in ("last_hidden_state", "encoder_last_hidden_state", "logits"):
            if name in expected and expected[name].shape[:2] == inputs["attention_mask"].shape:
                real = inputs["attention_mask"] == 1
                expected[name], got[name] = expected[name][real], got[name][real]
    for name, value in expected.items():
        assert np.isfinite(got[name]).all()
        scale = np.abs(value).max()
        np.testing.assert_allclose(got[name], value, atol=(0.1 if "bfloat" in dtype else 0.02) * scale)


@pytest.mark.parametrize("task", [name for name in TASKS if name != "features"])
def test_logits_and_embeddings_are_float32_in_mixed_precision(task):
    family = next(family for family, carried in CARRIED if carried == task)
    model = tiny(family, task=task, dtype="mixed_bfloat16")
    for value in model(make_inputs(model)).values():
        assert keras.backend.standardize_dtype(value.dtype) == "float32"


@pytest.mark.parametrize(("family", "task"), [(family, task) for family, task in CARRIED if family in TEXT])
def test_padding_changes_nothing(family, task):
    model = shaken(tiny(family, task=task))
    short = make_inputs(model, batch=2, length=6)
    short["attention_mask"][:] = 1
    padded = dict(short)
    for name, filler in [("input_ids", 7), ("attention_mask", 0), ("token_type_ids", 1)]:
        if name in short:
            padded[name] = np.pad(short[name], ((0, 0), (0, 4)), constant_values=filler)
    expected, got = outputs(model, short), outputs(model, padded)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name][:, : value.shape[1]], value, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "task"),
    [("Bert", "classification"), ("Bert", "embedding"), *((name, None) for name in TEXT[1:])],
)
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_a_row_of_nothing_but_padding_is_finite(family, task, dtype):
    model = shaken(tiny(family, dtype=dtype, **({"task": task} if task else {})))
    inputs = make_inputs(model)
    inputs["attention_mask"][1] = 0
    got = outputs(model, inputs)
    for value in got.values():
        assert np.isfinite(value).all()
    others = {name: value[[0, 2]] for name, value in inputs.items()}
    for name, value in outputs(model, others).items():
        np.testing.assert_allclose(got[name][[0, 2]], value, atol=1e-5 if dtype == "float32" else 1e-2)


@pytest.mark.parametrize(("family", "ids"), [("GPT2", "input_ids"), ("Transformer", "decoder_input_ids")])
def test_later_tokens_do_not_matter(family, ids):
    model = shaken(tiny(family))
    inputs = make_inputs(model)
    inputs["attention_mask"][:] = 1
    changed = {**inputs, ids: inputs[ids].copy()}
    changed[ids][:, 6:] = (changed[ids][:, 6:] + 1) % VOCAB_SIZE
    before, after = outputs(model, inputs)["logits"], outputs(model, changed)["logits"]
    np.testing.assert_allclose(after[:, :6], before[:, :6], atol=1e-5)
    assert np.abs(after[:, 6:] - before[:, 6:]).max() > 1e-2


@pytest.mark.parametrize("family", ["Bert", "ViT"])
def test_encoders_look_both_ways(family):
    model = shaken(tiny(family, task="features"))
    inputs = make_inputs(model)
    changed = {name: value.copy() for name, value in inputs.items()}
    if family == "Bert":
        changed["input_ids"][0, -1] = (changed["input_ids"][0, -1] + 1) % VOCAB_SIZE
    else:
        changed["pixel_values"][0, -1, -1] += 1.0
    before, after = outputs(model, inputs)["pooled"], outputs(model, changed)["pooled"]
    assert np.abs(after[0] - before[0]).max() > 1e-3


@pytest.mark.parametrize(
    ("family", "shapes"),
    [
        ("Bert", [(3, 2, 9, 9)] * 2),
        ("GPT2", [(3, 2, 9, 9)] * 2),
        ("ViT", [(3, 2, 5, 5)] * 2),
        ("Transformer", [(3, 2, 9, 9)] * 2 + [(3, 2, 11, 11), (3, 2, 11, 9)] * 2),
    ],
)
def test_attention_maps(family, shapes):
    model = shaken(tiny(family))
    inputs = make_inputs(model)
    maps = model.attention_maps(inputs)
    assert [weights.shape for weights in maps] == shapes
    for weights in maps:
        np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-5)
        assert weights.min() >= 0.0
    if "attention_mask" in inputs:
        padding = inputs["attention_mask"][2] == 0
        # A padded query of a causal model has nothing but padding to look at.
        assert maps[0][2, :, ~padding][..., padding].max() == 0.0


def test_attention_maps_of_texts(wordpiece):
    model = tiny("Bert", tokenizer=wordpiece)
    (first, _) = model.attention_maps(["the dog", "a cat sleeps"])
    assert first.shape[:2] == (2, 2)


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
def test_embeddings_have_length_one_and_ignore_padding(pooling):
    model = shaken(tiny("Bert", task="embedding", pooling=pooling))
    embedding = outputs(model, make_inputs(model))["embedding"]
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1.0, atol=1e-5)


def test_mean_pooling_is_the_mean_of_real_tokens():
    model = shaken(tiny("Bert", task="embedding"))
    inputs = make_inputs(model, batch=1, length=4)
    states = keras.ops.convert_to_numpy(model.backbone(inputs)["last_hidden_state"])
    mean = states.mean(axis=1)
    np.testing.assert_allclose(outputs(model, inputs)["embedding"], mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.parametrize("family", TEXT)
def test_too_long_a_sequence(family):
    model = tiny(family)
    inputs = make_inputs(model, length=MAX_POSITIONS + 1)
    with pytest.raises(
        KzooError, match=rf"{MAX_POSITIONS + 1} tokens, but the model has {MAX_POSITIONS} positions"
    ):
        model(inputs)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_mode_drops_out_and_inference_does_not(family):
    model = shaken(tiny(family, dropout=0.5))
    inputs = make_inputs(model)
    for name, value in outputs(model, inputs).items():
        np.testing.assert_array_equal(value, outputs(model, inputs)[name])
        dropped = keras.ops.convert_to_numpy(model(inputs, training=True)[name])
        assert np.abs(dropped - value).max() > 1e-3
