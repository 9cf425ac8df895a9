"""What config.json's fields become, and which are refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from kzoo.errors import KzooError
from kzoo.weights import FAMILIES, Family, Source, find_family, write
from kzoo.weights.fields import NUMBER, Field, Kind
from kzoo.weights.layouts import AS_IS, CONVOLUTION, LEADING_AXIS, SINGLE_ROW, TRANSPOSED, Part, dense


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


# What checkpoints of several ages say, as they were published.
PUBLISHED = {
    "bert-base-uncased, 2018": {
        "architectures": ["BertForMaskedLM"],
        "attention_probs_dropout_prob": 0.1,
        "gradient_checkpointing": False,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": 768,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "model_type": "bert",
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "transformers_version": "4.6.0.dev0",
        "type_vocab_size": 2,
        "use_cache": True,
        "vocab_size": 30522,
    },
    "bert-base-multilingual-cased, 2018": {
        "architectures": ["BertForMaskedLM"],
        "directionality": "bidi",
        "model_type": "bert",
        "pooler_fc_size": 768,
        "pooler_num_attention_heads": 12,
        "pooler_num_fc_layers": 3,
        "pooler_size_per_head": 128,
        "pooler_type": "first_token_transform",
        "vocab_size": 119547,
    },
    "a fine-tuned classifier of version 3": {
        "_num_labels": 5,
        "finetuning_task": "sentiment-analysis",
        "id2label": {"0": "1 star"},
        "label2id": {"1 star": 0},
        "model_type": "bert",
        "output_past": True,
        "num_beams": 1,
        "use_bfloat16": False,
        "pruned_heads": {},
        "torchscript": False,
        "xla_device": None,
        "task_specific_params": None,
    },
    "gpt2, 2019": {
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
    "vit-base-patch16-224, 2021": {
        "_name_or_path": "google/vit-base-patch16-224-in21k",
        "architectures": ["ViTForImageClassification"],
        "attention_probs_dropout_prob": 0.0,
        "encoder_stride": 16,
        "hidden_act": "gelu",
        "image_size": 224,
        "layer_norm_eps": 1e-12,
        "model_type": "vit",
        "patch_size": 16,
        "qkv_bias": True,
        "torch_dtype": "float32",
        "transformers_version": "4.13.0.dev0",
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_are_read(name):
    config = PUBLISHED[name]
    knobs = find_family(config).knobs(config)
    assert knobs["hidden_dim"] == 768
    assert knobs.get("vocab_size") == config.get("vocab_size", knobs.get("vocab_size"))


def test_unknown_fields_are_refused_unless_they_say_nothing():
    bert = FAMILIES["bert"]
    bert.knobs({"rope_scaling": None, "extra_layers": [], "prompts": {}, "note": ""})
    for value in (1, 0, 0.5, "yes", True, False, [0], {"a": None}):
        with pytest.raises(KzooError, match=r"config\.json says novelty=.*ignore=\('novelty',\)"):
            bert.knobs({"novelty": value})
    with pytest.raises(KzooError, match="Did you mean 'hidden_size'"):
        bert.knobs({"hiden_size": 768})


def test_a_refused_field_may_be_ignored():
    bert = FAMILIES["bert"]
    assert bert.knobs({"is_decoder": True, "num_hidden_layers": 3}, ignore=("is_decoder",))["num_layers"] == 3
    assert bert.knobs({"num_hidden_layers": 3}, ignore=("num_hidden_layers",))["num_layers"] == 12


def test_fields_in_sections():
    fields = (
        Field("rope.theta", "theta", NUMBER),
        Field("rope.kind", (), Kind(lambda value: () if value == "plain" else _refuse()), written=False),
        Field(
            "act",
            ("activation", "gated"),
            Kind(lambda value: (value[1:], True), lambda knobs: f"g{knobs[0]}"),
        ),
    )
    family = Family("x", "X", "XModel", "", {}, fields, {"theta": 1.0, "activation": "relu", "gated": False})
    knobs = family.knobs({"rope": {"theta": 5, "kind": "plain"}, "act": "gsilu"})
    assert knobs == {"theta": 5.0, "activation": "silu", "gated": True}
    assert family.config(knobs) == {"rope": {"theta": 5.0}, "act": "gsilu"}
    with pytest.raises(KzooError, match=r"rope\.kind='yarn'.*cannot honour: only plain"):
        family.knobs({"rope": {"kind": "yarn"}})
    with pytest.raises(KzooError, match=r"rope\.factor=2"):
        family.knobs({"rope": {"factor": 2}})


def _refuse() -> None:
    raise ValueError("only plain")


@pytest.mark.parametrize(
    ("source", "shape"),
    [
        (Source("a"), (3, 4)),
        (Source("a", TRANSPOSED), (3, 4)),
        (Source("a", CONVOLUTION), (5, 3, 2, 2)),
        (Source("a", LEADING_AXIS), (1, 3, 4)),
        (Source("a", SINGLE_ROW), (7,)),
    ],
    ids=["as is", "transposed", "convolution", "leading axis", "single row"],
)
def test_layouts_go_both_ways(source, shape):
    tensor = np.arange(np.prod(shape), dtype="float32").reshape(shape)
    variable = source.read(tensor)
    np.testing.assert_array_equal(write([source], [variable]), tensor)
    assert np.shares_memory(variable, tensor)


@pytest.mark.parametrize("kernel", [AS_IS, TRANSPOSED], ids=["as is", "transposed"])
def test_parts_of_one_tensor(kernel):
    tables = [dense(f"layer_{index}", "fused", kernel=kernel, part=Part(index, 3)) for index in range(3)]
    rng = np.random.default_rng(0)
    shape = (4, 15) if kernel is AS_IS else (15, 4)
    for name, tensor in {"kernel": rng.normal(size=shape), "bias": rng.normal(size=15)}.items():
        sources = [table[f"layer_{index}/{name}"] for index, table in enumerate(tables)]
        parts = [source.read(tensor) for source in sources]
        assert {part.shape for part in parts} == {(4, 5) if name == "kernel" else (5,)}
        np.testing.assert_array_equal(write(sources[::-1], parts[::-1]), tensor)
