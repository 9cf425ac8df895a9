"""ELECTRA checkpoints: discriminators and generators."""

from __future__ import annotations

from kzoo.weights import bert
from kzoo.weights.family import Family, Head
from kzoo.weights.fields import WHOLE, Field
from kzoo.weights.layouts import Source, dense, norm

FAMILY = Family(
    model_type="electra",
    backbone="Electra",
    architecture="ElectraModel",
    prefix="electra.",
    table={
        **bert.EMBEDDINGS,
        **dense("backbone/embedding_projection", "embeddings_project"),
        **bert.BLOCKS,
    },
    fields=(*bert.FIELDS, Field("embedding_size", "embedding_dim", WHOLE)),
    defaults={
        **bert.DEFAULTS,
        "embedding_dim": 128,
        "hidden_dim": 256,
        "num_heads": 4,
        "intermediate_dim": 1024,
    },
    required={"position_embedding_type": "absolute"},
    # For a head that kzoo does not have, the choice among several texts.
    no_effect=("summary_activation", "summary_last_dropout", "summary_type", "summary_use_proj"),
    heads=(
        Head(
            "ElectraForPreTraining",
            "replaced_token",
            {
                **dense("head/dense", "discriminator_predictions.dense"),
                **dense("head/classifier", "discriminator_predictions.dense_prediction"),
            },
        ),
        Head(
            "ElectraForMaskedLM",
            "mlm",
            {
                **dense("head/dense", "generator_predictions.dense"),
                **norm("head/norm", "generator_predictions.LayerNorm"),
                "head/bias": Source("generator_lm_head.bias"),
            },
            tied={"generator_lm_head.weight": "embeddings.word_embeddings.weight"},
        ),
        Head(
            "ElectraForSequenceClassification",
            "classification",
            {**dense("head/dense", "classifier.dense"), **dense("head/classifier", "classifier.out_proj")},
        ),
        Head("ElectraForTokenClassification", "tokens", dense("head/classifier", "classifier")),
        Head("ElectraForQuestionAnswering", "qa", dense("head/span", "qa_outputs")),
    ),
    known=(r"embeddings\.(position|token_type)_ids",),
)
