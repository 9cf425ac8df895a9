"""Tables of positions, made for one image size, for another one."""

from __future__ import annotations

import math

import numpy as np

from kzoo.errors import KzooError

# The steepness of the cubic kernel (Keys, 1981) that the published models were resized with.
_STEEPNESS = -0.75


def resize_positions(table: np.ndarray, size: int, num_tokens: int = 1) -> np.ndarray:
    """Return a table of positions for images of another size, by bicubic interpolation of its square grid.

    Dosovitskiy et al., 2020, section 3.2.

    Args:
        table: (num_tokens + old_size ** 2, hidden_dim), the grid's rows one after the other.
        size: how many patches the new images have along a side.
        num_tokens: how many rows come before the grid, for class and distillation tokens; they stay.

    Returns:
        (num_tokens + size ** 2, hidden_dim), of the table's dtype.

    Raises:
        KzooError: the table's grid is no square, or `size` is no positive number.

    Example:
        >>> resize_positions(np.ones((1 + 4, 8), "float32"), size=3).shape
        (10, 8)
    """
    old = math.isqrt(max(len(table) - num_tokens, 0))
    if old == 0 or old**2 != len(table) - num_tokens or size < 1:
        raise KzooError(
            f"A table of {len(table)} positions, the first {num_tokens} for tokens, cannot be resized to "
            f"{size} by {size} patches: the rest must be a square, and there must be patches."
        )
    weights = _cubic_weights(old, size)
    grid = table[num_tokens:].reshape(old, old, -1)
    resized = np.einsum("ih,jw,hwd->ijd", weights, weights, grid, optimize=True)
    return np.concatenate([table[:num_tokens], resized.reshape(size**2, -1).astype(table.dtype)])


def _cubic_weights(old: int, new: int) -> np.ndarray:
    """Return the share (new, old) that each old row has in each new one; what lies outside repeats the border."""
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    below = np.floor(centres).astype(int)
    weights = np.zeros((new, old))
    for offset in range(-1, 3):
        share = _cubic(np.abs(centres - below - offset))
        np.add.at(weights, (np.arange(new), np.clip(below + offset, 0, old - 1)), share)
    return weights


def _cubic(distance: np.ndarray) -> np.ndarray:
    a, x = _STEEPNESS, distance
    near = ((a + 2.0) * x - (a + 3.0)) * x**2 + 1.0
    far = a * (((x - 5.0) * x + 8.0) * x - 4.0)
    return np.where(x <= 1.0, near, far)
