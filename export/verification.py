"""Compare an exported graph with the Keras model it came from, before anything is put in place."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import onnxruntime

from kzoo.errors import ExportError, VerificationError
from kzoo.models import InputSpec
from kzoo.models.graphs import Graph

Arrays = dict[str, np.ndarray]
Function = Callable[[dict[str, Any]], dict[str, Any]]

# Sizes that the free axes take; different primes on each axis tell them apart in the outputs.
_BATCHES = (1, 3)
_LENGTHS = (5, 17)


@dataclass(frozen=True)
class Case:
    """What went into the Keras model, and what came out."""

    inputs: Arrays
    expected: Arrays


def make_cases(
    graph: Graph, variables: list[Any], token_limit: int, batch: Arrays | None = None
) -> list[Case]:
    """Run the Keras side of a graph on two batch sizes and two lengths, without padding and with.

    Args:
        graph: the function, on whatever backend Keras runs.
        variables: the Keras variables that it reads.
        token_limit: random token ids are drawn below it.
        batch: one of the user's own, added to the cases.
    """
    batches = list(sample_inputs(graph, token_limit))
    if batch is not None:
        batches.append(batch)
    function = _compiled(graph.function, variables)
    return [Case(inputs, run_keras(function, inputs)) for inputs in batches]


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


def sample_inputs(graph: Graph, token_limit: int) -> Iterator[Arrays]:
    """Yield batches of random inputs, two batch sizes and two lengths, without padding and with.

    Where there is a past, one batch has an empty one.
    """
    axes = {size for spec in graph.inputs.values() for size in spec.shape if isinstance(size, str)}
    free = sorted(axes - {"batch", "past+sequence"})
    has_past = "past" in free
    room = (graph.max_length or _LENGTHS[-1] * 8) // (1 + has_past)

    def sizes(batch: int, length: int) -> dict[str, int]:
        lengths = {axis: max(1, min(length + 2 * place, room - place)) for place, axis in enumerate(free)}
        return {"batch": batch, **lengths}

    seeds = itertools.count()
    small, large = (sizes(*pair) for pair in zip(_BATCHES, _LENGTHS, strict=True))
    yield _draw(graph.inputs, small, token_limit, next(seeds), padded=False)
    yield _draw(graph.inputs, large, token_limit, next(seeds), padded=False)
    if has_past:
        yield _draw(graph.inputs, {**small, "past": 0}, token_limit, next(seeds), padded=False)
    if any("mask" in name for name in graph.inputs):
        yield _draw(graph.inputs, large, token_limit, next(seeds), padded=True)


def _draw(
    specs: dict[str, InputSpec], sizes: dict[str, int], token_limit: int, seed: int, padded: bool
) -> Arrays:
    generator = np.random.default_rng(seed)
    sizes = {**sizes, "past+sequence": sizes.get("past", 0) + sizes.get("sequence", 0)}
    arrays = {}
    for name, spec in specs.items():
        shape = tuple(sizes[size] if isinstance(size, str) else size for size in spec.shape)
        kind = np.dtype(spec.dtype).kind
        if name.endswith("positions"):
            array: np.ndarray = generator.integers(0, sizes.get("sequence", 1), shape)
        elif "mask" in name:
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


def run_keras(function: Function, inputs: Arrays) -> Arrays:
    """Return what a Keras function makes of a batch, as numpy arrays."""
    outputs = function({name: keras.ops.convert_to_tensor(array) for name, array in inputs.items()})
    arrays = {name: keras.ops.convert_to_numpy(tensor) for name, tensor in outputs.items()}
    return {name: array.astype("float32") if _is_reduced(array) else array for name, array in arrays.items()}


def _compiled(function: Function, variables: list[Any]) -> Function:
    """Return the function, compiled on JAX, which would else compile each operation anew for each shape."""
    if keras.backend.backend() != "jax":
        return function
    import jax

    def stateless(values: list[Any], inputs: dict[str, Any]) -> dict[str, Any]:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(inputs)

    compiled = jax.jit(stateless)
    return lambda inputs: compiled([variable.value for variable in variables], inputs)


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
