"""The config.json of published translation models, BART and T5: what they stand for, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from kzoo.errors import KzooError
from kzoo.models import BartConfig, Config, MarianConfig, T5Config
from kzoo.weights import find_family

SIDES = {
    "add_bias_logits": False,
    "add_final_layer_norm": False,
    "classif_dropout": 0.0,
    "classifier_dropout": 0.0,
    "decoder_layerdrop": 0.0,
    "decoder_layers": 6,
    "dropout": 0.1,
    "encoder_layerdrop": 0.0,
    "encoder_layers": 6,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"},
    "init_std": 0.02,
    "is_encoder_decoder": True,
    "normalize_before": False,
    "num_beams": 4,
    "num_hidden_layers": 6,
    "use_cache": True,
}
MARIAN = {
    **SIDES,
    "activation_dropout": 0.0,
    "activation_function": "swish",
    "architectures": ["MarianMTModel"],
    "attention_dropout": 0.0,
    "bad_words_ids": [[58100]],
    "bos_token_id": 0,
    "d_model": 512,
    "decoder_attention_heads": 8,
    "decoder_ffn_dim": 2048,
    "decoder_start_token_id": 58100,
    "decoder_vocab_size": 58101,
    "encoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "eos_token_id": 0,
    "extra_pos_embeddings": 58101,
    "forced_eos_token_id": 0,
    "max_length": 512,
    "max_position_embeddings": 512,
    "model_type": "marian",
    "normalize_embedding": False,
    "pad_token_id": 58100,
    "scale_embedding": True,
    "share_encoder_decoder_embeddings": True,
    "static_position_embeddings": True,
    "transformers_version": "4.22.0.dev0",
    "vocab_size": 58101,
}
BART = {
    **SIDES,
    "activation_dropout": 0.1,
    "activation_function": "gelu",
    "architectures": ["BartModel"],
    "attention_dropout": 0.1,
    "bos_token_id": 0,
    "d_model": 768,
    "decoder_attention_heads": 12,
    "decoder_ffn_dim": 3072,
    "decoder_start_token_id": 2,
    "early_stopping": True,
    "encoder_attention_heads": 12,
    "encoder_ffn_dim": 3072,
    "eos_token_id": 2,
    "forced_bos_token_id": 0,
    "forced_eos_token_id": 2,
    "gradient_checkpointing": False,
    "max_position_embeddings": 1024,
    "model_type": "bart",
    "no_repeat_ngram_size": 3,
    "normalize_embedding": True,
    "pad_token_id": 1,
    "scale_embedding": False,
    "task_specific_params": {"summarization": {"length_penalty": 1.0}},
    "torch_dtype": "float32",
    "vocab_size": 50265,
}
T5 = {
    "architectures": ["T5ForConditionalGeneration"],
    "d_ff": 2048,
    "d_kv": 64,
    "d_model": 512,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "initializer_factor": 1.0,
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-06,
    "model_type": "t5",
    "n_positions": 512,
    "num_heads": 8,
    "num_layers": 6,
    "output_past": True,
    "pad_token_id": 0,
    "relative_attention_num_buckets": 32,
    "vocab_size": 32128,
}
T5_V1_1 = {
    **T5,
    "d_ff": 1024,
    "feed_forward_proj": "gated-gelu",
    "num_decoder_layers": 8,
    "num_heads": 6,
    "num_layers": 8,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (MARIAN, MarianConfig(unwritten_id=58_100, forced_end_id=0)),
        (BART, BartConfig()),
        (T5, T5Config(hidden_dim=512, num_layers=6, num_heads=8, intermediate_dim=2048)),
        (
            T5_V1_1,
            T5Config(
                hidden_dim=512,
                num_layers=8,
                num_heads=6,
                intermediate_dim=1024,
                activation="gelu_tanh",
                gated=True,
                scale_logits=False,
            ),
        ),
    ],
    ids=["opus-mt-en-de", "bart-base", "t5-small", "t5-v1_1-small"],
)
def test_published_configs_describe_the_variants(fields: dict[str, Any], expected: Config) -> None:
    family = find_family(fields)
    assert type(expected)(**family.knobs(fields)).knobs() == expected.knobs()
    # What is written stands for the same.
    assert type(expected)(**family.knobs(family.config(expected.knobs()))).knobs() == expected.knobs()


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({**MARIAN, "normalize_before": True}, "normalize_before=True"),
        ({**MARIAN, "normalize_embedding": True}, "normalize_embedding=True"),
        ({**MARIAN, "static_position_embeddings": False}, "static_position_embeddings=False"),
        ({**MARIAN, "share_encoder_decoder_embeddings": False}, "share_encoder_decoder_embeddings=False"),
        ({**MARIAN, "decoder_vocab_size": 60_000}, "decoder_vocab_size=60000"),
        ({**MARIAN, "tie_word_embeddings": False}, "tie_word_embeddings=False"),
        ({**BART, "add_final_layer_norm": True}, "add_final_layer_norm=True"),
        ({**BART, "is_encoder_decoder": False}, "is_encoder_decoder=False"),
        ({**T5, "feed_forward_proj": "gated-leaky"}, "feed_forward_proj='gated-leaky'"),
        ({**T5, "dense_act_fn": "silu", "feed_forward_proj": "relu"}, "dense_act_fn='silu'"),
    ],
)
def test_what_kzoo_does_not_compute_is_refused_by_name(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(KzooError) as caught:
        find_family(fields).knobs(fields)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("activation", "gated"), [("relu", False), ("gelu_tanh", True), ("gelu", True), ("silu", True)]
)
def test_t5_writes_its_feed_forward_network_as_it_reads_it(activation: str, gated: bool) -> None:
    knobs = T5Config(activation=activation, gated=gated).knobs()
    family = find_family(T5)
    read = family.knobs(family.config(knobs))
    assert (read["activation"], read["gated"]) == (activation, gated)
