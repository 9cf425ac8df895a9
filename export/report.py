"""What an export measured on its way."""

from __future__ import annotations

import math
import pathlib
from collections import Counter
from dataclasses import dataclass, field

import onnx


@dataclass(frozen=True)
class GraphReport:
    """One graph: its nodes by operation, its weights, and the largest difference from Keras."""

    operations: dict[str, int]
    initializers: int
    parameters: int
    largest_difference: float

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return sum(self.operations.values())


@dataclass(frozen=True)
class ExportReport:
    """The result of `to_onnx` or `to_bundle`: where it is, how large, and how close to the Keras model."""

    path: pathlib.Path
    opset: int
    tolerance: float
    size_bytes: int
    seconds: float
    graphs: dict[str, GraphReport] = field(default_factory=dict)

    @property
    def largest_difference(self) -> float:
        """Largest absolute difference of any output from Keras, over all cases compared."""
        return max(graph.largest_difference for graph in self.graphs.values())

    def __str__(self) -> str:
        graphs = ", ".join(
            f"{role}: {graph.nodes} nodes, {graph.parameters:,} parameters"
            for role, graph in self.graphs.items()
        )
        return (
            f"{self.path} ({self.size_bytes / 1e6:.1f} MB, opset {self.opset}, {graphs}); "
            f"largest difference from Keras {self.largest_difference:.1e}, in {self.seconds:.1f} s"
        )


def describe(proto: onnx.ModelProto, largest_difference: float) -> GraphReport:
    """Return the report of one graph."""
    sizes = [math.prod(tensor.dims) for tensor in proto.graph.initializer]
    return GraphReport(
        operations=dict(Counter(node.op_type for node in proto.graph.node).most_common()),
        initializers=len(sizes),
        parameters=sum(sizes),
        largest_difference=largest_difference,
    )
