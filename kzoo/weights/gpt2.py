"""GPT-2 checkpoints, whose linear layers are stored (in, out), query, key and value side by side in one."""

from __future__ import annotations

from kzoo.weights.family import Family, Head
from kzoo.weights.fields import ACTIVATION, NUMBER, WHOLE, Field
from kzoo.weights.layouts import AS_IS, Part, Table, dense, embedding, norm

_BLOCK, _LAYER = "backbone/block_{layer}", "h.{layer}"


def _projection(name: str, index: int) -> Table:
    third = Part(index, 3)
    return dense(f"{_BLOCK}/attention/{name}", f"{_LAYER}.attn.c_attn", kernel=AS_IS, part=third)


FAMILY = Family(
    model_type="gpt2",
    backbone="GPT2",
    architecture="GPT2Model",
    prefix="transformer.",
    table={
        **embedding("backbone/token_embedding", "wte.weight"),
        **embedding("backbone/position_embedding", "wpe.weight"),
        **norm(f"{_BLOCK}/attention_norm", f"{_LAYER}.ln_1"),
        **_projection("query", 0),
        **_projection("key", 1),
        **_projection("value", 2),
        **dense(f"{_BLOCK}/attention/output", f"{_LAYER}.attn.c_proj", kernel=AS_IS),
        **norm(f"{_BLOCK}/feed_forward_norm", f"{_LAYER}.ln_2"),
        **dense(f"{_BLOCK}/feed_forward/expand", f"{_LAYER}.mlp.c_fc", kernel=AS_IS),
        **dense(f"{_BLOCK}/feed_forward/contract", f"{_LAYER}.mlp.c_proj", kernel=AS_IS),
        **norm("backbone/final_norm", "ln_f"),
    },
    fields=(
        Field("vocab_size", "vocab_size", WHOLE),
        Field("n_embd", "hidden_dim", WHOLE),
        Field("hidden_size", "hidden_dim", WHOLE, written=False),
        Field("n_layer", "num_layers", WHOLE),
        Field("num_hidden_layers", "num_layers", WHOLE, written=False),
        Field("n_head", "num_heads", WHOLE),
        Field("num_attention_heads", "num_heads", WHOLE, written=False),
        Field("n_inner", "intermediate_dim", WHOLE),
        Field("n_positions", "max_positions", WHOLE),
        Field("n_ctx", "max_positions", WHOLE, written=False),
        Field("max_position_embeddings", "max_positions", WHOLE, written=False),
        Field("activation_function", "activation", ACTIVATION),
        Field("layer_norm_epsilon", "layer_norm_epsilon", NUMBER),
        Field("resid_pdrop", "dropout", NUMBER),
        Field("embd_pdrop", "dropout", NUMBER),
        Field("attn_pdrop", "attention_dropout", NUMBER),
    ),
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
    required={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False},
    no_effect=(
        # How half precision is computed; kzoo's scores are float32 always.
        "reorder_and_upcast_attn",
        # The multiple-choice head, which kzoo lacks, and the dropout of another.
        "predict_special_tokens",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
        "classifier_dropout",
    ),
    heads=(
        Head("GPT2LMHeadModel", "causal_lm", tied={"lm_head.weight": "wte.weight"}),
        Head("GPT2ForSequenceClassification", "classification", dense("head/classifier", "score")),
        Head("GPT2ForTokenClassification", "tokens", dense("head/classifier", "classifier")),
    ),
    known=(
        # The causal mask, which older checkpoints hold as buffers.
        r"h\.\d+\.attn\.(bias|masked_bias)",
        r"(qa_outputs|multiple_choice_head)\..*",
    ),
)
