"""What config.json's fields become, and which are refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kzoo.errors import KzooError
from kzoo.weights import FAMILIES, find_family


def test_absent_fields_have_the_reference_defaults():
    assert FAMILIES["vit"].knobs({})["layer_norm_epsilon"] == 1e-12
    assert FAMILIES["bert"].knobs({})["num_layers"] == 12
    assert FAMILIES["gpt2"].knobs({"n_embd": 64})["intermediate_dim"] == 256
    assert FAMILIES["gpt2"].knobs({"n_embd": 64, "n_inner": 100})["intermediate_dim"] == 100


def test_fields_by_their_other_names():
    knobs = FAMILIES["gpt2"].knobs({"num_hidden_layers": 3, "hidden_size": 48, "num_attention_heads": 4})
    assert (knobs["num_layers"], knobs["hidden_dim"], knobs["num_heads"]) == (3, 48, 4)


@pytest.mark.parametrize(
    ("model_type", "fields", "message"),
    [
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key'"),
        ("bert", {"is_decoder": True}, "is_decoder=True"),
        ("bert", {"add_cross_attention": True}, "add_cross_attention=True"),
        ("bert", {"pruned_heads": {"0": [1]}}, "pruned_heads="),
        ("bert", {"quantization_config": {"bits": 4}}, "quantization_config="),
        ("bert", {"auto_map": {"AutoModel": "x.Y"}}, "auto_map="),
        ("bert", {"hidden_act": "mish"}, "hidden_act='mish'"),
        ("bert", {"hidden_size": "768"}, "hidden_size='768'.*not a whole number"),
        ("bert", {"layer_norm_eps": True}, "layer_norm_eps=True.*not a number"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights=False"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
        ("gpt2", {"tie_word_embeddings": False}, "tie_word_embeddings=False"),
        ("gpt2", {"n_layer": 2, "num_hidden_layers": 3}, "n_layer=2 and num_hidden_layers=3"),
        ("vit", {"image_size": [224, 192]}, "image_size=.*squares only"),
    ],
)
def test_refuses_by_name_what_would_change_the_results(model_type, fields, message):
    with pytest.raises(KzooError, match=message):
        FAMILIES[model_type].knobs(fields)


def test_accepts_neutral_values():
    FAMILIES["bert"].knobs(
        {
            "position_embedding_type": "absolute",
            "is_decoder": False,
            "pruned_heads": {},
            "classifier_dropout": None,
            "use_cache": True,
            "initializer_range": 0.5,
        }
    )
    assert FAMILIES["vit"].knobs({"image_size": [32, 32], "patch_size": (8, 8)})["patch_size"] == 8


def test_two_rates_for_one_knob_must_be_settled():
    config = {"embd_pdrop": 0.1, "resid_pdrop": 0.2}
    with pytest.raises(KzooError, match=r"resid_pdrop=0\.2 and embd_pdrop=0\.1.*pass dropout="):
        FAMILIES["gpt2"].knobs(config)
    assert "dropout" not in FAMILIES["gpt2"].knobs(config, settled={"dropout"})


def test_unknown_model_types_name_the_nearest():
    with pytest.raises(KzooError, match=r"model_type='bret'.*Did you mean 'bert'"):
        find_family({"model_type": "bret"})
    with pytest.raises(KzooError, match="names no model_type"):
        find_family({})


def test_tables_need_no_framework():
    code = (
        "import sys, kzoo.weights; "
        "print(sorted({'keras', 'tensorflow', 'torch', 'jax', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
