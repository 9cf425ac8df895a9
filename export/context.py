"""Add nodes to the graph that tf2onnx is converting, which its handlers are given as `context`."""

from __future__ import annotations

from typing import Any

import numpy as np


def constant(context: Any, array: np.ndarray | np.generic) -> str:
    """Store an array and return its name."""
    from tf2onnx import utils

    return context.make_const(utils.make_name("constant"), array).output[0]


def make(context: Any, op_type: str, inputs: list[str], **attributes: Any) -> str:
    """Add a node and return the name of its first output."""
    return context.make_node(op_type, inputs, attr=attributes).output[0]


def replace(context: Any, node: Any, op_type: str, inputs: list[str], **attributes: Any) -> None:
    """Put another node in the place of one, with its output."""
    target = node.output[0]
    dtype, shape = context.get_dtype(target), context.get_shape(target)
    context.remove_node(node.name)
    context.make_node(op_type, inputs, attr=attributes, outputs=[target], dtypes=[dtype], shapes=[shape])
