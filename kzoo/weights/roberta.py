"""RoBERTa checkpoints, and those of XLM-RoBERTa, which have other names and another vocabulary."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from kzoo.weights import bert
from kzoo.weights.family import Family, Head
from kzoo.weights.fields import WHOLE, Field, Kind
from kzoo.weights.layouts import Source, Table, dense, norm


def _read_positions(pair: Any) -> tuple[int, int]:
    rows, padding_id = map(WHOLE.read, pair)
    if rows <= padding_id + 1:
        raise ValueError("rows up to pad_token_id are for padding, and no others are left")
    return rows - padding_id - 1, padding_id


@dataclass(frozen=True)
class _CountedFromPadding(Family):
    """A family whose `max_position_embeddings` counts the rows for padding too, those up to `pad_token_id`."""

    def knobs(
        self, config: Mapping[str, Any], settled: Collection[str] = (), ignore: Collection[str] = ()
    ) -> dict[str, Any]:
        """Return the fields of the kzoo config that config.json's fields stand for."""
        pair = [config.get("max_position_embeddings", 512), config.get("pad_token_id", 1)]
        return super().knobs({**config, "max_position_embeddings": pair}, settled, ignore)


_NO_POOLER = ("backbone/pooler",)
_PREDICTIONS: Table = {
    **dense("head/dense", "lm_head.dense"),
    **norm("head/norm", "lm_head.layer_norm"),
    "head/bias": Source("lm_head.bias"),
}
# The classifier's hidden layer does what kzoo's pooler does, and is kept there.
_CLASSIFIER: Table = {
    **dense("backbone/pooler", "classifier.dense"),
    **dense("head/classifier", "classifier.out_proj"),
}

FAMILY = _CountedFromPadding(
    model_type="roberta",
    backbone="Roberta",
    architecture="RobertaModel",
    prefix="roberta.",
    table={**bert.EMBEDDINGS, **bert.BLOCKS, **dense("backbone/pooler", "pooler.dense")},
    fields=(
        *(field for field in bert.FIELDS if field.name != "max_position_embeddings"),
        Field(
            "max_position_embeddings",
            ("max_positions", "padding_id"),
            Kind(_read_positions, lambda knobs: sum(knobs) + 1),
        ),
        Field("pad_token_id", "padding_id", WHOLE),
    ),
    defaults={**bert.DEFAULTS, "vocab_size": 50_265},
    required={"position_embedding_type": "absolute"},
    heads=(
        Head("RobertaForSequenceClassification", "classification", _CLASSIFIER),
        Head(
            "RobertaForTokenClassification",
            "tokens",
            dense("head/classifier", "classifier"),
            without=_NO_POOLER,
        ),
        Head("RobertaForQuestionAnswering", "qa", dense("head/span", "qa_outputs"), without=_NO_POOLER),
        Head(
            "RobertaForMaskedLM",
            "mlm",
            _PREDICTIONS,
            without=_NO_POOLER,
            tied={
                "lm_head.decoder.weight": "embeddings.word_embeddings.weight",
                "lm_head.decoder.bias": "lm_head.bias",
            },
        ),
    ),
    may_be_missing=_NO_POOLER,
    known=(r"embeddings\.(position|token_type)_ids",),
)

XLM_ROBERTA = FAMILY.like("xlm-roberta", "XLMRoberta", defaults=bert.DEFAULTS)
