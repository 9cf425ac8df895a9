"""BERT checkpoints."""

from __future__ import annotations

from kzoo.weights.family import Family, Head
from kzoo.weights.fields import ACTIVATION, NUMBER, WHOLE, Field
from kzoo.weights.layouts import Source, Table, dense, embedding, norm

_BLOCK, _LAYER = "backbone/block_{layer}", "encoder.layer.{layer}"

# The encoder's blocks, named alike by all descendants of BERT.
BLOCKS: Table = {
    **dense(f"{_BLOCK}/attention/query", f"{_LAYER}.attention.self.query"),
    **dense(f"{_BLOCK}/attention/key", f"{_LAYER}.attention.self.key"),
    **dense(f"{_BLOCK}/attention/value", f"{_LAYER}.attention.self.value"),
    **dense(f"{_BLOCK}/attention/output", f"{_LAYER}.attention.output.dense"),
    **norm(f"{_BLOCK}/attention_norm", f"{_LAYER}.attention.output.LayerNorm"),
    **dense(f"{_BLOCK}/feed_forward/expand", f"{_LAYER}.intermediate.dense"),
    **dense(f"{_BLOCK}/feed_forward/contract", f"{_LAYER}.output.dense"),
    **norm(f"{_BLOCK}/feed_forward_norm", f"{_LAYER}.output.LayerNorm"),
}
EMBEDDINGS: Table = {
    **embedding("backbone/token_embedding", "embeddings.word_embeddings.weight"),
    **embedding("backbone/position_embedding", "embeddings.position_embeddings.weight"),
    **embedding("backbone/type_embedding", "embeddings.token_type_embeddings.weight"),
    **norm("backbone/embedding_norm", "embeddings.LayerNorm"),
}
FIELDS = (
    Field("vocab_size", "vocab_size", WHOLE),
    Field("hidden_size", "hidden_dim", WHOLE),
    Field("num_hidden_layers", "num_layers", WHOLE),
    Field("num_attention_heads", "num_heads", WHOLE),
    Field("intermediate_size", "intermediate_dim", WHOLE),
    Field("max_position_embeddings", "max_positions", WHOLE),
    Field("type_vocab_size", "type_vocab_size", WHOLE),
    Field("hidden_act", "activation", ACTIVATION),
    Field("layer_norm_eps", "layer_norm_epsilon", NUMBER),
    Field("hidden_dropout_prob", "dropout", NUMBER),
    Field("classifier_dropout", "dropout", NUMBER, written=False),
    Field("attention_probs_dropout_prob", "attention_dropout", NUMBER),
)
DEFAULTS = {
    "vocab_size": 30_522,
    "hidden_dim": 768,
    "num_layers": 12,
    "num_heads": 12,
    "intermediate_dim": 3072,
    "max_positions": 512,
    "type_vocab_size": 2,
    "activation": "gelu",
    "layer_norm_epsilon": 1e-12,
    "dropout": 0.1,
    "attention_dropout": 0.1,
}

_CLASSIFIER = dense("head/classifier", "classifier")
_PREDICTIONS: Table = {
    **dense("head/dense", "cls.predictions.transform.dense"),
    **norm("head/norm", "cls.predictions.transform.LayerNorm"),
    "head/bias": Source("cls.predictions.bias"),
}
_RELATIONSHIP = dense("head/classifier", "cls.seq_relationship")
_TIED = {
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_NO_POOLER = ("backbone/pooler",)

FAMILY = Family(
    model_type="bert",
    backbone="Bert",
    architecture="BertModel",
    prefix="bert.",
    table={**EMBEDDINGS, **BLOCKS, **dense("backbone/pooler", "pooler.dense")},
    fields=FIELDS,
    defaults=DEFAULTS,
    required={"position_embedding_type": "absolute"},
    # The multilingual checkpoints describe a pooler that the original library does not build either.
    no_effect=(
        "directionality",
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
        "pooler_size_per_head",
        "pooler_type",
    ),
    heads=(
        Head("BertForSequenceClassification", "classification", _CLASSIFIER),
        Head("BertForTokenClassification", "tokens", _CLASSIFIER, without=_NO_POOLER),
        Head("BertForQuestionAnswering", "qa", dense("head/span", "qa_outputs"), without=_NO_POOLER),
        Head("BertForMaskedLM", "mlm", _PREDICTIONS, without=_NO_POOLER, tied=_TIED),
        Head("BertForNextSentencePrediction", "next_sentence", _RELATIONSHIP),
        Head("BertForPreTraining", "mlm", _PREDICTIONS, tied=_TIED),
        Head("BertForPreTraining", "next_sentence", _RELATIONSHIP),
    ),
    may_be_missing=_NO_POOLER,
    known=(r"embeddings\.(position|token_type)_ids",),
    # As the first checkpoints, converted from TensorFlow, have them.
    renamed={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
)
