"""Which tensor is which variable, and how the one is laid out in the other, both ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Layout(NamedTuple):
    """How a variable's values stand in a tensor; either way a view, never a copy."""

    read: Callable[[np.ndarray], np.ndarray]
    write: Callable[[np.ndarray], np.ndarray]


def _only(array: np.ndarray) -> np.ndarray:
    if not array.ndim or array.shape[0] != 1:
        raise ValueError("its first axis is not of length 1")
    return array[0]


# The same on both sides.
AS_IS = Layout(lambda tensor: tensor, lambda variable: variable)
# A kernel (in, out), stored (out, in).
TRANSPOSED = Layout(lambda tensor: tensor.T, lambda variable: variable.T)
# A kernel (height, width, in, out), stored (out, in, height, width).
CONVOLUTION = Layout(
    lambda tensor: tensor.transpose(2, 3, 1, 0), lambda variable: variable.transpose(3, 2, 0, 1)
)
# The tensor has a leading axis of length 1 more.
LEADING_AXIS = Layout(_only, lambda variable: variable[None])
# The variable has a leading axis of length 1 more.
SINGLE_ROW = Layout(lambda tensor: tensor[None], _only)


class Part(NamedTuple):
    """One of several equal parts that stand side by side in one tensor, along `axis` of the tensor."""

    place: int
    of: int
    axis: int = -1


class Source(NamedTuple):
    """Where a variable's values are stored: a tensor's name, without prefix, the layout, and which part of it."""

    tensor: str
    layout: Layout = AS_IS
    part: Part | None = None

    def read(self, tensor: np.ndarray) -> np.ndarray:
        """Return the variable's values, a view of the tensor.

        Raises:
            ValueError: the tensor's shape does not allow it.
        """
        if self.part is not None:
            tensor = np.split(tensor, self.part.of, axis=self.part.axis)[self.part.place]
        return self.layout.read(tensor)


# Variables by path below the model's name; a `{layer}` stands for the number of a block, on both sides.
Table = dict[str, Source]


def write(sources: Sequence[Source], values: Sequence[np.ndarray]) -> np.ndarray:
    """Return the one tensor that holds all these variables.

    Args:
        sources: of each variable; all name the same tensor, and together its every part.
        values: of each variable.
    """
    written = {
        source.part.place if source.part else 0: source.layout.write(value)
        for source, value in zip(sources, values, strict=True)
    }
    parts = [written[index] for index in sorted(written)]
    part = sources[0].part
    return parts[0] if part is None else np.concatenate(parts, axis=part.axis)


def dense(
    variable: str, tensor: str, kernel: Layout = TRANSPOSED, bias: Layout = AS_IS, part: Part | None = None
) -> Table:
    """Return the two lines of a dense layer; a model whose layer has no bias leaves the second one unused.

    A `part` counts along the outputs: the last axis of the bias, and the first or last one of the kernel.
    """
    outputs = part and part._replace(axis=0 if kernel is TRANSPOSED else -1)
    return {
        f"{variable}/kernel": Source(f"{tensor}.weight", kernel, outputs),
        f"{variable}/bias": Source(f"{tensor}.bias", bias, part),
    }


def norm(variable: str, tensor: str) -> Table:
    """Return the two lines of a layer normalization."""
    return {
        f"{variable}/gamma": Source(f"{tensor}.weight"),
        f"{variable}/beta": Source(f"{tensor}.bias"),
    }


def rms_norm(variable: str, tensor: str) -> Table:
    """Return the one line of an RMS normalization."""
    return {f"{variable}/scale": Source(f"{tensor}.weight")}


def embedding(variable: str, tensor: str, layout: Layout = AS_IS) -> Table:
    """Return the one line of an embedding table."""
    return {f"{variable}/embeddings": Source(tensor, layout)}
