"""Llama, Qwen2 and Mistral against the public reference implementation."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kzoo.errors import KzooError
from kzoo.models import from_pretrained
from tests.models import references
from tests.models.parity.compare import assert_same, check

pytestmark = pytest.mark.backend

USUAL = {
    "vocab_size": 97,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 37,
    "max_position_embeddings": 64,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
ODD_LLAMA = {
    **USUAL,
    "num_key_value_heads": 3,
    "head_dim": 10,
    "attention_bias": True,
    "mlp_bias": True,
    "hidden_act": "gelu",
    "rms_norm_eps": 0.1,
    "tie_word_embeddings": True,
    "rope_parameters": LLAMA3,
}
ODD_QWEN2 = {
    **USUAL,
    "num_key_value_heads": 1,
    "tie_word_embeddings": True,
    "use_sliding_window": True,
    "sliding_window": 5,
    "max_window_layers": 1,
    "rope_parameters": {"rope_type": "linear", "rope_theta": 50.0, "factor": 3.0},
}
ODD_MISTRAL = {**USUAL, "num_key_value_heads": 6, "head_dim": 6, "sliding_window": 4, "hidden_act": "relu"}


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("Llama", USUAL),
        ("Llama", ODD_LLAMA),
        ("Qwen2", USUAL),
        ("Qwen2", ODD_QWEN2),
        ("Mistral", USUAL),
        ("Mistral", ODD_MISTRAL),
    ],
    ids=["llama", "odd llama", "qwen2", "odd qwen2", "mistral", "odd mistral"],
)
def test_logits_and_states(tmp_path, family, fields):
    ours = check(tmp_path, f"{family}ForCausalLM", fields)
    assert ours.task == "causal_lm"
    assert (ours.head.projection is None) == fields.get("tie_word_embeddings", False)


def test_without_a_head(tmp_path):
    check(tmp_path, "MistralModel", ODD_MISTRAL, task="features", names={"pooled": None})


@pytest.mark.parametrize(
    ("model_class", "fields", "task"),
    [
        ("LlamaForSequenceClassification", {"num_labels": 5}, "classification"),
        ("Qwen2ForSequenceClassification", {"problem_type": "multi_label_classification"}, "multilabel"),
        ("MistralForTokenClassification", {"num_labels": 4}, "tokens"),
    ],
)
def test_classifiers(tmp_path, bpe, model_class, fields, task):
    # The reference tells padding by its id, which a written config.json has from the tokenizer.
    fields = {**USUAL, "vocab_size": 300, "pad_token_id": bpe.pad_id, **fields}
    assert check(tmp_path, model_class, fields, tokenizer=bpe).task == task


@pytest.mark.parametrize(
    ("family", "fields"), [("Llama", ODD_LLAMA), ("Qwen2", ODD_QWEN2), ("Mistral", ODD_MISTRAL)]
)
def test_left_padding(tmp_path, family, fields):
    theirs = references.reference(f"{family}ForCausalLM", f"{family}Config", **fields)
    ours = from_pretrained(references.save(theirs, tmp_path))
    mask = (np.arange(17)[None] >= np.array([0, 15, 8, 1])[:, None]).astype("int64")
    ids = np.random.default_rng(1).integers(0, 97, mask.shape)
    expected = references.run(theirs, input_ids=ids, attention_mask=mask)
    assert_same(ours({"input_ids": ids, "attention_mask": mask})["logits"], expected["logits"], mask)


def rewritten(folder, **fields):
    """Change config.json; None takes a field out."""
    config = json.loads((folder / "config.json").read_text()) | fields
    kept = {name: value for name, value in config.items() if value is not None or name not in fields}
    (folder / "config.json").write_text(json.dumps(kept))
    return folder


def test_older_names_for_rotary_positions(tmp_path):
    theirs = references.reference("LlamaForCausalLM", "LlamaConfig", **ODD_LLAMA)
    folder = references.save(theirs, tmp_path)
    scaling = {name: value for name, value in LLAMA3.items() if name != "rope_theta"}
    rewritten(folder, rope_parameters=None, rope_theta=1000.0, rope_scaling=scaling)
    ids = np.random.default_rng(1).integers(0, 97, (2, 17))
    expected = references.run(theirs, input_ids=ids)["logits"]
    assert_same(from_pretrained(folder)(ids)["logits"], expected)


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory):
    theirs = references.reference("Qwen2ForCausalLM", "Qwen2Config", **USUAL)
    return references.save(theirs, tmp_path_factory.mktemp("qwen2"))


@pytest.mark.parametrize(
    ("fields", "windows"),
    [
        ({"use_sliding_window": False, "sliding_window": 5, "layer_types": None}, [None, None, None]),
        ({"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0}, [5, 5, 5]),
        ({"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 9}, [None, None, None]),
        (
            {"use_sliding_window": True, "sliding_window": 5, "layer_types": ["full_attention"] * 3},
            [None, None, None],
        ),
        (
            {
                "use_sliding_window": True,
                "sliding_window": 5,
                "max_window_layers": 0,
                "layer_types": ["full_attention", "full_attention", "sliding_attention"],
            },
            [None, None, 5],
        ),
    ],
    ids=["unused", "everywhere", "nowhere", "layers say nowhere", "layers say the last"],
)
def test_where_qwen2_has_a_window(qwen2, fields, windows):
    folder = rewritten(qwen2, **{"layer_types": None, "max_window_layers": None, **fields})
    assert from_pretrained(folder).backbone.windows() == windows


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "kzoo has default, linear, llama3"),
        ({"rope_parameters": {"rope_type": "linear"}}, "it has no factor"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "kzoo does not know its partial_rotary_factor"),
        ({"rope_theta": 77.0}, "kzoo's qwen2 has one rotary_theta for both"),
        ({"layer_types": ["sliding_attention", "full_attention", "full_attention"]}, "after them blocks of"),
        ({"use_sliding_window": "yes"}, "use_sliding_window='yes'.*neither true nor false"),
        ({"use_mrope": True}, "use_mrope=True, which kzoo's qwen2 does not compute"),
        ({"rope_interleaved": True}, "does not know that field"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(qwen2, tmp_path, fields, message):
    config = json.loads((qwen2 / "config.json").read_text())
    config["layer_types"] = ["full_attention"] * 3
    (tmp_path / "config.json").write_text(json.dumps(config | fields))
    (tmp_path / "model.safetensors").symlink_to(qwen2 / "model.safetensors")
    with pytest.raises(KzooError, match=message):
        from_pretrained(tmp_path)
