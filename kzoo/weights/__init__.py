"""Public checkpoints: what is in their files, and which of their tensors is which kzoo variable.

A family of checkpoints is a module here with one table, `FAMILY`. Nothing in this package knows a framework: it
hands out numpy arrays, and `kzoo.models.from_pretrained` puts them into a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kzoo.errors import KzooError, did_you_mean
from kzoo.weights import bert, gpt2, vit
from kzoo.weights.safetensors_file import Checkpoint, read_json
from kzoo.weights.table import Family, Table

FAMILIES: dict[str, Family] = {module.FAMILY.model_type: module.FAMILY for module in (bert, gpt2, vit)}

__all__ = ["FAMILIES", "Checkpoint", "Family", "Table", "find_family", "read_json"]


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
