"""One export, stage by stage: convert, write, verify, reduce, report."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import onnx
from pydantic import BaseModel

import kzoo
from kzoo.errors import ExportError, MissingDependencyError, VerificationError
from kzoo.export.blame import blamed
from kzoo.export.cases import Arrays, Case, make_cases, name_output_axes, token_limits
from kzoo.export.explanation import shrink_explanation
from kzoo.export.handover import convert_in_child
from kzoo.export.precision import BOUNDS
from kzoo.export.rebuilding import in_float32
from kzoo.export.reduction import Reduction, reduce_graph
from kzoo.export.report import ExportReport, GraphReport, describe, describe_reduced
from kzoo.export.signatures import model_graphs, signature_of
from kzoo.export.skeleton import Skeleton
from kzoo.export.verification import open_graph, run_graph, settle_padding, verify_graph
from kzoo.export.weights import declare, save
from kzoo.models import TransformerModel
from kzoo.models.graphs import Graph
from kzoo.runtime.comparison import Difference
from kzoo.runtime.manifest import EXPLANATION, TOKENIZER_FILE, GenerationDefaults, TextPreprocessing
from kzoo.runtime.metadata import encode_metadata

# Bounds on |difference| / (1 + |expected|), by the precision that the Keras model computes in.
TOLERANCES = {"float32": 1e-4, "float64": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}

Progress = Callable[[str], None]


class Export:
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
        explained: bool = False,
    ) -> None:
        serving = bundle is not None
        self.name = bundle or model.name
        self.sections = sections_of(model) if isinstance(model, TransformerModel) else {}
        if isinstance(model, TransformerModel) and _precision(model) != "float32":
            # The graph is float32, and beside a bfloat16 model a mistake in it could not be told from rounding.
            model = in_float32(model)
        self.model = model
        self.signature = signature_of(model, inputs)
        self.graphs: dict[str, Graph] = model_graphs(model, self.signature, serving, explained)
        self.explained = explained
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
        self.opset = 0

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
        opsets = [entry.version for entry in attempt.model.opset_import if entry.domain == ""]
        self.opset = max(self.opset, *opsets)
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

    def shrink_explanation(self, folder: pathlib.Path, files: dict[str, str], dtype: str) -> None:
        """Write the graph of explanations with no more weights than it needs beside the finished one."""
        path = folder / files[EXPLANATION]
        with self._stage(f"writing {path.name} beside {files['model']}"):
            shrink_explanation(path, folder / files["model"], dtype)
            session = open_graph(path)
            cases = self.cases[EXPLANATION]
            self.cases[EXPLANATION] = [
                dataclasses.replace(case, expected=run_graph(session, case)) for case in cases
            ]

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
                self.model,
                self.signature,
                self.serving,
                self.custom_objects,
                self.target,
                folder,
                self.explained,
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
            opset=self.opset,
            tolerance=self.tolerance,
            files={file.name: file.stat().st_size for file in sorted(folder.iterdir())},
            graphs=self.reports,
            stages=self.stages,
            reduction=self.reduction,
            target=self.target,
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


def sections_of(model: TransformerModel) -> dict[str, Any]:
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
