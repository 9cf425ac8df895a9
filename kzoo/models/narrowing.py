"""Embeddings of fewer numbers: tables cut to the directions in which they differ most, and a projection back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_TABLES = ("token_embedding", "position_embedding", "type_embedding")
_NORM, _PROJECTION = "backbone/embedding_norm", "backbone/embedding_projection"


def narrow_embeddings(values: Mapping[str, np.ndarray], width: int) -> dict[str, np.ndarray]:
    """Return the weights of embeddings that are narrower, and give nearly the same after their projection.

    What leaves the norm differs only by what lies outside the `width - 1` directions that are kept: one number of
    each row goes into the rows' means being 0, so that a norm of fewer numbers does what the norm of all did.

    Args:
        values: of a backbone of BERT's kind, by path: tables, the norm of their sum, and its projection, if any.
        width: numbers a row that are to be left, 2 or more and at most as many as there are.

    Returns:
        Those of the narrower one by the same paths, a projection among them.
    """
    tables = {name: values[_path(name)] for name in _TABLES if _path(name) in values}
    centred = {name: table - table.mean(axis=1, keepdims=True) for name, table in tables.items()}
    directions = _widest(list(centred.values()), width - 1)
    basis = _balanced(width)
    wide = len(directions)
    # So that the norm's epsilon weighs what it did.
    scale = np.sqrt(width / wide)
    kernel = values.get(f"{_PROJECTION}/kernel", np.eye(wide, dtype="float32"))
    bias = values.get(f"{_PROJECTION}/bias", np.float32(0.0))
    back = basis.T @ (directions.T * values[f"{_NORM}/gamma"]) / scale
    narrowed = {_path(name): table @ directions @ basis * scale for name, table in centred.items()}
    narrowed |= {f"{_NORM}/gamma": np.ones(width), f"{_NORM}/beta": np.zeros(width)}
    narrowed[f"{_PROJECTION}/kernel"] = back @ kernel
    narrowed[f"{_PROJECTION}/bias"] = values[f"{_NORM}/beta"] @ kernel + bias
    return {path: value.astype("float32") for path, value in narrowed.items()}


def _path(table: str) -> str:
    return f"backbone/{table}/embeddings"


def _widest(tables: list[np.ndarray], count: int) -> np.ndarray:
    """Return the directions (width, count) in which sums of one row of each table are largest."""
    mean = np.sum([table.mean(axis=0) for table in tables], axis=0)
    spread = np.outer(mean, mean)
    for table in tables:
        apart = table - table.mean(axis=0)
        spread = spread + apart.T @ apart / len(table)
    _, vectors = np.linalg.eigh(spread)
    return vectors[:, ::-1][:, :count]


def _balanced(width: int) -> np.ndarray:
    """Return orthonormal rows (width - 1, width) that each sum to 0.

    They are turned at random, so that no number is larger than the others by nature: 8 bits have room for all then.
    """
    drawn = np.random.default_rng(0).normal(size=(width, width - 1))
    turned, _ = np.linalg.qr(np.concatenate([np.ones((width, 1)), drawn], axis=1))
    return turned[:, 1:].T
