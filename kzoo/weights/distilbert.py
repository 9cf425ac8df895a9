"""DistilBERT checkpoints."""

from __future__ import annotations

from kzoo.weights import bert
from kzoo.weights.family import Family, Head
from kzoo.weights.fields import ACTIVATION, NUMBER, WHOLE, Field
from kzoo.weights.layouts import Source, dense, norm

_BLOCK, _LAYER = "backbone/block_{layer}", "transformer.layer.{layer}"
_CLASSIFIER = dense("head/classifier", "classifier")

FAMILY = Family(
    model_type="distilbert",
    backbone="DistilBert",
    architecture="DistilBertModel",
    prefix="distilbert.",
    table={
        **bert.EMBEDDINGS,
        **dense(f"{_BLOCK}/attention/query", f"{_LAYER}.attention.q_lin"),
        **dense(f"{_BLOCK}/attention/key", f"{_LAYER}.attention.k_lin"),
        **dense(f"{_BLOCK}/attention/value", f"{_LAYER}.attention.v_lin"),
        **dense(f"{_BLOCK}/attention/output", f"{_LAYER}.attention.out_lin"),
        **norm(f"{_BLOCK}/attention_norm", f"{_LAYER}.sa_layer_norm"),
        **dense(f"{_BLOCK}/feed_forward/expand", f"{_LAYER}.ffn.lin1"),
        **dense(f"{_BLOCK}/feed_forward/contract", f"{_LAYER}.ffn.lin2"),
        **norm(f"{_BLOCK}/feed_forward_norm", f"{_LAYER}.output_layer_norm"),
    },
    fields=(
        Field("vocab_size", "vocab_size", WHOLE),
        Field("dim", "hidden_dim", WHOLE),
        Field("n_layers", "num_layers", WHOLE),
        Field("n_heads", "num_heads", WHOLE),
        Field("hidden_dim", "intermediate_dim", WHOLE),
        Field("max_position_embeddings", "max_positions", WHOLE),
        Field("activation", "activation", ACTIVATION),
        Field("dropout", "dropout", NUMBER),
        Field("attention_dropout", "attention_dropout", NUMBER),
        Field("seq_classif_dropout", "classifier_dropout", NUMBER),
    ),
    defaults={
        **{knob: value for knob, value in bert.DEFAULTS.items() if knob != "type_vocab_size"},
        "num_layers": 6,
        "classifier_dropout": 0.2,
    },
    fixed={"layer_norm_epsilon": 1e-12},
    # How fresh weights are made, and a rate that only training has.
    no_effect=("sinusoidal_pos_embds", "tie_weights_", "qa_dropout"),
    heads=(
        Head(
            "DistilBertForSequenceClassification",
            "classification",
            {**dense("head/dense", "pre_classifier"), **_CLASSIFIER},
        ),
        Head("DistilBertForTokenClassification", "tokens", _CLASSIFIER),
        Head("DistilBertForQuestionAnswering", "qa", dense("head/span", "qa_outputs")),
        Head(
            "DistilBertForMaskedLM",
            "mlm",
            {
                **dense("head/dense", "vocab_transform"),
                **norm("head/norm", "vocab_layer_norm"),
                "head/bias": Source("vocab_projector.bias"),
            },
            tied={"vocab_projector.weight": "embeddings.word_embeddings.weight"},
        ),
    ),
    known=(r"embeddings\.position_ids",),
)
