"""Operations that TensorFlow differentiates with and tf2onnx 1.17 cannot convert, written with what ONNX has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from kzoo.errors import ExportError
from kzoo.export.context import constant, make, replace

_INT64 = onnx.TensorProto.INT64


class _BroadcastGradientArgs:
    """The axes that either of two tensors was repeated along."""

    @classmethod
    def version_13(cls, context: Any, node: Any, **kwargs: Any) -> None:
        """Take all axes of size 1 for repeated: where they were not, a sum along them changes nothing."""
        rank = max(context.get_shape(shape)[0] for shape in node.input)
        places = []
        for shape in node.input:
            lacking = np.ones(rank - context.get_shape(shape)[0], "int64")
            sizes = make(context, "Cast", [shape], to=_INT64)
            whole = make(context, "Concat", [constant(context, lacking), sizes], axis=0)
            ones = make(context, "Equal", [whole, constant(context, np.ones(rank, "int64"))])
            found = make(context, "NonZero", [ones])
            places.append(make(context, "Squeeze", [found, constant(context, np.zeros(1, "int64"))]))
        _give(context, node, places)


class _StridedSliceGrad:
    """What flows back into a tensor that a part was cut out of."""

    @classmethod
    def version_13(cls, context: Any, node: Any, **kwargs: Any) -> None:
        """Put zeros around the part."""
        shape, begin, end, strides, flow = node.input
        values = [context.get_node_by_output(source) for source in (begin, end, strides)]
        masks = {name: node.get_attr_int(f"{name}_mask") for name in _MASKS}
        if not all(value.is_const() for value in values) or masks["new_axis"]:
            raise ExportError(
                "Explanations cannot be exported of a model that cuts out parts of unknown size."
            )
        first, last, steps = (value.get_tensor_value(as_list=False) for value in values)
        if (steps != 1).any():
            raise ExportError("Explanations cannot be exported of a model that leaves out every other place.")
        rank = context.get_shape(shape)[0]
        sizes = make(context, "Cast", [shape], to=_INT64)
        befores, afters, lost = _around(masks, first, last, rank)
        if lost:
            flow = make(context, "Unsqueeze", [flow, constant(context, np.asarray(lost, "int64"))])
        zeros = np.zeros(rank, "int64")
        # Places that are counted from the end, or reach to it, are known only from the size.
        pads = []
        for fixed, of_size in (befores, afters):
            scaled = make(context, "Mul", [sizes, constant(context, zeros + of_size)])
            pads.append(make(context, "Add", [scaled, constant(context, zeros + fixed)]))
        replace(context, node, "Pad", [flow, make(context, "Concat", pads, axis=0)])


_MASKS = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
# Numbers of an axis, each a fixed part and how often its size is added.
_Linear = tuple[list[int], list[int]]


def _around(masks: dict[str, int], first: Any, last: Any, rank: int) -> tuple[_Linear, _Linear, list[int]]:
    """Return how much is before and behind the part on each axis, and which axes it has lost."""
    before: _Linear = ([0] * rank, [0] * rank)
    after: _Linear = ([0] * rank, [0] * rank)
    lost = []
    axis = 0
    for place, (start, stop) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        bit = 1 << place
        if masks["ellipsis"] & bit:
            axis += rank - len(first) + 1
            continue
        shrinks = bool(masks["shrink_axis"] & bit)
        if shrinks:
            lost.append(axis)
            stop = start + 1 if start != -1 else 0
        if shrinks or not masks["begin"] & bit:
            before[0][axis], before[1][axis] = start, int(start < 0)
        if (shrinks and start != -1) or (not shrinks and not masks["end"] & bit):
            after[0][axis], after[1][axis] = -stop, int(stop >= 0)
        axis += 1
    return before, after, lost


class _ReluGrad:
    """What flows back into a ReLU."""

    @classmethod
    def version_13(cls, context: Any, node: Any, **kwargs: Any) -> None:
        """Let through what flows to where the ReLU let something through."""
        flow, features = node.input
        passed = make(context, "Greater", [features, _number(context, flow, 0)])
        passed = make(context, "Cast", [passed], to=context.get_dtype(flow))
        replace(context, node, "Mul", [flow, passed])


class _MaxPoolGrad:
    """What flows back into an image whose largest values were taken, window by window."""

    @classmethod
    def version_13(cls, context: Any, node: Any, **kwargs: Any) -> None:
        """Add up, at each place that was the largest of its window, what flows back into that window."""
        image, _, flow = node.input
        if node.get_attr_value("data_format") not in (None, b"NHWC"):
            raise ExportError(
                "Explanations cannot be exported of a model whose poolings have channels first."
            )
        first = make(context, "Transpose", [image], perm=[0, 3, 1, 2])
        pooled = context.make_node(
            "MaxPool",
            [first],
            attr={
                "kernel_shape": node.get_attr_value("ksize")[1:3],
                "strides": node.get_attr_value("strides")[1:3],
                "auto_pad": {b"SAME": "SAME_UPPER"}.get(node.get_attr_value("padding"), "VALID"),
            },
            output_count=2,
            dtypes=[context.get_dtype(image), _INT64],
        )
        flat = constant(context, np.full(1, -1, "int64"))
        places = make(context, "Reshape", [pooled.output[1], flat])
        flows = make(context, "Reshape", [make(context, "Transpose", [flow], perm=[0, 3, 1, 2]), flat])
        shape = make(context, "Shape", [first])
        zeros = make(context, "Reshape", [make(context, "Expand", [_number(context, flow, 0), shape]), flat])
        summed = make(context, "ScatterElements", [zeros, places, flows], axis=0, reduction="add")
        shaped = make(context, "Reshape", [summed, shape])
        replace(context, node, "Transpose", [shaped], perm=[0, 2, 3, 1])


class _ShapeN:
    """The shapes of several tensors."""

    @classmethod
    def version_13(cls, context: Any, node: Any, **kwargs: Any) -> None:
        """Take one after the other."""
        _give(context, node, [make(context, "Shape", [tensor]) for tensor in node.input])


class _ConcatOffset:
    """Where each part of what was put side by side begins."""

    @classmethod
    def version_13(cls, context: Any, node: Any, **kwargs: Any) -> None:
        """Add up the sizes of the parts before it, on the axis that they lie along."""
        axis, *shapes = node.input
        value = context.get_node_by_output(axis).get_tensor_value()
        along = np.zeros(context.get_shape(shapes[0])[0], "int64")
        along[value] = 1
        offsets = [constant(context, np.zeros_like(along))]
        for shape in shapes[:-1]:
            sizes = make(context, "Cast", [shape], to=_INT64)
            size = make(context, "Mul", [sizes, constant(context, along)])
            offsets.append(make(context, "Add", [offsets[-1], size]))
        _give(context, node, offsets)


def _give(context: Any, node: Any, results: list[str]) -> None:
    """Put whole numbers in the place of a node's outputs."""
    for output, result in zip(list(node.output), results, strict=True):
        dtype = context.get_dtype(output)
        context.replace_all_inputs(output, make(context, "Cast", [result], to=dtype))
    context.remove_node(node.name)


def _of(formula: Callable[[Any, str, str], str]) -> Any:
    """Return a handler of an operation that takes a function's result and what flows back to it."""

    class Handler:
        @classmethod
        def version_13(cls, context: Any, node: Any, **kwargs: Any) -> None:
            result, flow = node.input
            replace(context, node, "Mul", [flow, formula(context, result, flow)])

    return Handler


def _number(context: Any, like: str, value: float) -> str:
    from tf2onnx import utils

    return constant(context, np.asarray(value, utils.map_onnx_to_numpy_type(context.get_dtype(like))))


def _tanh(context: Any, y: str, flow: str) -> str:
    return make(context, "Sub", [_number(context, flow, 1), make(context, "Mul", [y, y])])


def _sigmoid(context: Any, y: str, flow: str) -> str:
    return make(context, "Mul", [y, make(context, "Sub", [_number(context, flow, 1), y])])


def _rsqrt(context: Any, y: str, flow: str) -> str:
    cube = make(context, "Mul", [y, make(context, "Mul", [y, y])])
    return make(context, "Mul", [cube, _number(context, flow, -0.5)])


def _sqrt(context: Any, y: str, flow: str) -> str:
    return make(context, "Div", [_number(context, flow, 0.5), y])


DERIVATIVES = {
    "BroadcastGradientArgs": _BroadcastGradientArgs,
    "ConcatOffset": _ConcatOffset,
    "MaxPoolGrad": _MaxPoolGrad,
    "ReluGrad": _ReluGrad,
    "RsqrtGrad": _of(_rsqrt),
    "ShapeN": _ShapeN,
    "SigmoidGrad": _of(_sigmoid),
    "SqrtGrad": _of(_sqrt),
    "StridedSliceGrad": _StridedSliceGrad,
    "TanhGrad": _of(_tanh),
}
