"""Which tensor each free size in a traced graph comes from, so that a reshape needs no arithmetic on shapes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

# Operations that leave an axis' size as it is in all their inputs.
_ALIKE = {
    "Identity",
    "EnsureShape",
    "Cast",
    "Relu",
    "Tanh",
    "Sigmoid",
    "Neg",
    "Exp",
    "Softmax",
    "BiasAdd",
    "StopGradient",
}
_BROADCAST = {"AddV2", "Add", "Mul", "Sub", "RealDiv", "Maximum", "Minimum", "SelectV2"}


class Origins:
    """Which free size of which tensor another tensor's is, found by looking back through the graph."""

    def __init__(self) -> None:
        self._sources: dict[Any, list[tuple[Any, int] | None]] = {}
        self._sizes: dict[int, tuple[Any, tuple[Any, int]]] = {}
        self._found: dict[tuple[Any, int], tuple[Any, int]] = {}

    def note(self, output: Any, sources: list[tuple[Any, int] | None]) -> None:
        """Remember where a placeholder's sizes come from."""
        self._sources[output.ref()] = sources

    def note_size(self, size: Any, tensor: Any, axis: int) -> None:
        """Remember whose size a scalar is."""
        # The scalar is kept, so that no other takes its id.
        self._sizes[id(size)] = (size, (tensor, axis))

    def reshape_target(self, x: Any, asked: list[Any]) -> list[int] | None:
        """Return the constant shape input of an ONNX Reshape, 0 for what stays; None if there is none."""
        target: list[int] = []
        for axis, size in enumerate(asked):
            if isinstance(size, tf.Tensor):
                known = self._sizes.get(id(size))
                stays = known is not None and axis < x.shape.rank and self._same(known[1], (x, axis))
                target.append(0 if stays else -1)
            elif isinstance(size, (int, np.integer)):
                # A size of 0 would be read as one that stays.
                if size == 0:
                    return None
                target.append(int(size))
            else:
                return None
        return target if target.count(-1) <= 1 else None

    def _same(self, first: tuple[Any, int], second: tuple[Any, int]) -> bool:
        return self._origin(*first) == self._origin(*second)

    def _origin(self, tensor: Any, axis: int) -> tuple[Any, int]:
        """Return the earliest tensor, by reference, and its axis whose size this one is."""
        place = (tensor.ref(), axis)
        # Kept, since a sum asks for both its sides: twice as much to look at for each residual on the way.
        if place not in self._found:
            source = self._source(tensor, axis)
            self._found[place] = place if source is None else self._origin(*source)
        return self._found[place]

    def _source(self, tensor: Any, axis: int) -> tuple[Any, int] | None:
        noted = self._sources.get(tensor.ref())
        if noted is not None:
            return noted[axis]
        operation = tensor.op
        if operation.type in _ALIKE:
            return operation.inputs[0], axis
        if operation.type == "Transpose":
            perm = tf.get_static_value(operation.inputs[1])
            return None if perm is None else (operation.inputs[0], int(perm[axis]))
        if operation.type in _BROADCAST:
            return self._broadcast_source(tensor, axis)
        return None

    def _broadcast_source(self, tensor: Any, axis: int) -> tuple[Any, int] | None:
        """Return the one input whose size is free there; None where another's could be too."""
        found = []
        for source in tensor.op.inputs:
            if source.shape.rank is None:
                return None
            own = axis - (tensor.shape.rank - source.shape.rank)
            if own >= 0 and source.shape[own] is None:
                found.append((source, own))
        if not found or any(not self._same(found[0], other) for other in found[1:]):
            return None
        return found[0]


def static_shape(x: Any, target: list[int]) -> list[int | None]:
    """Return the shape that a Reshape gives, with what is known of it."""
    before = x.shape.as_list()
    shape = [
        before[axis] if size == 0 else (None if size == -1 else size) for axis, size in enumerate(target)
    ]
    if None not in before and shape.count(None) == 1:
        known = math.prod(size for size in shape if size is not None)
        shape[shape.index(None)] = math.prod(before) // known if known else None
    return shape
