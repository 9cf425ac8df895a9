"""What holds for every family: shapes, padding, precision, causality, hidden states, attention maps."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo.errors import KzooError
from kzoo.layers import Attention
from kzoo.models import TASKS, TransformerModel
from tests.models.tiny import FAMILIES, VOCAB_SIZE, make_inputs, outputs, shaken, tiny

pytestmark = pytest.mark.backend

CARRIED = {family: getattr(kzoo.models, family).tasks for family in FAMILIES}
DEFAULTS = {family: tasks[0] for family, tasks in CARRIED.items()}
# Heads are shared, so a test of what heads do runs each with one family, and each family with one head.
COVER = sorted({(next(f for f in CARRIED if task in CARRIED[f]), task) for task in TASKS} | DEFAULTS.items())
# The other families of a kind have the same masks.
FIRST = [
    family for family in FAMILIES if family == next(f for f in FAMILIES if DEFAULTS[f] == DEFAULTS[family])
]
TEXT = [family for family in FAMILIES if "vocab_size" in FAMILIES[family][1]]
CAUSAL = [family for family in FAMILIES if DEFAULTS[family] in ("causal_lm", "seq2seq")]
ENCODERS = [family for family in FAMILIES if DEFAULTS[family] in ("classification", "image_classification")]


def expected_shapes(model: TransformerModel, inputs: dict[str, np.ndarray]) -> dict[str, tuple[Any, ...]]:
    """Return each output's shape; None where it is the architecture's own business."""
    config = model.backbone.config
    ids = inputs.get("decoder_input_ids", inputs.get("input_ids"))
    images = len(inputs["pixel_values"]) if "pixel_values" in inputs else None
    rows, length = ids.shape if ids is not None else (images, None)
    source = inputs["input_ids"].shape[1] if "input_ids" in inputs else None
    width, vision = config.hidden_dim, getattr(config, "vision_hidden_dim", None)
    projected = getattr(config, "projection_dim", None)
    each_token = [length] if TASKS[model.task].outputs_tokens else []
    outputs_each = {"replaced_token": [], "regression": [1]}
    each_class = outputs_each.get(model.task, [model.num_classes or VOCAB_SIZE])
    return {
        "last_hidden_state": (rows, length, width),
        "encoder_last_hidden_state": (rows, source, width),
        "vision_last_hidden_state": (images, None, vision),
        "pooled": (rows, width),
        "pooled_distillation": (rows, width),
        "vision_pooled": (images, vision),
        "embedding": (rows, width),
        "text_embeds": (rows, projected),
        "image_embeds": (images, projected),
        "logits_per_image": (images, rows),
        "logits_per_text": (rows, images),
        "logits": (rows, *each_token, *each_class),
        "start_logits": (rows, length),
        "end_logits": (rows, length),
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_shapes_of_every_task(family):
    for task in CARRIED[family]:
        model = tiny(family, task=task)
        sizes = [(1, 5), (3, 9)] if task == DEFAULTS[family] else [(2, 7)]
        for inputs in (make_inputs(model, *size) for size in sizes):
            expected, got = expected_shapes(model, inputs), outputs(model, inputs)
            assert got
            for name, value in got.items():
                assert len(value.shape) == len(expected[name]), name
                for size, wanted in zip(value.shape, expected[name], strict=True):
                    assert wanted is None or size == wanted, name
                assert np.isfinite(value).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bare_array_and_left_out_inputs_mean_the_same(family):
    model = shaken(tiny(family))
    inputs = make_inputs(model)
    main = {name: value for name, value in inputs.items() if name.endswith("input_ids")} or inputs
    whole = outputs(model, main)
    if "attention_mask" in inputs:
        spelled_out = {"attention_mask": np.ones_like(inputs["attention_mask"])}
        if "token_type_ids" in inputs:
            spelled_out["token_type_ids"] = np.zeros_like(inputs["token_type_ids"])
        again = outputs(model, {**main, **spelled_out})
        for name, value in whole.items():
            np.testing.assert_allclose(value, again[name], atol=1e-5)
    if len(main) == 1:
        bare = outputs(model, main[model.main_input])
        for name, value in whole.items():
            np.testing.assert_allclose(value, bare[name], atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "family"),
    [*(("mixed_bfloat16", family) for family in FAMILIES), *(("mixed_float16", family) for family in FIRST)],
)
def test_mixed_precision_is_finite_and_close(family, dtype):
    keras.utils.set_random_seed(0)  # of some weights, half precision makes more than the bound
    exact, mixed = shaken(tiny(family), by=0.1), tiny(family, dtype=dtype)
    mixed.set_weights(exact.get_weights())
    inputs = make_inputs(exact)
    expected, got = outputs(exact, inputs), outputs(mixed, inputs)
    if "attention_mask" in inputs:
        # Nobody reads what padding turns into.
        for name, value in expected.items():
            if value.shape[:2] == inputs["attention_mask"].shape:
                real = inputs["attention_mask"] == 1
                expected[name], got[name] = value[real], got[name][real]
    for name, value in expected.items():
        assert np.isfinite(got[name]).all()
        scale = np.abs(value).max()
        np.testing.assert_allclose(got[name], value, atol=(0.1 if "bfloat" in dtype else 0.02) * scale)


@pytest.mark.parametrize("task", [name for name in TASKS if name != "features"])
def test_logits_and_embeddings_are_float32_in_mixed_precision(task):
    family = next(family for family, carried in CARRIED.items() if task in carried)
    model = tiny(family, task=task, dtype="mixed_bfloat16")
    for value in model(make_inputs(model)).values():
        assert keras.backend.standardize_dtype(value.dtype) == "float32"


@pytest.mark.parametrize(("family", "task"), [(family, task) for family, task in COVER if family in TEXT])
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
        atol = 1e-5 * max(1.0, np.abs(value).max())
        np.testing.assert_allclose(got[name][:, : value.shape[1]], value, atol=atol)


@pytest.mark.parametrize(
    ("family", "task", "dtype"),
    [
        ("Bert", "embedding", "float32"),
        *((family, DEFAULTS[family], "float32") for family in TEXT),
        *((family, DEFAULTS[family], "mixed_float16") for family in FIRST if family in TEXT),
    ],
)
def test_a_row_of_nothing_but_padding_is_finite(family, task, dtype):
    # What compares each text with each image has no row of its own.
    model = shaken(tiny(family, dtype=dtype, task="features" if task == "image_text_similarity" else task))
    inputs = make_inputs(model)
    inputs["attention_mask"][1] = 0
    got = outputs(model, inputs)
    for value in got.values():
        assert np.isfinite(value).all()
    others = {name: value[[0, 2]] for name, value in inputs.items()}
    for name, value in outputs(model, others).items():
        atol = 1e-5 if dtype == "float32" else 1e-2 * max(1.0, np.abs(value).max())
        np.testing.assert_allclose(got[name][[0, 2]], value, atol=atol)


@pytest.mark.parametrize("family", CAUSAL)
def test_later_tokens_do_not_matter(family):
    model = shaken(tiny(family))
    inputs = make_inputs(model)
    ids = "decoder_input_ids" if "decoder_input_ids" in inputs else "input_ids"
    inputs["attention_mask"][:] = 1
    changed = {**inputs, ids: inputs[ids].copy()}
    changed[ids][:, 6:] = (changed[ids][:, 6:] + 1) % VOCAB_SIZE
    before, after = outputs(model, inputs)["logits"], outputs(model, changed)["logits"]
    np.testing.assert_allclose(after[:, :6], before[:, :6], atol=1e-5)
    assert np.abs(after[:, 6:] - before[:, 6:]).max() > 1e-2


@pytest.mark.parametrize("family", ENCODERS)
def test_encoders_look_both_ways(family):
    model = shaken(tiny(family, task="features"))
    inputs = make_inputs(model)
    changed = {name: value.copy() for name, value in inputs.items()}
    if "input_ids" in inputs:
        changed["input_ids"][0, -1] = (changed["input_ids"][0, -1] + 1) % VOCAB_SIZE
    else:
        changed["pixel_values"][0, -4:] += np.random.default_rng(1).normal(size=(4, 8, 3), scale=3.0)
    before, after = (outputs(model, given)["last_hidden_state"] for given in (inputs, changed))
    assert np.abs(after[0, 0] - before[0, 0]).max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_maps(family):
    model = shaken(tiny(family))
    inputs = make_inputs(model)
    maps = model.attention_maps(inputs)
    # One for each layer; layers that share their weights run more than once.
    assert len(maps) >= sum(isinstance(layer, Attention) for layer in model._flatten_layers())
    for weights in maps:
        assert weights.ndim == 4
        np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-5)
        assert weights.min() >= 0.0
    if "attention_mask" in inputs:
        length = inputs["input_ids"].shape[1]
        assert maps[0].shape[2:] == (length, length)
        padding = inputs["attention_mask"][2] == 0
        # A padded query of a causal model has nothing but padding to look at.
        assert maps[0][2, :, ~padding][..., padding].max() == 0.0


@pytest.mark.parametrize(
    ("family", "shapes"),
    [("Bert", [(3, 2, 9, 9)] * 2), ("Transformer", [(3, 2, 9, 9)] * 2 + [(3, 2, 11, 11), (3, 2, 11, 9)] * 2)],
)
def test_attention_maps_come_in_the_order_in_which_layers_run(family, shapes):
    model = tiny(family)
    assert [weights.shape for weights in model.attention_maps(make_inputs(model))] == shapes


def test_attention_maps_of_texts(wordpiece):
    model = tiny("Bert", tokenizer=wordpiece)
    (first, _) = model.attention_maps(["the dog", "a cat sleeps"])
    assert first.shape[:2] == (2, 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states(family):
    model = shaken(tiny(family))
    inputs = make_inputs(model)
    config = model.backbone.config
    layers = getattr(config, "num_decoder_layers", None) or config.num_layers
    states = model.hidden_states(inputs)
    assert len(states) == layers + 1
    assert {state.shape for state in states} == {states[0].shape}
    assert states[0].shape[-1] == config.hidden_dim
    for before, after in itertools.pairwise(states):
        assert np.abs(after - before).max() > 1e-3
    if "decoder_input_ids" in inputs:
        assert len(model.hidden_states(inputs, "encoder_hidden_states")) == config.num_layers + 1


def test_hidden_states_that_there_are_not():
    model = tiny("Bert")
    with pytest.raises(KzooError, match=r"Bert has no 'hiden_states'\. Did you mean 'hidden_states'"):
        model.hidden_states(make_inputs(model), "hiden_states")


@pytest.mark.parametrize("family", [family for family in TEXT if "max_positions" in FAMILIES[family][1]])
def test_too_long_a_sequence(family):
    model = tiny(family)
    limit = model.backbone.config.max_positions
    inputs = make_inputs(model, length=limit + 1)
    with pytest.raises(KzooError, match=rf"{limit + 1} tokens, but the model has {limit} positions"):
        model(inputs)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_mode_drops_out_and_inference_does_not(family):
    model = shaken(tiny(family, dropout=0.5))
    inputs = make_inputs(model)
    expected, again = outputs(model, inputs), outputs(model, inputs)
    dropped = model(inputs, training=True)
    for name, value in expected.items():
        np.testing.assert_array_equal(value, again[name])
        assert np.abs(keras.ops.convert_to_numpy(dropped[name]) - value).max() > 1e-3
