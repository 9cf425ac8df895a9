"""Operations of TensorFlow that tf2onnx 1.17 cannot convert, written with what ONNX has."""

from __future__ import annotations

from typing import Any

import numpy as np


def register_handlers() -> None:
    """Teach tf2onnx the operations that it lacks; a second call does nothing."""
    from tf2onnx.handler import tf_op

    known = {name for opsets in tf_op.get_opsets().values() for handlers in opsets for name in handlers}
    for name, handler in (("Erfc", _Erfc), ("XlaDynamicUpdateSlice", _DynamicUpdateSlice)):
        if name not in known:
            tf_op(name)(handler)


class _Erfc:
    """TensorFlow 2.21 computes an exact GELU with it."""

    @classmethod
    def version_9(cls, context: Any, node: Any, **kwargs: Any) -> None:
        """Write erfc(x) as 1 - erf(x)."""
        from tf2onnx import utils

        dtype = utils.map_onnx_to_numpy_type(context.get_dtype(node.output[0]))
        erf = _make(context, "Erf", [node.input[0]])
        _replace(context, node, "Sub", [_constant(context, np.asarray(1, dtype)), erf])


class _DynamicUpdateSlice:
    """`keras.ops.slice_update`."""

    @classmethod
    def version_13(cls, context: Any, node: Any, **kwargs: Any) -> None:
        """Scatter the update over the elements that it covers."""
        from onnx import TensorProto

        source, update, start = node.input
        size = _make(context, "Shape", [update])
        # As in TensorFlow, an update that would stick out moves inside.
        last = _make(context, "Sub", [_make(context, "Shape", [source]), size])
        start = _make(context, "Cast", [start], to=TensorProto.INT64)
        start = _make(context, "Min", [start, last])
        start = _make(context, "Max", [start, _constant(context, np.asarray(0, "int64"))])
        ones = _make(context, "ConstantOfShape", [size], value=_tensor(np.ones(1, "float32")))
        places = _make(context, "Transpose", [_make(context, "NonZero", [ones])], perm=[1, 0])
        places = _make(context, "Add", [places, start])
        flat = _make(context, "Reshape", [update, _constant(context, np.asarray([-1], "int64"))])
        _replace(context, node, "ScatterND", [source, places, flat])


def _tensor(array: np.ndarray) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(array)


def _constant(context: Any, array: np.ndarray) -> str:
    from tf2onnx import utils

    return context.make_const(utils.make_name("constant"), array).output[0]


def _make(context: Any, op_type: str, inputs: list[str], **attributes: Any) -> str:
    return context.make_node(op_type, inputs, attr=attributes).output[0]


def _replace(context: Any, node: Any, op_type: str, inputs: list[str]) -> None:
    target = node.output[0]
    dtype, shape = context.get_dtype(target), context.get_shape(target)
    context.remove_node(node.name)
    context.make_node(op_type, inputs, outputs=[target], dtypes=[dtype], shapes=[shape])
