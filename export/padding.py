"""Leave padding out of what works on each token alone: the real tokens of a batch, one row each.

Kept besides are the first token of each text, which poolers read, and all tokens of a text that is nothing but
padding, so that it gives what it gives in Keras.
"""

from __future__ import annotations

import onnx

from kzoo.export.editing import GraphEditor, new_node


class Packing:
    """Which rows of (batch * length) are kept, as tensors of the graph.

    Args:
        graph: the graph.
        mask: its input (batch, length), 1 for real tokens.
    """

    def __init__(self, graph: GraphEditor, mask: str) -> None:
        self._graph = graph
        self.mask = mask
        self.kept = f"{mask}__kept"
        self.rows = f"{mask}__rows"
        self.places = f"{mask}__places"

    def prepare(self) -> list[onnx.NodeProto]:
        """Return the nodes that make `kept` (batch, length), `rows` (tokens,) and `places` (batch, length).

        `rows` are the positions that are kept, `places` where each position is found among them; a position that
        is not kept is sent to the one before it.
        """
        mask, constant = self.mask, self._graph.constant
        shape, length, flat = f"{mask}__shape", f"{mask}__length", f"{self.kept}__flat"
        last, zero, one = constant("kzoo/last", [-1]), constant("kzoo/0", 0), constant("kzoo/1", 1)

        def step(operation: str, inputs: list[str], name: str, **attributes: int) -> onnx.NodeProto:
            return new_node(operation, inputs, [f"{mask}__{name}"], "", **attributes)

        integers, booleans = onnx.TensorProto.INT64, onnx.TensorProto.BOOL
        return [
            step("Cast", [mask], "int64", to=integers),
            step("Cast", [mask], "real", to=booleans),
            step("ReduceMax", [f"{mask}__int64", last], "largest", keepdims=1),
            step("Equal", [f"{mask}__largest", zero], "empty"),
            step("Shape", [mask], "shape"),
            step("Gather", [shape, one], "length", axis=0),
            step("Range", [zero, length, one], "positions"),
            step("Equal", [f"{mask}__positions", zero], "first"),
            step("Or", [f"{mask}__real", f"{mask}__empty"], "needed"),
            step("Or", [f"{mask}__needed", f"{mask}__first"], "kept"),
            new_node("Reshape", [self.kept, last], [flat]),
            new_node("NonZero", [flat], [f"{self.rows}__found"]),
            new_node("Squeeze", [f"{self.rows}__found", constant("kzoo/axis_0", [0])], [self.rows]),
            new_node("Cast", [flat], [f"{flat}__int64"], to=integers),
            new_node("CumSum", [f"{flat}__int64", zero], [f"{self.places}__count"]),
            new_node("Sub", [f"{self.places}__count", one], [f"{self.places}__flat"]),
            new_node("Reshape", [f"{self.places}__flat", shape], [self.places]),
        ]

    def pack(self, source: str, rows: str) -> onnx.NodeProto:
        """Return what takes the kept ones of (batch * length, width)."""
        return new_node("Gather", [source, self.rows], [rows], axis=0)

    def unpack(self, rows: str, tensor: str) -> onnx.NodeProto:
        """Return what makes (batch, length, width) of the kept ones; padding holds some other token's."""
        return new_node("Gather", [rows, self.places], [tensor], axis=0)

    def clear(self, tensor: str, cleared: str) -> list[onnx.NodeProto]:
        """Return what puts zeros in the place of the padding of (batch, length, width)."""
        wide = f"{cleared}__kept"
        zero = self._graph.constant("kzoo/nothing", 0, "float32")
        return [
            new_node("Unsqueeze", [self.kept, self._graph.constant("kzoo/last", [-1])], [wide]),
            new_node("Where", [wide, tensor, zero], [cleared]),
        ]
