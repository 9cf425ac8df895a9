"""Operations of TensorFlow that tf2onnx 1.17 cannot convert, written with what ONNX has."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import onnx

from kzoo.errors import ExportError
from kzoo.export.context import constant, make, replace
from kzoo.export.derivatives import DERIVATIVES
from kzoo.export.editing import inner_nodes
from kzoo.export.resampling import RESAMPLINGS


@functools.cache
def register_handlers() -> None:
    """Teach tf2onnx the operations that it lacks or gets wrong; a second call does nothing."""
    from tf2onnx.handler import tf_op

    known = {name for opsets in tf_op.get_opsets().values() for handlers in opsets for name in handlers}
    for name, handler in (_HANDLERS | DERIVATIVES).items():
        if name not in known:
            tf_op(name)(handler)
    for name, resampling in RESAMPLINGS.items():
        tf_op(name)(resampling)


# To order more letters of an einsum, tf2onnx tries minutes' worth of permutations.
_ORDERED_LETTERS = 5


@contextlib.contextmanager
def restrained() -> Iterator[None]:
    """Keep tf2onnx from recurrent layers, whose weights it takes for constants, and from endless trials."""
    from tf2onnx import tfonnx
    from tf2onnx.optimizer import einsum_optimizer

    optimize = einsum_optimizer.optimize_einsum

    def leave(graph: Any, nodes: Any) -> Any:
        return nodes

    def optimize_short(equation: str, **options: Any) -> Any:
        letters = set(filter(str.isalpha, equation))
        return optimize(equation, optimize=len(letters) <= _ORDERED_LETTERS, **options)

    with (
        mock.patch.multiple(tfonnx, rewriter_lstm_tf2=leave, rewrite_gru_tf2=leave),
        mock.patch.object(einsum_optimizer, "optimize_einsum", optimize_short),
    ):
        yield


# ONNX Runtime has it under ONNX's own domain.
_RUNTIME_OWN = ("SimplifiedLayerNormalization",)


def refuse_unknown(proto: onnx.ModelProto) -> None:
    """Refuse a graph with operations of TensorFlow that were left as they are.

    Raises:
        ExportError: there are some; it names them and where they stand.
    """
    unknown = [
        f"{node.op_type} in '{node.name}'"
        for outer in proto.graph.node
        for node in (outer, *inner_nodes(outer))
        if node.domain in ("", "ai.onnx")
        and not onnx.defs.has(node.op_type)
        and node.op_type not in _RUNTIME_OWN
    ]
    if unknown:
        raise ExportError(
            f"ONNX has no counterpart for {', '.join(unknown[:5])}: write that layer with other keras.ops."
        )


class _Erfc:
    """TensorFlow 2.21 computes an exact GELU with it."""

    @classmethod
    def version_9(cls, context: Any, node: Any, **kwargs: Any) -> None:
        """Write erfc(x) as 1 - erf(x)."""
        from tf2onnx import utils

        dtype = utils.map_onnx_to_numpy_type(context.get_dtype(node.output[0]))
        erf = make(context, "Erf", [node.input[0]])
        replace(context, node, "Sub", [constant(context, np.asarray(1, dtype)), erf])


class _DynamicUpdateSlice:
    """`keras.ops.slice_update`."""

    @classmethod
    def version_13(cls, context: Any, node: Any, **kwargs: Any) -> None:
        """Scatter the update over the elements that it covers."""
        source, update, start = node.input
        size = make(context, "Shape", [update])
        # As in TensorFlow, an update that would stick out moves inside.
        last = make(context, "Sub", [make(context, "Shape", [source]), size])
        start = make(context, "Cast", [start], to=onnx.TensorProto.INT64)
        start = make(context, "Min", [start, last])
        start = make(context, "Max", [start, constant(context, np.asarray(0, "int64"))])
        ones = make(
            context, "ConstantOfShape", [size], value=onnx.numpy_helper.from_array(np.ones(1, "float32"))
        )
        places = make(context, "Transpose", [make(context, "NonZero", [ones])], perm=[1, 0])
        places = make(context, "Add", [places, start])
        flat = make(context, "Reshape", [update, constant(context, np.asarray([-1], "int64"))])
        replace(context, node, "ScatterND", [source, places, flat])


class _Expm1:
    """Part of CELU."""

    @classmethod
    def version_9(cls, context: Any, node: Any, **kwargs: Any) -> None:
        """Write expm1(x) as exp(x) - 1."""
        from tf2onnx import utils

        dtype = utils.map_onnx_to_numpy_type(context.get_dtype(node.output[0]))
        exp = make(context, "Exp", [node.input[0]])
        replace(context, node, "Sub", [exp, constant(context, np.asarray(1, dtype))])


class _Bucketize:
    """`keras.layers.Discretization`."""

    @classmethod
    def version_13(cls, context: Any, node: Any, **kwargs: Any) -> None:
        """Count the boundaries that each element reaches."""
        boundaries = constant(context, np.asarray(node.get_attr("boundaries").floats, "float32"))
        last = constant(context, np.asarray([-1], "int64"))
        values = make(context, "Cast", [node.input[0]], to=onnx.TensorProto.FLOAT)
        values = make(context, "Unsqueeze", [values, last])
        reached = make(context, "GreaterOrEqual", [values, boundaries])
        reached = make(context, "Cast", [reached], to=onnx.TensorProto.INT32)
        replace(context, node, "ReduceSum", [reached, last], keepdims=0)


_HANDLERS = {
    "Bucketize": _Bucketize,
    "Erfc": _Erfc,
    "Expm1": _Expm1,
    "XlaDynamicUpdateSlice": _DynamicUpdateSlice,
}
