"""What decoders alone have: windows, rotary scaling, a text's state at its last real token; published configs."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import numpy as np
import pytest

import kzoo
from kzoo.errors import KzooError
from kzoo.layers import RotaryScaling
from kzoo.models import LlamaConfig, create_model
from kzoo.weights import find_family
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


@pytest.mark.parametrize("family", ["GPT2", "Llama", "Bert", "Roberta"])
def test_a_document_in_a_row_sees_no_other(family):
    model = shaken(tiny(family, task="features", num_layers=1))
    ids = make_inputs(model, batch=1, length=9)["input_ids"]
    together = {"input_ids": ids, "document_starts": np.array([[0, 0, 0, 0, 4, 4, 4, 7, 7]])}
    states = outputs(model, together)["last_hidden_state"][0]
    for start, end in ((0, 4), (4, 7), (7, 9)):
        alone = outputs(model, {"input_ids": ids[:, start:end]})["last_hidden_state"][0]
        np.testing.assert_allclose(states[start:end], alone, atol=1e-5)


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


LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 5632,
    "max_position_embeddings": 2048,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 22,
    "num_key_value_heads": 4,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 32000,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2_small": {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1,
        "bos_token_id": 50256,
        "embd_pdrop": 0.1,
        "eos_token_id": 50256,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        "model_type": "gpt2",
        "n_ctx": 1024,
        "n_embd": 768,
        "n_head": 12,
        "n_layer": 12,
        "n_positions": 1024,
        "resid_pdrop": 0.1,
        "summary_activation": None,
        "summary_first_dropout": 0.1,
        "summary_proj_to_labels": True,
        "summary_type": "cls_index",
        "summary_use_proj": True,
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
        "vocab_size": 50257,
    },
    "tinyllama_1_1b": LLAMA,
    "llama_3_2_1b": {
        **LLAMA,
        "attention_dropout": 0.0,
        "bos_token_id": 128000,
        "eos_token_id": 128001,
        "head_dim": 64,
        "intermediate_size": 8192,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "num_hidden_layers": 16,
        "num_key_value_heads": 8,
        "rope_scaling": {
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
        "vocab_size": 128256,
    },
    "qwen2_0_5b": {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 151643,
        "eos_token_id": 151643,
        "hidden_act": "silu",
        "hidden_size": 896,
        "initializer_range": 0.02,
        "intermediate_size": 4864,
        "max_position_embeddings": 131072,
        "max_window_layers": 24,
        "model_type": "qwen2",
        "num_attention_heads": 14,
        "num_hidden_layers": 24,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 131072,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_mrope": False,
        "use_sliding_window": False,
        "vocab_size": 151936,
    },
}


def config_of(fields: dict[str, Any]) -> Any:
    family = find_family(fields)
    return getattr(kzoo.models, family.backbone).Config(**family.knobs(fields))


@pytest.mark.parametrize("variant", CONFIGS)
def test_published_configs_are_the_variants(monkeypatch, variant):
    module = importlib.import_module(
        "kzoo.models.gpt2" if variant.startswith("gpt2") else "kzoo.models.llama"
    )
    monkeypatch.setattr(module, "build", lambda backbone, config, **overrides: config)
    read = config_of(CONFIGS[variant])
    if variant == "llama_3_2_1b":
        # It spells out what follows from its other numbers.
        assert read.head_dim == read.hidden_dim // read.num_heads
        read = dataclasses.replace(read, head_dim=None)
    assert read == create_model(variant)


def test_mistral_has_a_window_unless_it_says_not():
    fields = {**LLAMA, "model_type": "mistral", "architectures": ["MistralForCausalLM"]}
    del fields["attention_bias"], fields["pretraining_tp"]
    assert config_of(fields).window == 4096
    assert config_of({**fields, "sliding_window": 7}).window == 7
    plain = config_of({**fields, "sliding_window": None})
    assert plain == config_of(LLAMA)
    assert isinstance(plain, LlamaConfig)
