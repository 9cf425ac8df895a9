"""Keras model in, verified graph or bundle out."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import keras

import kzoo
from kzoo.errors import ExportError
from kzoo.explanation.models import check_explainable
from kzoo.export.contents import write_golden, write_manifest
from kzoo.export.layout import check_target
from kzoo.export.precision import check_dtype
from kzoo.export.reduction import Metric, check_metric, record_inputs
from kzoo.export.report import REPORT_FILE, ExportReport
from kzoo.export.running import Export, Progress
from kzoo.models import TransformerModel
from kzoo.replace import refuse_other_contents, replacing
from kzoo.runtime.manifest import EXPLANATION, GOLDEN_FILE, MANIFEST_FILE, TOKENIZER_FILE
from kzoo.runtime.pipeline import Pipeline
from kzoo.runtime.tasks import TASKS


def to_onnx(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    inputs: Any = None,
    custom_objects: dict[str, Any] | None = None,
    tolerance: float | None = None,
    target: str = "any",
    dtype: str = "float32",
    calibration: Sequence[Any] | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Write any Keras 3 model, from any backend, as one ONNX file, after comparing it with the model.

    Inputs are named by their dict key or `keras.Input` name, outputs by their dict key or the layer that made
    them; free axes are named (`batch`, `sequence`); weights carry their Keras paths. Inputs and outputs are
    the same in any precision.

    Args:
        model: a built model: functional, sequential or subclassed.
        path: where to write, ending in `.onnx`.
        inputs: what the model is called on, as a batch of arrays (compared too) or `keras.Input`s; needed for
            a subclassed model that takes anything but one tensor, of token ids or of float32.
        custom_objects: classes and functions by name, where they cannot be found on the model itself.
        tolerance: bound on `|difference| / (1 + |expected|)` in float32; 1e-4, more for a Keras model that is none of
            the zoo's and computes in half precision.
        target: `"any"` writes the fewest nodes; `"cpu"` more of them, which ONNX Runtime's CPU kernels are faster on.
        dtype: `"float32"`, `"float16"` for GPUs, `"int8"` or `"int8_static"` for CPUs, `"int4"` for little memory.
            The float32 graph is compared with the model first, and then the other with it.
        calibration: for `"int8_static"`, some typical batches, each as in `inputs`, or a dict of arrays by name.
        progress: called with a few words before each step.

    Raises:
        ExportError: the model cannot be exported; nothing was written.
        VerificationError: the graph and the model disagree; nothing was written.

    Example:
        >>> import tempfile, keras, kzoo
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2, name="scores")])
        >>> report = kzoo.export.to_onnx(model, tempfile.mkdtemp() + "/model.onnx")
        >>> report.largest_difference < 1e-4
        True
    """
    check_dtype(dtype, calibration is not None)
    check_target(target)
    place = pathlib.Path(path)
    if place.suffix != ".onnx":
        raise ExportError(f"'{place}' does not end in .onnx; for a bundle use to_bundle.")
    if place.is_dir():
        raise ExportError(f"'{place}' is a folder; give the path of a file.")
    export = Export(model, inputs, custom_objects, tolerance, progress, target)
    with replacing(place, is_file=True) as folder:
        export.write(folder, {"model": place.name})
        if dtype != "float32":
            batches = None if calibration is None else [export.batch(inputs) for inputs in calibration]
            export.reduce(
                folder, {"model": place.name}, dtype, None if batches is None else {"model": batches}
            )
        return export.report(place, folder)


def to_bundle(
    model: TransformerModel,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    metrics: dict[str, float] | None = None,
    tolerance: float | None = None,
    target: str = "any",
    dtype: str = "float32",
    calibration: Any = None,
    metric: Metric | None = None,
    max_drop: float | None = None,
    explanations: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write one of the zoo's models as a bundle: all that `kzoo.load` needs to serve it without Keras.

    Args:
        model: the trained model, its tokenizer attached if it reads text.
        path: the bundle's folder; an earlier bundle there is replaced, in one step, once the new one is verified.
        name: the id that a service answers to; the folder's name unless given.
        metrics: scores to keep in the manifest.
        tolerance: as in `to_onnx`.
        target: as in `to_onnx`.
        dtype: as in `to_onnx`.
        calibration: for `"int8_static"`, a list of some hundred typical inputs, as `kzoo.load(path)` takes them.
        metric: measures what `kzoo.load(path)` gives, higher being better; called in float32 and then in `dtype`.
        max_drop: by how much the metric may fall.
        explanations: add the graph by which `kzoo.runtime.explanation` finds integrated gradients and attention. It
            reads its weights from the other graph, where they stand there alike, and is opened when first asked for.
        progress: as in `to_onnx`.

    Raises:
        ExportError: the model cannot be exported, or the folder holds something else; nothing was written.
        VerificationError: a graph and the model disagree, or the metric falls too far; nothing was written.
    """
    check_dtype(dtype, calibration is not None)
    check_target(target)
    if max_drop is not None and metric is None:
        raise ExportError("max_drop= is by how much metric= may fall: give a metric too.")
    if metric is not None and dtype == "float32":
        raise ExportError("metric= compares another dtype with float32: give dtype= too.")
    place = pathlib.Path(path)
    if not isinstance(model, TransformerModel):
        raise ExportError(
            "Only the zoo's models make a bundle; for any other give a path that ends in .onnx."
        )
    # What is served takes texts or images; features of both, or of a source and a target, have nobody to ask.
    two_sided = {
        "input_ids",
        "pixel_values",
    } <= model.signature().keys() or "decoder_input_ids" in model.signature()
    if model.task not in TASKS or (model.task == "features" and two_sided):
        raise ExportError(
            f"There is no bundle for task='{model.task}' of {type(model.backbone).__name__} yet: give a path that "
            "ends in .onnx for the bare graph."
        )
    if model.max_length is not None and model.tokenizer is None:
        raise ExportError(
            "A text bundle needs the model's tokenizer: set model.tokenizer = 'tokenizer.json'."
        )
    if place.suffix:
        raise ExportError(f"A bundle is a folder: give a path without '{place.suffix}'.")
    if explanations:
        check_explainable(model)
    refuse_other_contents(place, MANIFEST_FILE)
    title = re.sub(r"[^A-Za-z0-9._-]", "-", name or place.absolute().name).lstrip("._-") or model.name
    export = Export(model, None, None, tolerance, progress, target, bundle=title, explained=explanations)
    files = {role: f"{role}.onnx" for role in export.graphs}

    def complete(folder: pathlib.Path) -> ExportReport:
        write_golden(folder / GOLDEN_FILE, export)
        if model.tokenizer is not None:
            model.tokenizer.save(folder / TOKENIZER_FILE)
        report = export.report(place, folder)
        (folder / REPORT_FILE).write_bytes(report.to_json())
        write_manifest(folder, export, metrics or {})
        return report

    with replacing(place) as folder:
        export.write(folder, files)
        if dtype != "float32":
            own = {role: file for role, file in files.items() if role != EXPLANATION}
            _reduce_bundle(export, folder, own, complete, dtype, calibration, metric, max_drop)
        if explanations:
            export.shrink_explanation(folder, files, dtype)
        return complete(folder)


def _reduce_bundle(
    export: Export,
    folder: pathlib.Path,
    files: dict[str, str],
    complete: Callable[[pathlib.Path], ExportReport],
    dtype: str,
    calibration: Any,
    metric: Metric | None,
    max_drop: float | None,
) -> None:
    """Put graphs of another precision in a bundle, unless its metric falls too far."""
    before = after = None
    batches = None
    if metric is not None or calibration is not None:
        pipeline = _load_unfinished(folder, complete)
        if metric is not None:
            before = float(metric(pipeline))
        if calibration is not None:
            batches = record_inputs(pipeline, calibration)
    export.reduce(folder, files, dtype, batches)
    if metric is not None and before is not None and export.reduction is not None:
        after = float(metric(_load_unfinished(folder, complete)))
        check_metric(dtype, before, after, max_drop)
        export.reduction = dataclasses.replace(export.reduction, metric_before=before, metric_after=after)


def _load_unfinished(folder: pathlib.Path, complete: Callable[[pathlib.Path], ExportReport]) -> Pipeline:
    """Open a bundle as it is now, and leave its graphs alone behind."""
    graphs = {file.name for file in folder.iterdir()}
    complete(folder)
    pipeline = kzoo.load(folder, device="cpu")
    for file in folder.iterdir():
        if file.name not in graphs:
            file.unlink()
    return pipeline
