"""GPT-2 checkpoints, whose linear layers are stored (in, out), query, key and value side by side in one."""

from __future__ import annotations

import numpy as np

from kzoo.weights.table import (
    Family,
    Field,
    Table,
    Transform,
    activation,
    as_is,
    dense,
    embedding,
    norm,
    number,
    whole,
)

_BLOCK, _LAYER = "backbone/block_{layer}", "h.{layer}"


def _third(index: int) -> Transform:
    def cut(array: np.ndarray) -> np.ndarray:
        return np.split(array, 3, axis=-1)[index]

    return cut


def _projection(name: str, index: int) -> Table:
    third = _third(index)
    return dense(f"{_BLOCK}/attention/{name}", f"{_LAYER}.attn.c_attn", kernel=third, bias=third)


FAMILY = Family(
    model_type="gpt2",
    prefix="transformer.",
    backbone={
        **embedding("backbone/token_embedding", "wte.weight"),
        **embedding("backbone/position_embedding", "wpe.weight"),
        **norm(f"{_BLOCK}/attention_norm", f"{_LAYER}.ln_1"),
        **_projection("query", 0),
        **_projection("key", 1),
        **_projection("value", 2),
        **dense(f"{_BLOCK}/attention/output", f"{_LAYER}.attn.c_proj", kernel=as_is),
        **norm(f"{_BLOCK}/feed_forward_norm", f"{_LAYER}.ln_2"),
        **dense(f"{_BLOCK}/feed_forward/expand", f"{_LAYER}.mlp.c_fc", kernel=as_is),
        **dense(f"{_BLOCK}/feed_forward/contract", f"{_LAYER}.mlp.c_proj", kernel=as_is),
        **norm("backbone/final_norm", "ln_f"),
    },
    fields={
        "vocab_size": Field("vocab_size", whole),
        "n_embd": Field("hidden_dim", whole),
        "hidden_size": Field("hidden_dim", whole),
        "n_layer": Field("num_layers", whole),
        "num_hidden_layers": Field("num_layers", whole),
        "n_head": Field("num_heads", whole),
        "num_attention_heads": Field("num_heads", whole),
        "n_inner": Field("intermediate_dim", whole),
        "n_positions": Field("max_positions", whole),
        "max_position_embeddings": Field("max_positions", whole),
        "activation_function": Field("activation", activation),
        "layer_norm_epsilon": Field("layer_norm_epsilon", number),
        "resid_pdrop": Field("dropout", number),
        "embd_pdrop": Field("dropout", number),
        "attn_pdrop": Field("attention_dropout", number),
    },
    defaults={
        "vocab_size": 50_257,
        "hidden_dim": 768,
        "num_layers": 12,
        "num_heads": 12,
        "intermediate_dim": lambda knobs: 4 * knobs["hidden_dim"],
        "max_positions": 1024,
        "activation": "gelu_tanh",
        "layer_norm_epsilon": 1e-5,
        "dropout": 0.1,
        "attention_dropout": 0.1,
    },
    required={
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "tie_word_embeddings": True,
    },
    heads={"GPT2LMHeadModel": "causal_lm"},
    tied={"lm_head.weight": "wte.weight"},
    known=(
        # The causal mask, which older checkpoints hold as buffers.
        r"h\.\d+\.attn\.(bias|masked_bias)",
        # The tied table's second name, and the heads of other tasks.
        r"lm_head\.weight",
        r"(score|classifier|qa_outputs|multiple_choice_head)\..*",
    ),
)
