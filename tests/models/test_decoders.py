"""What decoders alone have: windows, rotary scaling, and a text's state at its last real token."""

from __future__ import annotations

import numpy as np
import pytest

import kzoo
from kzoo.errors import KzooError
from kzoo.layers import RotaryScaling
from kzoo.models import create_model
from tests.models.tiny import make_inputs, outputs, shaken, tiny

pytestmark = pytest.mark.backend


def test_a_window_ends_what_a_token_sees():
    model = shaken(tiny("Llama", window=3, window_from_layer=None))
    ids = make_inputs(model, batch=1, length=12)["input_ids"]
    changed = ids.copy()
    changed[0, 0] = (changed[0, 0] + 1) % 300
    differs = (
        np.abs(outputs(model, ids)["logits"] - outputs(model, changed)["logits"]).max(axis=(0, 2)) > 1e-5
    )
    # Two blocks, each of which carries a token two places on.
    assert differs.tolist() == [True] * 5 + [False] * 7


@pytest.mark.parametrize("family", ["GPT2", "Llama"])
def test_what_is_pooled_is_the_last_real_token(family):
    model = shaken(tiny(family, task="features", num_layers=1))
    ids = make_inputs(model, batch=3, length=6)["input_ids"]
    mask = np.array([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    got = outputs(model, {"input_ids": ids, "attention_mask": mask})
    for row, place in enumerate([5, 5, 2]):
        np.testing.assert_array_equal(got["pooled"][row], got["last_hidden_state"][row, place])
    alone = outputs(model, {"input_ids": ids[1:2, 2:]})
    np.testing.assert_allclose(got["pooled"][1], alone["pooled"][0], atol=1e-5)


def test_a_saved_model_keeps_its_rotary_scaling(tmp_path):
    stretched = {"kind": "linear", "factor": 4.0}
    model = shaken(tiny("Llama", num_layers=1, rotary_scaling=stretched))
    model.save(tmp_path / "model.keras")
    loaded = kzoo.models.load(tmp_path / "model.keras")
    assert loaded.backbone.config.rotary_scaling == RotaryScaling(**stretched)
    inputs = make_inputs(model)
    expected, plain = outputs(model, inputs)["logits"], shaken(tiny("Llama", num_layers=1))
    np.testing.assert_allclose(outputs(loaded, inputs)["logits"], expected, atol=1e-6)
    assert np.abs(outputs(plain, inputs)["logits"] - expected).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_dim": 7}, "Heads are 7 wide: rotary positions turn pairs of channels"),
        ({"num_key_value_heads": 3}, "num_heads=4 is not a multiple of num_key_value_heads=3"),
        ({"rotary_scaling": {"kind": "linear"}}, "is no scaling: it has kind and factor"),
        ({"rotary_scaling": {"kind": "linear", "factor": 2.0, "base": 3.0}}, "is no scaling"),
        ({"rotary_scaling": {"kind": "ntk", "factor": 2.0}}, "Unknown rotary scaling 'ntk'"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(KzooError, match=message):
        create_model("llama_micro", **options)
