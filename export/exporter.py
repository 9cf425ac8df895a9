"""Keras model in, verified graph or bundle out."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import onnx
from pydantic import BaseModel

import kzoo
from kzoo.errors import ExportError, MissingDependencyError, VerificationError
from kzoo.export.blame import blamed
from kzoo.export.cases import Arrays, Case, golden_cases, make_cases, name_output_axes, token_limits
from kzoo.export.handover import convert_in_child
from kzoo.export.layout import check_target
from kzoo.export.precision import BOUNDS, check_dtype
from kzoo.export.reduction import Metric, Reduction, check_metric, record_inputs, reduce_graph
from kzoo.export.report import REPORT_FILE, ExportReport, GraphReport, describe, describe_reduced
from kzoo.export.signatures import model_graphs, signature_of
from kzoo.export.skeleton import Skeleton
from kzoo.export.verification import settle_padding, verify_graph
from kzoo.export.weights import declare, save
from kzoo.models import TransformerModel
from kzoo.models.graphs import Graph
from kzoo.replace import refuse_other_contents, replacing
from kzoo.runtime.bundle import hash_file
from kzoo.runtime.comparison import Difference
from kzoo.runtime.manifest import (
    GOLDEN_FILE,
    MANIFEST_FILE,
    TOKENIZER_FILE,
    GenerationDefaults,
    GraphSpec,
    Manifest,
    TensorSpec,
    TextPreprocessing,
)
from kzoo.runtime.metadata import encode_metadata
from kzoo.runtime.pipeline import Pipeline
from kzoo.runtime.tasks import TASKS

# Bounds on |difference| / (1 + |expected|), by the precision that the Keras model computes in.
TOLERANCES = {"float32": 1e-4, "float64": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
OPSET = 18

Progress = Callable[[str], None]


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
        tolerance: bound on `|difference| / (1 + |expected|)` in float32; 1e-4 for a float32 model.
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
    export = _Export(model, inputs, custom_objects, tolerance, progress, target)
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
    refuse_other_contents(place, MANIFEST_FILE)
    title = re.sub(r"[^A-Za-z0-9._-]", "-", name or place.absolute().name).lstrip("._-") or model.name
    export = _Export(model, None, None, tolerance, progress, target, bundle=title)
    files = {role: f"{role}.onnx" for role in export.graphs}

    def complete(folder: pathlib.Path) -> ExportReport:
        _write_golden(folder / GOLDEN_FILE, export)
        if model.tokenizer is not None:
            model.tokenizer.save(folder / TOKENIZER_FILE)
        report = export.report(place, folder)
        (folder / REPORT_FILE).write_bytes(report.to_json())
        manifest = _manifest(export, metrics or {})
        manifest.files.update({file.name: hash_file(file) for file in sorted(folder.iterdir())})
        (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1, exclude_none=True) + "\n")
        return report

    with replacing(place) as folder:
        export.write(folder, files)
        if dtype != "float32":
            _reduce_bundle(export, folder, files, complete, dtype, calibration, metric, max_drop)
        return complete(folder)


def _reduce_bundle(
    export: _Export,
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


class _Export:
    """One export: convert, fill in the weights, write, verify."""

    def __init__(
        self,
        model: keras.Model,
        inputs: Any,
        custom_objects: dict[str, Any] | None,
        tolerance: float | None,
        progress: Progress | None,
        target: str,
        bundle: str | None = None,
    ) -> None:
        serving = bundle is not None
        self.model = model
        self.signature = signature_of(model, inputs)
        self.name = bundle or model.name
        self.sections = _sections(model) if isinstance(model, TransformerModel) else {}
        self.graphs: dict[str, Graph] = model_graphs(model, self.signature, serving)
        self.serving = serving
        self.custom_objects = custom_objects
        self.target = target
        self.precision = _precision(model)
        self.tolerance = tolerance or TOLERANCES[self.precision]
        # What the same graph is held to later, on another machine.
        self.repeated = self.tolerance
        self.progress: Progress = progress or (lambda step: None)
        self.own_batch = self._own_batch(inputs)
        self.cases: dict[str, list[Case]] = {}
        self.output_shapes: dict[str, dict[str, list[int | str]]] = {}
        self.reports: dict[str, GraphReport] = {}
        self.stages: dict[str, float] = {}
        self.reduction: Reduction | None = None

    def write(self, folder: pathlib.Path, files: dict[str, str]) -> None:
        """Write and verify each graph under its file name."""
        with self._stage("converting"):
            skeletons = self._convert(folder)
        for skeleton in skeletons.values():
            for stage, seconds in skeleton.seconds.items():
                self.stages["converting"] -= seconds
                self.stages[stage] = self.stages.get(stage, 0.0) + seconds
        for role, file in files.items():
            self._write_graph(role, folder / file, skeletons[role])

    def _write_graph(self, role: str, path: pathlib.Path, skeleton: Skeleton) -> None:
        graph = self.graphs[role]
        with self._stage(f"running {role} in Keras"):
            limits = token_limits(self.model, graph.inputs)
            cases, refused = make_cases(
                graph, self.model.variables, limits, self.own_batch, may_refuse=self.signature is not None
            )
        self.output_shapes[role] = name_output_axes(cases, graph)
        failures: list[ExportError] = []
        for attempt in [skeleton, *skeleton.alternatives]:
            try:
                self.cases[role], differences = self._attempt(role, path, attempt, cases)
                break
            except ExportError as error:
                failures.append(error)
        else:
            if isinstance(failures[-1], VerificationError):
                raise failures[0]
            # The last one's nodes are nearest to the model's own operations.
            raise blamed(failures[-1], attempt.model, path, self.model)
        if failures:
            reason = str(failures[0]).removesuffix(" Nothing was written.")
            attempt.unfused.append(f"{attempt.caution}, or else: {reason}")
        self.reports[role] = describe(path, attempt, differences, [case.name for case in cases], refused)

    def _attempt(
        self, role: str, path: pathlib.Path, skeleton: Skeleton, cases: list[Case]
    ) -> tuple[list[Case], dict[str, Difference]]:
        """Write and verify one form of a graph."""
        graph, shapes = self.graphs[role], self.output_shapes[role]
        with self._stage(f"writing {path.name}"):
            _name_outputs(skeleton.model, shapes)
            self._sign(skeleton.model, role)
            _check(skeleton.model)
            weights = declare(skeleton.model, skeleton.weights, self.model.variables)
            save(skeleton.model, path, weights)
        with self._stage(f"verifying {path.name}"):
            for mask in skeleton.padding:
                cases = settle_padding(path, cases, mask, list(graph.inputs[mask].shape), shapes)
            return cases, verify_graph(path, cases, self.tolerance, graph.rankings)

    def _sign(self, graph: onnx.ModelProto, role: str) -> None:
        """Let the graph say what it is, wherever it goes."""
        sections = {
            name: section.model_dump() if isinstance(section, BaseModel) else section
            for name, section in self.sections.items()
        }
        facts = {"version": kzoo.__version__, "name": self.name, "role": role, **sections}
        onnx.helper.set_model_props(graph, encode_metadata(facts))

    def reduce(
        self,
        folder: pathlib.Path,
        files: dict[str, str],
        dtype: str,
        calibration: dict[str, list[Arrays]] | None,
    ) -> None:
        """Put graphs of another precision in the place of those just written."""
        reductions = {}
        for role, file in files.items():
            with self._stage(f"writing {file} in {dtype}"):
                reductions[role], self.cases[role] = reduce_graph(
                    folder / file,
                    self.graphs[role],
                    self.cases[role],
                    dtype,
                    None if calibration is None else calibration[role],
                )
                _check(folder / file)
            self.reports[role] = describe_reduced(
                folder / file, self.reports[role], reductions[role].differences
            )
        self.reduction = Reduction(dtype, reductions)
        self.tolerance, self.repeated = BOUNDS[dtype].tolerance, BOUNDS[dtype].repeated

    @contextlib.contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        """Say what comes next, and take its time."""
        self.progress(name)
        started = time.perf_counter()
        yield
        self.stages[name] = self.stages.get(name, 0.0) + time.perf_counter() - started

    def _convert(self, folder: pathlib.Path) -> dict[str, Skeleton]:
        if keras.backend.backend() != "tensorflow" or self.precision != "float32":
            return convert_in_child(
                self.model, self.signature, self.serving, self.custom_objects, self.target, folder
            )
        try:
            from kzoo.export.conversion import convert
        except ImportError as error:
            raise MissingDependencyError(f"Export needs {error.name}: pip install 'kzoo[export]'.") from error
        return {
            role: convert(graph, self.model.variables, self.target) for role, graph in self.graphs.items()
        }

    def batch(self, inputs: Any) -> Arrays:
        """Return a batch of the model's inputs by their names in the graph."""
        graph = self.graphs["model"]
        if isinstance(inputs, str):
            raise ExportError(
                "calibration= of a bare graph is a list of batches of arrays; texts are for a bundle."
            )
        if isinstance(inputs, dict) and inputs.keys() <= graph.inputs.keys():
            named = inputs
        else:
            named = self._own_batch(inputs) or dict(
                zip(graph.inputs, keras.tree.flatten(inputs), strict=False)
            )
        return {
            name: np.asarray(keras.ops.convert_to_numpy(array), graph.inputs[name].dtype)
            for name, array in named.items()
        }

    def _own_batch(self, inputs: Any) -> Arrays | None:
        flat = keras.tree.flatten(inputs) if inputs is not None else []
        if not flat or any(isinstance(leaf, keras.KerasTensor) for leaf in flat) or self.signature is None:
            return None
        names = [leaf.name for leaf in keras.tree.flatten(self.signature.structure)]
        return {
            name: np.asarray(keras.ops.convert_to_numpy(leaf), self.signature.inputs[name].dtype)
            for name, leaf in zip(names, flat, strict=True)
        }

    def report(self, path: pathlib.Path, folder: pathlib.Path) -> ExportReport:
        """Return what was measured, with the sizes of the files in a folder."""
        return ExportReport(
            path=path,
            opset=OPSET,
            tolerance=self.tolerance,
            files={file.name: file.stat().st_size for file in sorted(folder.iterdir())},
            graphs=self.reports,
            stages=self.stages,
            reduction=self.reduction,
        )


def _check(graph: onnx.ModelProto | pathlib.Path) -> None:
    try:
        onnx.checker.check_model(graph if isinstance(graph, onnx.ModelProto) else str(graph))
    except onnx.checker.ValidationError as error:
        raise ExportError(f"The converted graph is not valid ONNX: {error}") from error


def _precision(model: keras.Model) -> str:
    """Return the lowest precision that any of a model's layers computes in."""
    found = {layer.compute_dtype for layer in model._flatten_layers()}
    for precision in ("bfloat16", "float16"):
        if precision in found:
            return precision
    return "float32"


def _name_outputs(proto: onnx.ModelProto, shapes: dict[str, list[int | str]]) -> None:
    for value in proto.graph.output:
        dtype = value.type.tensor_type.elem_type
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, dtype, shapes[value.name]))


def _write_golden(path: pathlib.Path, export: _Export) -> None:
    """Keep two cases of each graph, under their names: padded in several ways, and not at all."""
    arrays: Arrays = {}
    for role, tried in export.cases.items():
        for case in golden_cases(tried, export.graphs[role].rankings):
            arrays |= {f"{case.name}/{role}/input/{name}": array for name, array in case.inputs.items()}
            arrays |= {f"{case.name}/{role}/output/{name}": array for name, array in case.expected.items()}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type] # no array is named allow_pickle


def _manifest(export: _Export, metrics: dict[str, float]) -> Manifest:
    from importlib.metadata import version

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
        opset=OPSET,
        tolerance=export.repeated,
        versions={
            "kzoo": kzoo.__version__,
            "keras": version("keras"),
            "onnx": version("onnx"),
            "tf2onnx": version("tf2onnx"),
        },
        metrics={**metrics, "largest_difference": difference},
    )


def _sections(model: TransformerModel) -> dict[str, Any]:
    """Return what a manifest says of a model, whatever its graphs are."""
    text, tokenizer = None, model.tokenizer
    if tokenizer is not None and model.max_length is not None:
        text = TextPreprocessing(tokenizer=TOKENIZER_FILE, max_length=model.max_length)
    generation = None
    if model.task in ("seq2seq", "causal_lm") and tokenizer is not None:
        generation = GenerationDefaults(
            start_id=tokenizer.start_id,
            end_id=tokenizer.end_id,
            max_new_tokens=min(128, model.max_length or 128),
            ends_at_limit=getattr(model.backbone.config, "forced_end_id", None) is not None,
        )
    return {
        "task": model.task,
        "labels": model.labels or _numbered_labels(model.num_classes),
        "text": text,
        "image": model.image_preprocessing,
        "generation": generation,
    }


def _numbered_labels(num_classes: int | None) -> list[str] | None:
    return [str(index) for index in range(num_classes)] if num_classes is not None else None
