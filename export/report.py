"""What an export measured on its way."""

from __future__ import annotations

import os
import pathlib
from collections import Counter
from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter, ValidationError

from kzoo.errors import BundleError
from kzoo.export.reduction import Reduction
from kzoo.export.skeleton import Skeleton
from kzoo.runtime.comparison import Difference
from kzoo.runtime.graph import read_contents
from kzoo.runtime.tables import draw_differences, draw_sizes, draw_table

REPORT_FILE = "export.json"


@dataclass(frozen=True)
class GraphReport:
    """One graph.

    Attributes:
        operations: number of nodes of each operation, the most frequent first.
        nodes_before: number of nodes before any were fused; 0 where nothing tried to.
        fused: number of nodes of each fused operation.
        unfused: what could have been fused and was not, with the reason.
        initializers: number of stored tensors.
        parameters: number of values in them.
        differences: how far each output is from Keras, the worst over all cases.
        cases: what was compared: sizes and padding.
        refused: what was not compared because the Keras model itself fails there, with its reason.
    """

    operations: dict[str, int]
    nodes_before: int
    fused: dict[str, int]
    unfused: list[str]
    initializers: int
    parameters: int
    differences: dict[str, Difference]
    cases: list[str]
    refused: list[str]

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return sum(self.operations.values())

    @property
    def largest_difference(self) -> float:
        """Largest absolute difference of any output from Keras, over all cases compared."""
        return max(difference.absolute for difference in self.differences.values())


@dataclass(frozen=True)
class ExportReport:
    """The result of `to_onnx` or `to_bundle`; `print` shows it as tables.

    Attributes:
        path: the file or folder that was written.
        opset: version of ONNX' operators.
        tolerance: bound on the differences.
        files: size in bytes of each file, by name.
        graphs: one report for each graph, by role.
        stages: how many seconds each stage took.
        reduction: what another precision than float32 brought and cost.
        target: where the graphs are to run, one of `kzoo.export.layout.TARGETS`.
    """

    path: pathlib.Path
    opset: int
    tolerance: float
    files: dict[str, int]
    graphs: dict[str, GraphReport]
    stages: dict[str, float] = field(default_factory=dict)
    reduction: Reduction | None = None
    target: str = "any"

    @property
    def size_bytes(self) -> int:
        """Size of all files together."""
        return sum(self.files.values())

    @property
    def seconds(self) -> float:
        """How long all stages took together."""
        return sum(self.stages.values())

    @property
    def largest_difference(self) -> float:
        """Largest absolute difference of any output from Keras, over all cases compared."""
        return max(graph.largest_difference for graph in self.graphs.values())

    def __str__(self) -> str:
        differences = {role: graph.differences for role, graph in self.graphs.items()}
        parts = [
            self._draw_operations(),
            draw_differences(differences),
            "\n".join([*self._notes(), self._summary()]),
        ]
        return "\n\n".join(parts)

    def to_json(self) -> bytes:
        """Return what `read_report` reads; the path is left out, being where the report lies."""
        return _ADAPTER.dump_json(replace(self, path=pathlib.Path()), indent=1) + b"\n"

    def _draw_operations(self) -> str:
        graphs = self.graphs.values()
        total: Counter[str] = Counter()
        for graph in graphs:
            total.update(graph.operations)
        rows = []
        for name, _ in total.most_common():
            made = any(name in graph.fused for graph in graphs)
            counts = [f"{graph.operations.get(name, 0):,}" for graph in graphs]
            rows.append((f"{name} (fused)" if made else name, *counts))
        rows.append(("all nodes", *(f"{graph.nodes:,}" for graph in graphs)))
        if any(graph.nodes_before for graph in graphs):
            rows.append(("all nodes before fusion", *(f"{graph.nodes_before:,}" for graph in graphs)))
        rows.append(("stored tensors", *(f"{graph.initializers:,}" for graph in graphs)))
        rows.append(("parameters", *(f"{graph.parameters:,}" for graph in graphs)))
        return draw_table(("operation", *self.graphs), rows)

    def _notes(self) -> list[str]:
        return [
            *(f"not fused: {note}" for graph in self.graphs.values() for note in graph.unfused),
            *(f"not compared: {note}" for graph in self.graphs.values() for note in graph.refused),
        ]

    def _summary(self) -> str:
        stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in self.stages.items())
        cases = sum(len(graph.cases) for graph in self.graphs.values())
        reduction = f"{self.reduction}\n" if self.reduction is not None else ""
        return (
            f"{reduction}{self.path}: {draw_sizes(self.files)}; opset {self.opset}, target {self.target}\n"
            f"compared with Keras in {cases} cases, tolerance {self.tolerance:g}\n"
            f"{self.seconds:.1f} seconds: {stages}"
        )


_ADAPTER = TypeAdapter(ExportReport)


def describe(
    path: pathlib.Path,
    skeleton: Skeleton,
    differences: dict[str, Difference],
    cases: list[str],
    refused: list[str],
) -> GraphReport:
    """Return the report of one graph.

    Args:
        path: the graph as it was written.
        skeleton: what it came from.
        differences: of each output, from `verify_graph`.
        cases: names of the cases compared.
        refused: names of those that were not.
    """
    contents = read_contents(path)
    return GraphReport(
        operations=dict(contents.operations),
        nodes_before=skeleton.nodes_before,
        fused=dict(skeleton.fused),
        unfused=list(skeleton.unfused),
        initializers=contents.initializers,
        parameters=contents.parameters,
        differences=differences,
        cases=cases,
        refused=refused,
    )


def describe_reduced(
    path: pathlib.Path, report: GraphReport, differences: dict[str, Difference]
) -> GraphReport:
    """Return a graph's report after it was written in another precision."""
    contents = read_contents(path)
    return replace(
        report,
        operations=dict(contents.operations),
        initializers=contents.initializers,
        parameters=contents.parameters,
        differences=differences,
    )


def read_report(bundle: str | os.PathLike[str]) -> ExportReport:
    """Read the report that an export left in a bundle.

    Raises:
        BundleError: there is none, or it is damaged.
    """
    folder = pathlib.Path(bundle)
    file = folder / REPORT_FILE
    try:
        report = _ADAPTER.validate_json(file.read_bytes())
    except OSError as error:
        raise BundleError(f"'{file}' cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise BundleError(f"'{file}' is no report of an export: {where}: {first['msg']}.") from None
    return replace(report, path=folder)
