"""ALBERT checkpoints."""

from __future__ import annotations

from kzoo.weights import bert
from kzoo.weights.family import Family, Head
from kzoo.weights.fields import NUMBER, WHOLE, Field
from kzoo.weights.layouts import Source, Table, dense, norm

# However often it runs, the block is stored once.
_BLOCK, _LAYER = "backbone/block_0", "encoder.albert_layer_groups.0.albert_layers.0"

_CLASSIFIER = dense("head/classifier", "classifier")
_PREDICTIONS: Table = {
    **dense("head/dense", "predictions.dense"),
    **norm("head/norm", "predictions.LayerNorm"),
    "head/bias": Source("predictions.bias"),
}
_TIED = {
    "predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "predictions.decoder.bias": "predictions.bias",
}
_NO_POOLER = ("backbone/pooler",)

FAMILY = Family(
    model_type="albert",
    backbone="Albert",
    architecture="AlbertModel",
    prefix="albert.",
    table={
        **bert.EMBEDDINGS,
        **dense("backbone/embedding_projection", "encoder.embedding_hidden_mapping_in"),
        **dense(f"{_BLOCK}/attention/query", f"{_LAYER}.attention.query"),
        **dense(f"{_BLOCK}/attention/key", f"{_LAYER}.attention.key"),
        **dense(f"{_BLOCK}/attention/value", f"{_LAYER}.attention.value"),
        **dense(f"{_BLOCK}/attention/output", f"{_LAYER}.attention.dense"),
        **norm(f"{_BLOCK}/attention_norm", f"{_LAYER}.attention.LayerNorm"),
        **dense(f"{_BLOCK}/feed_forward/expand", f"{_LAYER}.ffn"),
        **dense(f"{_BLOCK}/feed_forward/contract", f"{_LAYER}.ffn_output"),
        **norm(f"{_BLOCK}/feed_forward_norm", f"{_LAYER}.full_layer_layer_norm"),
        **dense("backbone/pooler", "pooler"),
    },
    fields=(
        *(field for field in bert.FIELDS if field.name != "classifier_dropout"),
        Field("embedding_size", "embedding_dim", WHOLE),
        Field("classifier_dropout_prob", "classifier_dropout", NUMBER),
    ),
    defaults={
        **bert.DEFAULTS,
        "vocab_size": 30_000,
        "embedding_dim": 128,
        "hidden_dim": 4096,
        "num_heads": 64,
        "intermediate_dim": 16_384,
        "activation": "gelu_tanh",
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "classifier_dropout": 0.1,
    },
    required={"position_embedding_type": "absolute", "num_hidden_groups": 1, "inner_group_num": 1},
    # Left over from the authors' own code.
    no_effect=("down_scale_factor", "gap_size", "net_structure_type", "num_memory_blocks"),
    heads=(
        Head("AlbertForSequenceClassification", "classification", _CLASSIFIER),
        Head("AlbertForTokenClassification", "tokens", _CLASSIFIER, without=_NO_POOLER),
        Head("AlbertForQuestionAnswering", "qa", dense("head/span", "qa_outputs"), without=_NO_POOLER),
        Head("AlbertForMaskedLM", "mlm", _PREDICTIONS, without=_NO_POOLER, tied=_TIED),
        Head("AlbertForPreTraining", "mlm", _PREDICTIONS, tied=_TIED),
    ),
    may_be_missing=_NO_POOLER,
    # The head that tells the order of two sentences among the rest.
    known=(r"embeddings\.(position|token_type)_ids", r"sop_classifier\..*"),
)
