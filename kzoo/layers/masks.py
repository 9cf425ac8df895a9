"""Attention masks as additive biases."""

from __future__ import annotations

from typing import Any

from keras import ops

# Large enough that softmax gives exactly 0, small enough that a row of nothing else stays finite in float32.
_HIDDEN = -1e9


def padding_bias(attention_mask: Any) -> Any:
    """Return a float32 bias (batch, 1, 1, key_length) that hides the keys where the mask is 0.

    Args:
        attention_mask: (batch, key_length), 1 for real tokens, 0 for padding; or None, which gives None.
    """
    if attention_mask is None:
        return None
    hidden = 1.0 - ops.cast(attention_mask, "float32")
    return ops.expand_dims(hidden * _HIDDEN, (1, 2))


def document_bias(document_starts: Any) -> Any:
    """Return a float32 bias (batch, 1, length, length) that hides the tokens of other documents.

    Args:
        document_starts: int (batch, length), the place in its row where each token's document starts; or None, which
            gives None.
    """
    if document_starts is None:
        return None
    hidden = ops.not_equal(ops.expand_dims(document_starts, 2), ops.expand_dims(document_starts, 1))
    return ops.expand_dims(ops.cast(hidden, "float32") * _HIDDEN, 1)


def causal_bias(query_length: Any, key_length: Any, window: int | None = None) -> Any:
    """Return a float32 bias (1, 1, query_length, key_length) that hides each query's later keys.

    The queries are the last `query_length` of the keys' positions, so that a cached step sees its past.

    Args:
        query_length: number of queries.
        key_length: number of keys.
        window: how many keys a query sees at most, its own included (Beltagy et al., 2020, section 3.1); None
            for all that came before.
    """
    distance = query_key_distances(query_length, key_length)
    hidden = distance < 0
    if window is not None:
        hidden = ops.logical_or(hidden, distance >= window)
    return ops.expand_dims(ops.cast(hidden, "float32") * _HIDDEN, (0, 1))


def query_key_distances(query_length: Any, key_length: Any) -> Any:
    """Return how far each key lies before each query, int32 (query_length, key_length); later keys are negative.

    The queries are the last `query_length` of the keys' positions.
    """
    queries = ops.arange(query_length, dtype="int32") + (key_length - query_length)
    return ops.expand_dims(queries, 1) - ops.expand_dims(ops.arange(key_length, dtype="int32"), 0)


def combine_biases(*biases: Any) -> Any:
    """Return the sum of the biases that are not None, or None."""
    given = [bias for bias in biases if bias is not None]
    return sum(given[1:], start=given[0]) if given else None
