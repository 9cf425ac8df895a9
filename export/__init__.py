"""Export: a Keras model, from any backend, to verified ONNX, bare or in a bundle."""

from __future__ import annotations

from kzoo.errors import MissingDependencyError

try:
    from kzoo.export.exporter import to_bundle, to_onnx
except ModuleNotFoundError as error:
    raise MissingDependencyError(f"Export needs {error.name}: pip install 'kzoo[export]'.") from error
from kzoo.export.report import ExportReport, GraphReport, read_report
from kzoo.export.triton import to_triton

__all__ = ["ExportReport", "GraphReport", "read_report", "to_bundle", "to_onnx", "to_triton"]
