"""The config.json of the best known checkpoints: nothing in them is refused, and they describe the variants."""

from __future__ import annotations

from typing import Any

import pytest

import kzoo
from kzoo.models import AlbertConfig, BertConfig, Config, DistilBertConfig, ElectraConfig, RobertaConfig
from kzoo.weights import find_family

BERT = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "type_vocab_size": 2,
    "vocab_size": 30522,
}
ROBERTA = {
    **BERT,
    "architectures": ["RobertaForMaskedLM"],
    "model_type": "roberta",
    "bos_token_id": 0,
    "eos_token_id": 2,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 514,
    "pad_token_id": 1,
    "type_vocab_size": 1,
    "vocab_size": 50265,
}

CONFIGS: dict[str, tuple[dict[str, Any], Config]] = {
    "bert-base-uncased": (
        {**BERT, "model_type": "bert", "architectures": ["BertForMaskedLM"], "gradient_checkpointing": False},
        BertConfig(),
    ),
    "roberta-base": (ROBERTA, RobertaConfig()),
    "xlm-roberta-base": (
        {
            **ROBERTA,
            "architectures": ["XLMRobertaForMaskedLM"],
            "model_type": "xlm-roberta",
            "output_past": True,
            "position_embedding_type": "absolute",
            "use_cache": True,
            "vocab_size": 250002,
        },
        RobertaConfig(vocab_size=250_002),
    ),
    "distilbert-base-uncased": (
        {
            "activation": "gelu",
            "architectures": ["DistilBertForMaskedLM"],
            "attention_dropout": 0.1,
            "dim": 768,
            "dropout": 0.1,
            "hidden_dim": 3072,
            "initializer_range": 0.02,
            "max_position_embeddings": 512,
            "model_type": "distilbert",
            "n_heads": 12,
            "n_layers": 6,
            "pad_token_id": 0,
            "qa_dropout": 0.1,
            "seq_classif_dropout": 0.2,
            "sinusoidal_pos_embds": False,
            "tie_weights_": True,
            "vocab_size": 30522,
        },
        DistilBertConfig(),
    ),
    "albert-base-v2": (
        {
            **BERT,
            "architectures": ["AlbertForMaskedLM"],
            "model_type": "albert",
            "attention_probs_dropout_prob": 0,
            "hidden_dropout_prob": 0,
            "classifier_dropout_prob": 0.1,
            "embedding_size": 128,
            "hidden_act": "gelu_new",
            "vocab_size": 30000,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "inner_group_num": 1,
            "num_hidden_groups": 1,
            "down_scale_factor": 1,
            "gap_size": 0,
            "net_structure_type": 0,
            "num_memory_blocks": 0,
        },
        AlbertConfig(),
    ),
    "electra-small-discriminator": (
        {
            **BERT,
            "architectures": ["ElectraForPreTraining"],
            "model_type": "electra",
            "embedding_size": 128,
            "hidden_size": 256,
            "intermediate_size": 1024,
            "num_attention_heads": 4,
            "position_embedding_type": "absolute",
            "summary_activation": "gelu",
            "summary_last_dropout": 0.1,
            "summary_type": "first",
            "summary_use_proj": True,
        },
        ElectraConfig(embedding_dim=128, hidden_dim=256, num_heads=4, intermediate_dim=1024),
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_published_configs(name):
    fields, expected = CONFIGS[name]
    family = find_family(fields)
    config_class = getattr(kzoo.models, family.backbone).Config
    assert config_class(**family.knobs(fields)) == expected
    # What is written stands for the same.
    assert config_class(**family.knobs(family.config(vars(expected)))) == expected
