"""The tensors that a decoder's graph is given back: its cache, and what an encoder made of the source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kzoo.errors import BundleError
from kzoo.runtime.manifest import GraphSpec
from kzoo.search.steps import PAST, PRESENT

# What decoding reads of a graph, besides the cache.
NEXT_TOKENS = ("log_probs", "top_ids", "top_log_probs")


def as_past(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a graph's `present.*` outputs into the `past_key_values.*` inputs of a call to come."""
    return {
        PAST + name.removeprefix(PRESENT): value
        for name, value in outputs.items()
        if name.startswith(PRESENT)
    }


def empty_cache(graph: GraphSpec, batch: int) -> dict[str, np.ndarray]:
    """Make the cache of the first step from input shapes `["past_batch", heads, "past", head_dim]`.

    Raises:
        BundleError: if a shape says too little.
    """
    empty = {}
    for tensor in graph.inputs:
        if tensor.name.startswith(PAST) and ".encoder." not in tensor.name:
            match tensor.shape:
                case [_, int(heads), _, int(head_dim)]:
                    empty[tensor.name] = np.zeros((batch, heads, 0, head_dim), np.float32)
                case _:
                    raise BundleError(
                        f"{graph.file}: input '{tensor.name}' has shape {tensor.shape}; expected "
                        "['past_batch', heads, 'past', head_dim] with two numbers. Export the bundle again."
                    )
    return empty


def vocab_size(graph: GraphSpec) -> int:
    """Return the number of tokens that a graph gives log-probabilities of.

    Raises:
        BundleError: if the shape of `log_probs` does not say.
    """
    for tensor in graph.outputs:
        if tensor.name == "log_probs" and isinstance(tensor.shape[-1], int):
            return tensor.shape[-1]
    raise BundleError(
        f"{graph.file}: the manifest does not say how many tokens 'log_probs' has. Export again."
    )
