"""Public checkpoints: what is in their files, and which of their tensors is which kzoo variable.

A family of checkpoints is a module here with one table, or several of `model_type`s that differ in names alone.
Nothing in this package knows a framework: it hands out numpy arrays, and takes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kzoo.errors import KzooError, did_you_mean
from kzoo.weights import (
    albert,
    bart,
    bert,
    clip,
    deit,
    distilbert,
    electra,
    gpt2,
    llama,
    marian,
    roberta,
    t5,
    vit,
)
from kzoo.weights.family import Family, Head, tasks_of
from kzoo.weights.layouts import Source, Table, write
from kzoo.weights.safetensors_file import (
    Checkpoint,
    Pending,
    read_file,
    read_json,
    read_json_list,
    write_file,
    write_json,
    write_tensors,
)

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        bert.FAMILY,
        roberta.FAMILY,
        roberta.XLM_ROBERTA,
        distilbert.FAMILY,
        albert.FAMILY,
        electra.FAMILY,
        gpt2.FAMILY,
        llama.FAMILY,
        llama.QWEN2,
        llama.MISTRAL,
        marian.FAMILY,
        bart.FAMILY,
        t5.FAMILY,
        vit.FAMILY,
        deit.FAMILY,
        clip.FAMILY,
    )
}

__all__ = [
    "FAMILIES",
    "Checkpoint",
    "Family",
    "Head",
    "Pending",
    "Source",
    "Table",
    "find_family",
    "read_file",
    "read_json",
    "read_json_list",
    "tasks_of",
    "write",
    "write_file",
    "write_json",
    "write_tensors",
]


def find_family(config: Mapping[str, Any]) -> Family:
    """Return the table for a checkpoint, by the `model_type` of its config.json.

    Raises:
        KzooError: there is no table for that type, or the config names none.

    Example:
        >>> find_family({"model_type": "gpt2"}).prefix
        'transformer.'
    """
    model_type = config.get("model_type")
    if model_type is None:
        raise KzooError(f"config.json names no model_type; kzoo reads {', '.join(FAMILIES)}.")
    if model_type not in FAMILIES:
        raise KzooError(
            f"config.json says model_type='{model_type}', which kzoo has no table for."
            f"{did_you_mean(str(model_type), FAMILIES)} kzoo reads {', '.join(FAMILIES)}."
        )
    return FAMILIES[model_type]
