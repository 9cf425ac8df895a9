"""Images in another size, as products with two matrices.

TensorFlow resizes each axis by itself, and a result is a weighted sum of what lies around it. ONNX has an operator
for that too, but ONNX Runtime's does not shrink by cubics, and none has Lanczos' kernel or the means of areas. The
matrices are computed in the graph, as the image's size may be known only there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from kzoo.export.context import constant, make, replace

_FLOAT = onnx.TensorProto.FLOAT


class _Formula:
    """Arithmetic on float32 tensors of the graph."""

    def __init__(self, context: Any) -> None:
        self.context = context

    def __call__(self, op_type: str, *inputs: str | float, **attributes: Any) -> str:
        """Add a node; its inputs are names of tensors, or numbers."""
        names = [value if isinstance(value, str) else self.number(value) for value in inputs]
        return make(self.context, op_type, names, **attributes)

    def number(self, value: float) -> str:
        """Store a number."""
        return constant(self.context, np.float32(value))

    def integers(self, *values: int) -> str:
        """Store a list of integers."""
        return constant(self.context, np.array(values, "int64"))

    def item(self, tensor: str, place: int) -> str:
        """Return a number of a list, in float32 as a tensor without axes."""
        chosen = make(self.context, "Gather", [tensor, constant(self.context, np.int64(place))], axis=0)
        return self("Cast", chosen, to=_FLOAT)

    def count(self, size: str, axis: int) -> str:
        """Return 0, 1, ... up to a size, as a row (axis 0) or as a column (axis 1)."""
        return self("Unsqueeze", self("Range", 0.0, size, 1.0), self.integers(axis))

    def where(self, condition: str, then: str, otherwise: str | float) -> str:
        """Choose."""
        return self("Where", condition, then, otherwise)

    def polynomial(self, x: str, *coefficients: float) -> str:
        """Compute a polynomial, the highest power first."""
        total: str | float = coefficients[0]
        for coefficient in coefficients[1:]:
            total = self("Add", self("Mul", total, x), coefficient)
        return str(total)

    def normalized(self, weights: str) -> str:
        """Let the weights of each row sum to 1; those outside the image have none."""
        return self("Div", weights, self("ReduceSum", weights, self.integers(1), keepdims=1))


# Kernels, of the distance between two pixels.


def _cubic(f: _Formula, x: str) -> str:
    """Keys, 1981, with a = -0.5."""
    near = f.polynomial(x, 1.5, -2.5, 0.0, 1.0)
    far = f.polynomial(x, -0.5, 2.5, -4.0, 2.0)
    return f.where(f("Less", x, 1.0), near, f.where(f("Less", x, 2.0), far, 0.0))


def _triangle(f: _Formula, x: str) -> str:
    return f("Max", f("Sub", 1.0, x), 0.0)


def _lanczos(radius: int) -> Callable[[_Formula, str], str]:
    def kernel(f: _Formula, x: str) -> str:
        angle = f("Mul", f("Max", x, 1e-3), math.pi)
        waves = f("Mul", f("Sin", angle), f("Sin", f("Div", angle, radius)))
        value = f("Div", f("Mul", waves, radius), f("Mul", angle, angle))
        inside = f.where(f("Greater", x, radius), f.number(0.0), value)
        return f.where(f("LessOrEqual", x, 1e-3), f.number(1.0), inside)

    return kernel


_KERNELS = {"keyscubic": _cubic, "triangle": _triangle, "lanczos3": _lanczos(3), "lanczos5": _lanczos(5)}

# Makes the matrix (new size, old size) of one axis, from the two sizes.
Matrix = Callable[[_Formula, str, str], str]


def _by_cubics(f: _Formula, old: str, new: str) -> str:
    step = f("Div", old, new)
    place = f("Sub", f("Mul", f("Add", f.count(new, 1), 0.5), step), 0.5)
    # TensorFlow looks its weights up in a table of 1024 steps.
    whole = f("Floor", place)
    part = f("Div", f("Round", f("Mul", f("Sub", place, whole), 1024.0)), 1024.0)
    distance = f("Abs", f("Sub", f("Sub", f.count(old, 0), whole), part))
    return f.normalized(_cubic(f, distance))


def _by_areas(f: _Formula, old: str, new: str) -> str:
    step = f("Div", old, new)
    first, column = f("Mul", f.count(new, 1), step), f.count(old, 0)
    last = f("Min", f("Add", first, step), old)
    shared = f("Sub", f("Min", last, f("Add", column, 1.0)), f("Max", first, column))
    return f.normalized(f("Max", shared, 0.0))


def _by_kernel(kind: str, antialias: bool) -> Matrix:
    def matrix(f: _Formula, old: str, new: str) -> str:
        step = f("Div", 1.0, f("Div", new, old))
        place = f("Mul", f("Add", f.count(new, 1), 0.5), step)
        distance = f("Abs", f("Sub", f("Add", f.count(old, 0), 0.5), place))
        if antialias:
            distance = f("Div", distance, f("Max", step, 1.0))
        return f.normalized(_KERNELS[kind](f, distance))

    return matrix


def _resize(context: Any, node: Any, matrix: Matrix) -> None:
    """Write an operation on images (batch, height, width, channels) whose second input is the new size."""
    f = _Formula(context)
    image, size = node.input[:2]
    old = make(context, "Shape", [image])
    rows, columns = (matrix(f, f.item(old, axis + 1), f.item(size, axis)) for axis in (0, 1))
    turned = f("Transpose", f("Cast", image, to=_FLOAT), perm=[0, 3, 1, 2])
    resized = f("MatMul", f("MatMul", rows, turned), f("Transpose", columns, perm=[1, 0]))
    replace(context, node, "Transpose", [resized], perm=[0, 2, 3, 1])


class _Bicubic:
    @classmethod
    def version_18(cls, context: Any, node: Any, **kwargs: Any) -> None:
        """Write it out; Keras centers pixels at halves, as `_by_cubics` does."""
        _resize(context, node, _by_cubics)


class _Area:
    @classmethod
    def version_18(cls, context: Any, node: Any, **kwargs: Any) -> None:
        """Write it out."""
        _resize(context, node, _by_areas)


class _ScaleAndTranslate:
    @classmethod
    def version_18(cls, context: Any, node: Any, **kwargs: Any) -> None:
        """Write it out as Keras asks for it, scaled by the quotient of the sizes and moved by nothing."""
        kind, antialias = node.get_attr_str("kernel_type"), bool(node.get_attr_value("antialias", 1))
        _resize(context, node, _by_kernel(kind, antialias))


RESAMPLINGS: dict[str, Any] = {
    "ResizeArea": _Area,
    "ResizeBicubic": _Bicubic,
    "ScaleAndTranslate": _ScaleAndTranslate,
}
