"""CLIP checkpoints, both towers in one."""

from __future__ import annotations

from typing import Any

from kzoo.weights.family import Family, Head
from kzoo.weights.fields import ACTIVATION, NUMBER, SQUARE, WHOLE, Field, Kind
from kzoo.weights.layouts import CONVOLUTION, SINGLE_ROW, Source, Table, dense, embedding, norm


def _tower(block: str, layer: str) -> Table:
    """Return the lines of a tower's blocks."""
    return {
        **norm(f"{block}/attention_norm", f"{layer}.layer_norm1"),
        **dense(f"{block}/attention/query", f"{layer}.self_attn.q_proj"),
        **dense(f"{block}/attention/key", f"{layer}.self_attn.k_proj"),
        **dense(f"{block}/attention/value", f"{layer}.self_attn.v_proj"),
        **dense(f"{block}/attention/output", f"{layer}.self_attn.out_proj"),
        **norm(f"{block}/feed_forward_norm", f"{layer}.layer_norm2"),
        **dense(f"{block}/feed_forward/expand", f"{layer}.mlp.fc1"),
        **dense(f"{block}/feed_forward/contract", f"{layer}.mlp.fc2"),
    }


# The id that the first configs had by mistake: the original library then goes by the highest id of a text.
_HIGHEST = 2


def _read_end(value: Any) -> int | None:
    return None if value == _HIGHEST else WHOLE.read(value)


_END = Kind(_read_end, lambda end_id: _HIGHEST if end_id is None else end_id)


_FIELDS = (
    Field("text_config.vocab_size", "vocab_size", WHOLE),
    Field("text_config.max_position_embeddings", "max_positions", WHOLE),
    Field("text_config.hidden_size", "hidden_dim", WHOLE),
    Field("text_config.num_hidden_layers", "num_layers", WHOLE),
    Field("text_config.num_attention_heads", "num_heads", WHOLE),
    Field("text_config.intermediate_size", "intermediate_dim", WHOLE),
    Field("text_config.hidden_act", "activation", ACTIVATION),
    Field("text_config.layer_norm_eps", "layer_norm_epsilon", NUMBER),
    Field("text_config.attention_dropout", "attention_dropout", NUMBER),
    Field("text_config.eos_token_id", "end_id", _END),
    Field("vision_config.image_size", "image_size", SQUARE),
    Field("vision_config.patch_size", "patch_size", SQUARE),
    Field("vision_config.num_channels", "num_channels", WHOLE),
    Field("vision_config.hidden_size", "vision_hidden_dim", WHOLE),
    Field("vision_config.num_hidden_layers", "vision_num_layers", WHOLE),
    Field("vision_config.num_attention_heads", "vision_num_heads", WHOLE),
    Field("vision_config.intermediate_size", "vision_intermediate_dim", WHOLE),
    Field("vision_config.hidden_act", "vision_activation", ACTIVATION),
    Field("vision_config.layer_norm_eps", "vision_layer_norm_epsilon", NUMBER),
    Field("vision_config.attention_dropout", "vision_attention_dropout", NUMBER),
)
# Some configs say everything twice; the two must agree.
_REPEATED = tuple(
    entry._replace(name=entry.name.replace("_config.", "_config_dict."), written=False) for entry in _FIELDS
)
_TEXT, _VISION = "text_model.embeddings", "vision_model.embeddings"

FAMILY = Family(
    model_type="clip",
    backbone="CLIP",
    architecture="CLIPModel",
    prefix="",
    table={
        **embedding("backbone/text/token_embedding", f"{_TEXT}.token_embedding.weight"),
        **embedding("backbone/text/position_embedding", f"{_TEXT}.position_embedding.weight"),
        **_tower("backbone/text/block_{layer}", "text_model.encoder.layers.{layer}"),
        **norm("backbone/text/final_norm", "text_model.final_layer_norm"),
        **dense("backbone/text_projection", "text_projection"),
        **dense("backbone/vision/patches/projection", f"{_VISION}.patch_embedding", kernel=CONVOLUTION),
        **embedding("backbone/vision/class_token", f"{_VISION}.class_embedding", SINGLE_ROW),
        **embedding("backbone/vision/position_embedding", f"{_VISION}.position_embedding.weight"),
        # Misspelt where it comes from.
        **norm("backbone/vision/embedding_norm", "vision_model.pre_layrnorm"),
        **_tower("backbone/vision/block_{vision_layer}", "vision_model.encoder.layers.{vision_layer}"),
        **norm("backbone/vision/final_norm", "vision_model.post_layernorm"),
        **dense("backbone/vision_projection", "visual_projection"),
    },
    fields=(*_FIELDS, *_REPEATED, Field("projection_dim", "projection_dim", WHOLE)),
    defaults={
        "vocab_size": 49_408,
        "max_positions": 77,
        "hidden_dim": 512,
        "num_layers": 12,
        "num_heads": 8,
        "intermediate_dim": 2048,
        "activation": "gelu_quick",
        "layer_norm_epsilon": 1e-5,
        "attention_dropout": 0.0,
        "end_id": 49_407,
        "image_size": 224,
        "patch_size": 32,
        "num_channels": 3,
        "vision_hidden_dim": 768,
        "vision_num_layers": 12,
        "vision_num_heads": 12,
        "vision_intermediate_dim": 3072,
        "vision_activation": "gelu_quick",
        "vision_layer_norm_epsilon": 1e-5,
        "vision_attention_dropout": 0.0,
        "projection_dim": 512,
    },
    # The projections' width is that of the whole config; its dropout is used nowhere.
    no_effect=(
        "logit_scale_init_value",
        *(
            f"{section}.{name}"
            for section in ("text_config", "vision_config", "text_config_dict", "vision_config_dict")
            for name in ("projection_dim", "dropout")
        ),
    ),
    heads=(Head("CLIPModel", "image_text_similarity", {"head/logit_scale": Source("logit_scale")}),),
    known=(r".*\.position_ids",),
    layers={"layer": "num_layers", "vision_layer": "vision_num_layers"},
)
