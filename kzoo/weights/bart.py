"""BART checkpoints, and what those of Marian share with them."""

from __future__ import annotations

from typing import Any

from kzoo.weights.family import Family, Head
from kzoo.weights.fields import ACTIVATION, FLAG, NUMBER, WHOLE, Field
from kzoo.weights.layouts import LEADING_AXIS, Source, Table, dense, embedding, norm


def _attention(block: str, layer: str) -> Table:
    return {
        **dense(f"{block}/query", f"{layer}.q_proj"),
        **dense(f"{block}/key", f"{layer}.k_proj"),
        **dense(f"{block}/value", f"{layer}.v_proj"),
        **dense(f"{block}/output", f"{layer}.out_proj"),
    }


def _side(side: str, number: str) -> Table:
    block, layer = f"backbone/{side}_block_{number}", f"{side}.layers.{number}"
    return {
        **_attention(f"{block}/attention", f"{layer}.self_attn"),
        **norm(f"{block}/attention_norm", f"{layer}.self_attn_layer_norm"),
        **dense(f"{block}/feed_forward/expand", f"{layer}.fc1"),
        **dense(f"{block}/feed_forward/contract", f"{layer}.fc2"),
        **norm(f"{block}/feed_forward_norm", f"{layer}.final_layer_norm"),
    }


_DECODER = "decoder.layers.{decoder_layer}"
BLOCKS: Table = {
    **embedding("backbone/token_embedding", "shared.weight"),
    **_side("encoder", "{layer}"),
    **_side("decoder", "{decoder_layer}"),
    **_attention("backbone/decoder_block_{decoder_layer}/cross_attention", f"{_DECODER}.encoder_attn"),
    **norm(
        "backbone/decoder_block_{decoder_layer}/cross_attention_norm", f"{_DECODER}.encoder_attn_layer_norm"
    ),
}
LAYERS = {"layer": "num_layers", "decoder_layer": "num_decoder_layers"}
FIELDS = (
    Field("vocab_size", "vocab_size", WHOLE),
    Field("d_model", "hidden_dim", WHOLE),
    Field("hidden_size", "hidden_dim", WHOLE, written=False),
    Field("encoder_layers", "num_layers", WHOLE),
    Field("num_hidden_layers", "num_layers", WHOLE, written=False),
    Field("decoder_layers", "num_decoder_layers", WHOLE),
    Field("encoder_attention_heads", "num_heads", WHOLE),
    Field("num_attention_heads", "num_heads", WHOLE, written=False),
    Field("decoder_attention_heads", "num_decoder_heads", WHOLE),
    Field("encoder_ffn_dim", "intermediate_dim", WHOLE),
    Field("decoder_ffn_dim", "decoder_intermediate_dim", WHOLE),
    Field("max_position_embeddings", "max_positions", WHOLE),
    Field("activation_function", "activation", ACTIVATION),
    Field("scale_embedding", "scale_embedding", FLAG),
    Field("dropout", "dropout", NUMBER),
    Field("attention_dropout", "attention_dropout", NUMBER),
    Field("activation_dropout", "activation_dropout", NUMBER),
)
DEFAULTS: dict[str, Any] = {
    "hidden_dim": 1024,
    "num_layers": 12,
    "num_decoder_layers": 12,
    "num_heads": 16,
    "num_decoder_heads": 16,
    "intermediate_dim": 4096,
    "decoder_intermediate_dim": 4096,
    "max_positions": 1024,
    "activation": "gelu",
    "scale_embedding": False,
    "dropout": 0.1,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
}
FIXED: dict[str, Any] = {"norm_first": False, "layer_norm_epsilon": 1e-5}
# What the first checkpoints say of the arithmetic, with the only values that the original library still computes.
REQUIRED: dict[str, Any] = {
    "is_encoder_decoder": True,
    "normalize_before": False,
    "add_final_layer_norm": False,
}
NO_EFFECT = (
    # Rates that count while training alone.
    "encoder_layerdrop",
    "decoder_layerdrop",
    "classif_dropout",
    "classifier_dropout",
    # There is a bias on the logits in any case.
    "add_bias_logits",
    "extra_pos_embeddings",
    "force_bos_token_to_be_generated",
)
TIED = {"encoder.embed_tokens.weight": "shared.weight", "decoder.embed_tokens.weight": "shared.weight"}
LOGITS: Table = {"head/bias": Source("final_logits_bias", LEADING_AXIS)}
LOGITS_TIED = {"lm_head.weight": "shared.weight"}


def _entrance(side: str) -> Table:
    return {
        **embedding(f"backbone/{side}_position_embedding", f"{side}.embed_positions.weight"),
        **norm(f"backbone/{side}_embedding_norm", f"{side}.layernorm_embedding"),
    }


FAMILY = Family(
    model_type="bart",
    backbone="Bart",
    architecture="BartModel",
    prefix="model.",
    table={**BLOCKS, **_entrance("encoder"), **_entrance("decoder")},
    fields=FIELDS,
    defaults={"vocab_size": 50_265, **DEFAULTS},
    fixed=FIXED,
    required={**REQUIRED, "normalize_embedding": True, "static_position_embeddings": False},
    no_effect=NO_EFFECT,
    heads=(
        Head("BartForConditionalGeneration", "seq2seq", LOGITS, tied=LOGITS_TIED),
        # The published base model is stored without a head: its logits have no bias.
        Head("BartModel", "seq2seq", without=("head",)),
    ),
    tied=TIED,
    known=(r"(encoder|decoder)\.version",),
    layers=LAYERS,
)
