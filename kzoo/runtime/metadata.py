"""What a graph says of itself, so that a lone ONNX file can be told: small JSON values in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_PREFIX = "kzoo."
# A graph's readers load all of it: names of classes by the ten thousand stay in the manifest.
_MOST_BYTES = 256 * 1024


def encode_metadata(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return facts as entries of a graph's metadata; those that are None, or too long, are left out.

    Example:
        >>> encode_metadata({"task": "classification", "labels": ["dark", "bright"], "image": None})
        {'kzoo.task': '"classification"', 'kzoo.labels': '["dark", "bright"]'}
    """
    entries = {
        f"{_PREFIX}{name}": json.dumps(value, ensure_ascii=False)
        for name, value in facts.items()
        if value is not None
    }
    return {name: entry for name, entry in entries.items() if len(entry.encode()) <= _MOST_BYTES}


def decode_metadata(entries: Mapping[str, str]) -> dict[str, Any]:
    """Return what a graph says of itself: its `role`, and as far as known the fields of the manifest.

    Args:
        entries: from ONNX Runtime, `session.get_modelmeta().custom_metadata_map`; entries of others, and what is
            not JSON, are left out.

    Example:
        >>> decode_metadata({"kzoo.labels": '["dark", "bright"]', "author": "somebody"})
        {'labels': ['dark', 'bright']}
    """
    facts = {}
    for name, entry in entries.items():
        if name.startswith(_PREFIX) and len(entry.encode()) <= _MOST_BYTES:
            try:
                facts[name.removeprefix(_PREFIX)] = json.loads(entry)
            except (ValueError, RecursionError):
                continue
    return facts
