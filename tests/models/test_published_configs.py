"""The config.json of the best known checkpoints: nothing in them is refused, and they describe the variants."""

from __future__ import annotations

from typing import Any

import pytest

import kzoo
from kzoo.models import (
    AlbertConfig,
    BertConfig,
    CLIPConfig,
    Config,
    DeiTConfig,
    DistilBertConfig,
    ElectraConfig,
    RobertaConfig,
    ViTConfig,
)
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
VIT = {
    "attention_probs_dropout_prob": 0.0,
    "encoder_stride": 16,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "hidden_size": 768,
    "id2label": {"0": "tench, Tinca tinca"},
    "image_size": 224,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "label2id": {"tench, Tinca tinca": 0},
    "layer_norm_eps": 1e-12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "num_hidden_layers": 12,
    "patch_size": 16,
    "qkv_bias": True,
}
# What either tower's section says besides, much of it about texts that are never written.
CLIP = {
    "add_cross_attention": False,
    "attention_dropout": 0.0,
    "bad_words_ids": None,
    "chunk_size_feed_forward": 0,
    "do_sample": False,
    "dropout": 0.0,
    "early_stopping": False,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "initializer_factor": 1.0,
    "is_decoder": False,
    "is_encoder_decoder": False,
    "length_penalty": 1.0,
    "max_length": 20,
    "num_beams": 1,
    "output_attentions": False,
    "pruned_heads": {},
    "repetition_penalty": 1.0,
    "return_dict": True,
    "tie_encoder_decoder": False,
    "tie_word_embeddings": True,
    "top_k": 50,
    "torchscript": False,
    "transformers_version": "4.16.0.dev0",
    "use_bfloat16": False,
}
CLIP_TEXT = {
    "bos_token_id": 0,
    "eos_token_id": 2,
    "hidden_act": "quick_gelu",
    "hidden_size": 512,
    "intermediate_size": 2048,
    "layer_norm_eps": 1e-05,
    "model_type": "clip_text_model",
    "num_attention_heads": 8,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
}
CLIP_VISION = {
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "model_type": "clip_vision_model",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "patch_size": 32,
}
LARGE_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
LARGE_VISION = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "patch_size": 14,
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
    "vit-base-patch32-384": (
        {
            **VIT,
            "architectures": ["ViTForImageClassification"],
            "model_type": "vit",
            "image_size": 384,
            "patch_size": 32,
        },
        ViTConfig(image_size=384, patch_size=32, layer_norm_epsilon=1e-12),
    ),
    "deit-base-distilled-patch16-224": (
        {**VIT, "architectures": ["DeiTForImageClassificationWithTeacher"], "model_type": "deit"},
        DeiTConfig(layer_norm_epsilon=1e-12),
    ),
    "clip-vit-base-patch32": (
        {
            "_name_or_path": "openai/clip-vit-base-patch32",
            "architectures": ["CLIPModel"],
            "initializer_factor": 1.0,
            "logit_scale_init_value": 2.6592,
            "model_type": "clip",
            "projection_dim": 512,
            "text_config": {**CLIP, **CLIP_TEXT, "vocab_size": 49408, "max_position_embeddings": 77},
            "text_config_dict": None,
            "torch_dtype": "float32",
            "transformers_version": None,
            "vision_config": {**CLIP, **CLIP_VISION, "image_size": 224},
            "vision_config_dict": None,
        },
        CLIPConfig(),
    ),
    "clip-vit-large-patch14, in short": (
        {
            "architectures": ["CLIPModel"],
            "model_type": "clip",
            "projection_dim": 768,
            "text_config": {**CLIP_TEXT, **LARGE_TEXT, "projection_dim": 768},
            "text_config_dict": {**LARGE_TEXT, "projection_dim": 768},
            "vision_config": {**CLIP_VISION, **LARGE_VISION, "projection_dim": 768},
            "vision_config_dict": {**LARGE_VISION, "projection_dim": 768},
        },
        CLIPConfig(
            hidden_dim=768,
            num_heads=12,
            intermediate_dim=3072,
            patch_size=14,
            vision_hidden_dim=1024,
            vision_num_layers=24,
            vision_num_heads=16,
            vision_intermediate_dim=4096,
            projection_dim=768,
        ),
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
