"""ViT checkpoints."""

from __future__ import annotations

from kzoo.weights.table import (
    Family,
    Field,
    activation,
    convolution,
    dense,
    embedding,
    first,
    norm,
    number,
    square,
    whole,
)

_BLOCK, _LAYER = "backbone/block_{layer}", "encoder.layer.{layer}"

FAMILY = Family(
    model_type="vit",
    prefix="vit.",
    backbone={
        **dense("backbone/patches/projection", "embeddings.patch_embeddings.projection", kernel=convolution),
        **embedding("backbone/class_token", "embeddings.cls_token", first),
        **embedding("backbone/position_embedding", "embeddings.position_embeddings", first),
        **norm(f"{_BLOCK}/attention_norm", f"{_LAYER}.layernorm_before"),
        **dense(f"{_BLOCK}/attention/query", f"{_LAYER}.attention.attention.query"),
        **dense(f"{_BLOCK}/attention/key", f"{_LAYER}.attention.attention.key"),
        **dense(f"{_BLOCK}/attention/value", f"{_LAYER}.attention.attention.value"),
        **dense(f"{_BLOCK}/attention/output", f"{_LAYER}.attention.output.dense"),
        **norm(f"{_BLOCK}/feed_forward_norm", f"{_LAYER}.layernorm_after"),
        **dense(f"{_BLOCK}/feed_forward/expand", f"{_LAYER}.intermediate.dense"),
        **dense(f"{_BLOCK}/feed_forward/contract", f"{_LAYER}.output.dense"),
        **norm("backbone/final_norm", "layernorm"),
    },
    fields={
        "image_size": Field("image_size", square),
        "patch_size": Field("patch_size", square),
        "num_channels": Field("num_channels", whole),
        "hidden_size": Field("hidden_dim", whole),
        "num_hidden_layers": Field("num_layers", whole),
        "num_attention_heads": Field("num_heads", whole),
        "intermediate_size": Field("intermediate_dim", whole),
        "hidden_act": Field("activation", activation),
        "layer_norm_eps": Field("layer_norm_epsilon", number),
        "hidden_dropout_prob": Field("dropout", number),
        "attention_probs_dropout_prob": Field("attention_dropout", number),
    },
    defaults={
        "image_size": 224,
        "patch_size": 16,
        "num_channels": 3,
        "hidden_dim": 768,
        "num_layers": 12,
        "num_heads": 12,
        "intermediate_dim": 3072,
        "activation": "gelu",
        "layer_norm_epsilon": 1e-12,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    },
    required={"qkv_bias": True},
    heads={"ViTForImageClassification": "image_classification"},
    head=dense("head/classifier", "classifier"),
    # kzoo pools by the class token alone; the rest belongs to masked image modelling.
    known=(r"pooler\.dense\..*", r"embeddings\.mask_token", r"decoder\..*"),
)
