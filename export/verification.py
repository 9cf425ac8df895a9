"""Compare an exported graph with the Keras model it came from, before anything is put in place."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import onnxruntime

from kzoo.errors import ExportError, VerificationError
from kzoo.models import InputSpec
from kzoo.models.graphs import Graph

Arrays = dict[str, np.ndarray]

# Sizes that the free axes take; different primes on each axis tell them apart in the outputs.
_BATCHES = (1, 3)
_LENGTHS = (5, 17)


@dataclass(frozen=True)
class Case:
    """What went into the Keras model, and what came out."""

    inputs: Arrays
    expected: Arrays


def make_cases(graph: Graph, token_limit: int, batch: Arrays | None = None) -> list[Case]:
    """Run the Keras side of a graph on two batch sizes by two lengths, without padding and with.

    Args:
        graph: the function, on whatever backend Keras runs.
        token_limit: random token ids are drawn below it.
        batch: one of the user's own, added to the cases.
    """
    batches = list(sample_inputs(graph.inputs, token_limit))
    if batch is not None:
        batches.append(batch)
    return [Case(inputs, run_keras(graph, inputs)) for inputs in batches]


def verify_graph(path: pathlib.Path, cases: list[Case], tolerance: float) -> float:
    """Run a graph in ONNX Runtime on the cases' inputs and compare it with what Keras gave.

    Args:
        path: the `.onnx` file.
        cases: from `make_cases`.
        tolerance: bound on `|difference| / (1 + |expected|)`.

    Returns:
        The largest absolute difference.

    Raises:
        ExportError: ONNX Runtime cannot load the graph.
        VerificationError: an output differs; the message names the first one and where.
    """
    session = open_graph(path)
    return max(_compare(session, case, tolerance) for case in cases)


def open_graph(path: pathlib.Path) -> onnxruntime.InferenceSession:
    """Open a graph in ONNX Runtime on the CPU.

    Raises:
        ExportError: it refuses the file.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"ONNX Runtime does not load the exported graph: {error}") from error


def sample_inputs(specs: dict[str, InputSpec], token_limit: int) -> Iterator[Arrays]:
    """Yield batches of random inputs: two batch sizes by two lengths, then the largest again with padding."""
    axes = {size for spec in specs.values() for size in spec.shape if isinstance(size, str)}
    free = sorted(axes - {"batch", "past+sequence"})
    seeds = itertools.count()
    for batch in _BATCHES:
        for length in _LENGTHS if free else _LENGTHS[:1]:
            sizes = {"batch": batch, **{axis: length + 2 * index for index, axis in enumerate(free)}}
            yield _draw(specs, sizes, token_limit, next(seeds), padded=False)
    if "past" in free:
        sizes = {"batch": 2, **dict.fromkeys(free, _LENGTHS[0]), "past": 0}
        yield _draw(specs, sizes, token_limit, next(seeds), padded=False)
    if any("mask" in name for name in specs):
        sizes = {"batch": _BATCHES[-1], **{axis: _LENGTHS[-1] + 2 * index for index, axis in enumerate(free)}}
        yield _draw(specs, sizes, token_limit, next(seeds), padded=True)


def _draw(
    specs: dict[str, InputSpec], sizes: dict[str, int], token_limit: int, seed: int, padded: bool
) -> Arrays:
    generator = np.random.default_rng(seed)
    sizes = {**sizes, "past+sequence": sizes.get("past", 0) + sizes.get("sequence", 0)}
    arrays = {}
    for name, spec in specs.items():
        shape = tuple(sizes[size] if isinstance(size, str) else size for size in spec.shape)
        kind = np.dtype(spec.dtype).kind
        if "mask" in name:
            array = np.ones(shape)
            if padded and len(shape) == 2:
                real = np.linspace(shape[1], 0, shape[0]).astype(int)
                array = (np.arange(shape[1]) < real[:, None]).astype("float32")
        elif kind in "iu":
            limit = 2 if "type" in name or "segment" in name else token_limit
            array = generator.integers(0, limit, shape)
        elif kind == "b":
            array = generator.integers(0, 2, shape)
        else:
            array = generator.standard_normal(shape)
        arrays[name] = array.astype(spec.dtype)
    return arrays


def run_keras(graph: Graph, inputs: Arrays) -> Arrays:
    """Return what the Keras function makes of a batch, as numpy arrays."""
    outputs = graph.function({name: keras.ops.convert_to_tensor(array) for name, array in inputs.items()})
    arrays = {name: keras.ops.convert_to_numpy(tensor) for name, tensor in outputs.items()}
    return {name: array.astype("float32") if _is_reduced(array) else array for name, array in arrays.items()}


def _is_reduced(array: np.ndarray) -> bool:
    return array.dtype.kind not in "iub" and array.dtype not in (np.float32, np.float64)


def _compare(session: onnxruntime.InferenceSession, case: Case, tolerance: float) -> float:
    names = [output.name for output in session.get_outputs()]
    taken = {value.name for value in session.get_inputs()}
    try:
        results = session.run(names, {name: array for name, array in case.inputs.items() if name in taken})
    except Exception as error:
        raise ExportError(f"ONNX Runtime loads the exported graph but cannot run it: {error}") from error
    actual = dict(zip(names, results, strict=True))
    return max(
        _difference(name, reference, actual.get(name), case.inputs, tolerance)
        for name, reference in case.expected.items()
    )


def _difference(name: str, reference: np.ndarray, actual: Any, inputs: Arrays, tolerance: float) -> float:
    shapes = {key: array.shape for key, array in inputs.items()}
    if actual is None or actual.shape != reference.shape:
        found = "is missing" if actual is None else f"has shape {actual.shape}"
        raise VerificationError(
            f"The exported graph's output '{name}' {found}; Keras gives {reference.shape} for inputs {shapes}."
        )
    gap = np.abs(actual.astype("float64") - reference.astype("float64"))
    scaled = gap / (1.0 + np.abs(reference.astype("float64")))
    if scaled.size and not scaled.max() <= tolerance:
        where = np.unravel_index(int(np.argmax(np.nan_to_num(scaled, nan=np.inf))), scaled.shape)
        place = tuple(int(index) for index in where)
        raise VerificationError(
            f"The exported graph's output '{name}' differs from Keras at {place}: {actual[where]!r} against "
            f"{reference[where]!r}, beyond the tolerance of {tolerance:g}, for inputs {shapes}. Nothing was written."
        )
    return float(gap.max()) if gap.size else 0.0


def name_output_axes(cases: list[Case], graph: Graph) -> dict[str, list[int | str]]:
    """Return each output's shape, its free axes named after the input axes whose sizes they follow."""
    sizes = [_axis_sizes(graph.inputs, case.inputs) for case in cases]
    shapes: dict[str, list[int | str]] = {}
    for name in cases[0].expected:
        seen = [case.expected[name].shape for case in cases]
        shapes[name] = [
            _axis_name([shape[axis] for shape in seen], sizes, f"{name}_{axis}")
            for axis in range(len(seen[0]))
        ]
    return shapes


def _axis_sizes(specs: dict[str, InputSpec], inputs: Arrays) -> dict[str, int]:
    sizes = {}
    for name, spec in specs.items():
        for axis, size in zip(spec.shape, np.shape(inputs[name]), strict=True):
            if isinstance(axis, str):
                sizes[axis] = size
    if "past" in sizes:
        step = "sequence" if "past+sequence" in sizes else "decoder_sequence"
        sizes[f"past+{step}"] = sizes["past"] + sizes[step]
    return sizes


def _axis_name(seen: list[int], sizes: list[dict[str, int]], fallback: str) -> int | str:
    if len(set(seen)) == 1:
        return seen[0]
    for axis in sizes[0]:
        if all(size == known.get(axis) for size, known in zip(seen, sizes, strict=True)):
            return axis
    return fallback
