"""What lies in a bundle beside its graphs: the manifest, and what the graphs are to give."""

from __future__ import annotations

import pathlib
from importlib.metadata import version
from typing import Any

import numpy as np

import kzoo
from kzoo.export.cases import Arrays, golden_cases
from kzoo.export.running import Export
from kzoo.runtime.bundle import hash_file
from kzoo.runtime.manifest import MANIFEST_FILE, GraphSpec, Manifest, TensorSpec


def write_golden(path: pathlib.Path, export: Export) -> None:
    """Keep two cases of each graph, under their names: padded in several ways, and not at all."""
    arrays: Arrays = {}
    for role, tried in export.cases.items():
        for case in golden_cases(tried, export.graphs[role].rankings):
            arrays |= {f"{case.name}/{role}/input/{name}": array for name, array in case.inputs.items()}
            arrays |= {f"{case.name}/{role}/output/{name}": array for name, array in case.expected.items()}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type] # no array is named allow_pickle


def write_manifest(folder: pathlib.Path, export: Export, metrics: dict[str, float]) -> None:
    """Write the manifest, with the hash of each file that is there."""
    manifest = _manifest(export, metrics)
    manifest.files.update({file.name: hash_file(file) for file in sorted(folder.iterdir())})
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1, exclude_none=True) + "\n")


def _manifest(export: Export, metrics: dict[str, float]) -> Manifest:
    def specs(shapes: dict[str, Any], dtypes: dict[str, str]) -> list[TensorSpec]:
        return [TensorSpec(name=key, dtype=dtypes[key], shape=list(shape)) for key, shape in shapes.items()]

    graphs = {}
    for role, graph in export.graphs.items():
        expected = export.cases[role][0].expected
        graphs[role] = GraphSpec(
            file=f"{role}.onnx",
            inputs=specs(
                {key: spec.shape for key, spec in graph.inputs.items()},
                {key: spec.dtype for key, spec in graph.inputs.items()},
            ),
            outputs=specs(
                export.output_shapes[role], {key: str(array.dtype) for key, array in expected.items()}
            ),
        )
    difference = max(report.largest_difference for report in export.reports.values())
    return Manifest(
        name=export.name,
        graphs=graphs,
        **export.sections,
        opset=export.opset,
        tolerance=export.repeated,
        versions={
            "kzoo": kzoo.__version__,
            "keras": version("keras"),
            "onnx": version("onnx"),
            "tf2onnx": version("tf2onnx"),
        },
        metrics={**metrics, "largest_difference": difference},
    )
