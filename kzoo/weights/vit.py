"""ViT checkpoints."""

from __future__ import annotations

from kzoo.weights.family import Family, Head
from kzoo.weights.fields import ACTIVATION, FLAG, NUMBER, SQUARE, WHOLE, Field
from kzoo.weights.layouts import CONVOLUTION, LEADING_AXIS, dense, embedding, norm

_BLOCK, _LAYER = "backbone/block_{layer}", "encoder.layer.{layer}"

FAMILY = Family(
    model_type="vit",
    backbone="ViT",
    architecture="ViTModel",
    prefix="vit.",
    table={
        **dense("backbone/patches/projection", "embeddings.patch_embeddings.projection", kernel=CONVOLUTION),
        **embedding("backbone/class_token", "embeddings.cls_token", LEADING_AXIS),
        **embedding("backbone/position_embedding", "embeddings.position_embeddings", LEADING_AXIS),
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
    fields=(
        Field("image_size", "image_size", SQUARE),
        Field("patch_size", "patch_size", SQUARE),
        Field("num_channels", "num_channels", WHOLE),
        Field("hidden_size", "hidden_dim", WHOLE),
        Field("num_hidden_layers", "num_layers", WHOLE),
        Field("num_attention_heads", "num_heads", WHOLE),
        Field("intermediate_size", "intermediate_dim", WHOLE),
        Field("hidden_act", "activation", ACTIVATION),
        Field("layer_norm_eps", "layer_norm_epsilon", NUMBER),
        Field("hidden_dropout_prob", "dropout", NUMBER),
        Field("attention_probs_dropout_prob", "attention_dropout", NUMBER),
        Field("qkv_bias", "attention_bias", FLAG),
    ),
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
        "attention_bias": True,
    },
    fixed={"layer_scale": None, "embedding_norm": False},
    # kzoo pools by the class token alone; the decoder belongs to masked image modelling.
    no_effect=("pooler_act", "pooler_output_size", "encoder_stride"),
    heads=(
        Head("ViTForImageClassification", "image_classification", dense("head/classifier", "classifier")),
    ),
    known=(r"pooler\.dense\..*", r"embeddings\.mask_token", r"decoder\..*"),
)
