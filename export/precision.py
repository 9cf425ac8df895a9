"""Smaller and faster: a finished float32 graph, written again in another precision."""

from __future__ import annotations

import pathlib
from collections.abc import Collection
from dataclasses import dataclass

import onnx

from kzoo.errors import ExportError, did_you_mean
from kzoo.export.halving import Halving
from kzoo.export.quantization import Observe, Quantizing


@dataclass(frozen=True)
class Bounds:
    """How far a graph of some precision may be from its float32 self.

    Attributes:
        tolerance: bound on `|difference| / (1 + |expected|)` of each number of an output.
        cosine: least cosine of an output, as one long vector.
        repeated: the same as `tolerance`, for the same graph on another machine: what `kzoo verify` holds it to.
    """

    tolerance: float
    cosine: float
    repeated: float


BOUNDS = {
    "float16": Bounds(tolerance=0.02, cosine=0.9999, repeated=0.02),
    "int8": Bounds(tolerance=0.5, cosine=0.99, repeated=0.1),
    "int8_static": Bounds(tolerance=0.5, cosine=0.97, repeated=0.1),
    "int4": Bounds(tolerance=1.0, cosine=0.85, repeated=0.1),
}
# Where some products may stay in float32.
INTEGERS = ("int8", "int8_static", "int4")
DTYPES = ("float32", "bfloat16", *BOUNDS)


def check_dtype(dtype: str, calibrated: bool = False) -> None:
    """Refuse an unknown precision, and calibration data that are missing or of no use.

    Raises:
        ExportError: naming the nearest valid precision.
    """
    if dtype not in DTYPES:
        raise ExportError(f"Unknown dtype '{dtype}'.{did_you_mean(dtype, DTYPES)}")
    if dtype == "bfloat16":
        raise ExportError(
            "ONNX Runtime multiplies no bfloat16 numbers on CPUs, and a graph that cannot be compared with Keras is "
            "not written: choose dtype='float16' for GPUs, 'int8' for CPUs."
        )
    if dtype == "int8_static" and not calibrated:
        raise ExportError(
            "dtype='int8_static' needs calibration=, some typical batches; dtype='int8' does without."
        )
    if calibrated and dtype != "int8_static":
        raise ExportError(f"calibration= is for dtype='int8_static'; dtype='{dtype}' makes no use of it.")


def reduce_precision(
    proto: onnx.ModelProto,
    dtype: str,
    observe: Observe | None = None,
    spared: Collection[str] = (),
    folder: pathlib.Path | None = None,
) -> None:
    """Write a graph anew in another precision, in place; its inputs and outputs stay as they are.

    Args:
        proto: a float32 graph whose weights are initializers.
        dtype: a key of `BOUNDS`.
        observe: for `"int8_static"`, runs the calibration data.
        spared: weights that stay as they are, for the dtypes in `INTEGERS`.
        folder: where the weights' values are, if the graph is from `kzoo.export.weights.mapped`.
    """
    if dtype == "float16":
        Halving(proto, folder).apply()
    else:
        quantizing = Quantizing(proto, dtype, spared, folder)
        if observe is not None:
            quantizing.calibrate(observe)
        quantizing.apply()
