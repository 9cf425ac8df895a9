"""BERT checkpoints."""

from __future__ import annotations

from kzoo.weights.table import Family, Field, activation, dense, embedding, norm, number, whole

_BLOCK, _LAYER = "backbone/block_{layer}", "encoder.layer.{layer}"

FAMILY = Family(
    model_type="bert",
    prefix="bert.",
    backbone={
        **embedding("backbone/token_embedding", "embeddings.word_embeddings.weight"),
        **embedding("backbone/position_embedding", "embeddings.position_embeddings.weight"),
        **embedding("backbone/type_embedding", "embeddings.token_type_embeddings.weight"),
        **norm("backbone/embedding_norm", "embeddings.LayerNorm"),
        **dense(f"{_BLOCK}/attention/query", f"{_LAYER}.attention.self.query"),
        **dense(f"{_BLOCK}/attention/key", f"{_LAYER}.attention.self.key"),
        **dense(f"{_BLOCK}/attention/value", f"{_LAYER}.attention.self.value"),
        **dense(f"{_BLOCK}/attention/output", f"{_LAYER}.attention.output.dense"),
        **norm(f"{_BLOCK}/attention_norm", f"{_LAYER}.attention.output.LayerNorm"),
        **dense(f"{_BLOCK}/feed_forward/expand", f"{_LAYER}.intermediate.dense"),
        **dense(f"{_BLOCK}/feed_forward/contract", f"{_LAYER}.output.dense"),
        **norm(f"{_BLOCK}/feed_forward_norm", f"{_LAYER}.output.LayerNorm"),
        **dense("backbone/pooler", "pooler.dense"),
    },
    fields={
        "vocab_size": Field("vocab_size", whole),
        "hidden_size": Field("hidden_dim", whole),
        "num_hidden_layers": Field("num_layers", whole),
        "num_attention_heads": Field("num_heads", whole),
        "intermediate_size": Field("intermediate_dim", whole),
        "max_position_embeddings": Field("max_positions", whole),
        "type_vocab_size": Field("type_vocab_size", whole),
        "hidden_act": Field("activation", activation),
        "layer_norm_eps": Field("layer_norm_epsilon", number),
        "hidden_dropout_prob": Field("dropout", number),
        "classifier_dropout": Field("dropout", number),
        "attention_probs_dropout_prob": Field("attention_dropout", number),
    },
    defaults={
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
    },
    required={"position_embedding_type": "absolute"},
    heads={"BertForSequenceClassification": "classification"},
    head=dense("head/classifier", "classifier"),
    may_be_missing=("backbone/pooler",),
    known=(r"embeddings\.(position|token_type)_ids", r"cls\..*", r"qa_outputs\..*"),
    # As the first checkpoints, converted from TensorFlow, have them.
    renamed={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
)
