"""Compare an exported graph with the Keras model it came from, before anything is put in place.

All rows and all positions must agree, padded ones too: with a mask that hides everything, the zoo's layers still give
finite numbers, and a graph that gives others treats its mask differently.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable

import numpy as np
import onnxruntime

from kzoo.errors import ExportError, VerificationError
from kzoo.export.cases import PADDINGS, Arrays, Case
from kzoo.export.weights import mapped
from kzoo.runtime.comparison import Difference, compare, join


def verify_graph(
    path: pathlib.Path, cases: list[Case], tolerance: float, rankings: Iterable[str] = ()
) -> dict[str, Difference]:
    """Run a graph in ONNX Runtime on the cases' inputs and compare it with what Keras gave.

    Args:
        path: the `.onnx` file.
        cases: from `make_cases`.
        tolerance: bound on the difference; `kzoo.runtime.comparison.compare` says how it is taken.
        rankings: outputs that say which entries of another output are the largest.

    Returns:
        The figures of each output, the worst over the cases.

    Raises:
        ExportError: ONNX Runtime cannot load or run the graph.
        VerificationError: an output differs; the message names the first one, the case, and where.
    """
    session = open_graph(path, packed=False)
    found: dict[str, list[Difference]] = {}
    for case in cases:
        for name, difference in _compare_case(session, case, tolerance, frozenset(rankings)).items():
            found.setdefault(name, []).append(difference)
    return {name: join(differences) for name, differences in found.items()}


def settle_padding(
    path: pathlib.Path,
    cases: list[Case],
    mask: str,
    axes: list[int | str],
    shapes: dict[str, list[int | str]],
) -> list[Case]:
    """Return the cases with what the graph itself gives for tokens that it leaves out, which nobody reads.

    Args:
        path: the `.onnx` file.
        cases: from `make_cases`.
        mask: the input (batch, length) that says which tokens are padding.
        axes: the names of its axes.
        shapes: the outputs' shapes, from `name_output_axes`.
    """
    session = open_graph(path, packed=False)
    # Outputs that speak of each token, and where among their axes the tokens are.
    places = {
        name: shape.index(axes[1])
        for name, shape in shapes.items()
        if shape[:1] == axes[:1] and axes[1] in shape
    }
    settled = []
    for case in cases:
        real = case.inputs[mask] != 0
        left_out = ~(real | ~real.any(axis=1, keepdims=True))
        left_out[:, 0] = False
        expected = dict(case.expected)
        for name, array in run_graph(session, case).items():
            reference = case.expected.get(name)
            if name in places and reference is not None and reference.shape == array.shape:
                ours = np.moveaxis(array, places[name], 1)
                theirs = np.moveaxis(reference.copy(), places[name], 1)
                theirs[left_out] = ours[left_out]
                expected[name] = np.moveaxis(theirs, 1, places[name])
        settled.append(dataclasses.replace(case, expected=expected))
    return settled


def open_graph(path: pathlib.Path, packed: bool = True) -> onnxruntime.InferenceSession:
    """Open a graph in ONNX Runtime on the CPU; its weights stay in the file, which is mapped.

    Args:
        path: the `.onnx` file.
        packed: whether to copy weights into the layout that runs fastest.

    Raises:
        ExportError: it refuses the file.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(path.absolute().parent)
    )
    options.add_session_config_entry("session.disable_prepacking", str(int(not packed)))
    try:
        graph = mapped(path).SerializeToString()
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"ONNX Runtime does not load the exported graph: {error}") from error


def run_graph(session: onnxruntime.InferenceSession, case: Case) -> Arrays:
    """Return what a graph gives for a case's inputs, by the outputs' names.

    Raises:
        ExportError: ONNX Runtime cannot run it.
    """
    names = [output.name for output in session.get_outputs()]
    taken = {value.name for value in session.get_inputs()}
    try:
        results = session.run(names, {name: array for name, array in case.inputs.items() if name in taken})
    except Exception as error:
        raise ExportError(
            f"ONNX Runtime loads the exported graph but cannot run it ({case.name}): {error}"
        ) from error
    return dict(zip(names, results, strict=True))


def _compare_case(
    session: onnxruntime.InferenceSession, case: Case, tolerance: float, rankings: frozenset[str]
) -> dict[str, Difference]:
    actual = run_graph(session, case)
    differences = {}
    for name, reference in case.expected.items():
        found = actual.get(name)
        if found is None or found.shape != reference.shape:
            what = "is missing" if found is None else f"has shape {found.shape}"
            raise VerificationError(
                f"The exported graph's output '{name}' {what}; Keras gives {reference.shape} (case: {case.name}). "
                "Nothing was written."
            )
        found = _without_nowhere(case, reference, found)
        if name in rankings:
            found = _with_ties(case.expected, reference, found, tolerance)
        differences[name] = _difference(name, reference, found, case, tolerance * case.slack)
    return differences


def _difference(
    name: str, reference: np.ndarray, found: np.ndarray, case: Case, tolerance: float
) -> Difference:
    result = compare(name, reference, found, tolerance)
    if result.beyond:
        row = ""
        if len(set(case.paddings)) > 1 and reference.shape[0] == len(case.paddings):
            row = f", in a row {PADDINGS[case.paddings[result.place[0]]]}"
        raise VerificationError(
            f"The exported graph's output '{name}' differs from Keras at {result.place}{row}: {result.account}; "
            f"{result.beyond:,} of {result.total:,} values are beyond the tolerance of {tolerance:g} "
            f"(case: {case.name}). Nothing was written."
        )
    return result.difference


def _without_nowhere(case: Case, reference: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return an output with Keras' NaN in rows that are all padding.

    There a layer that takes the mean of no tokens at all divides by zero, and any answer is as good.
    """
    if "full" not in case.paddings or reference.dtype.kind != "f" or not reference.ndim:
        return found
    if reference.shape[0] != len(case.paddings):
        return found
    nowhere = np.zeros(reference.shape, bool)
    nowhere[np.array(case.paddings) == "full"] = True
    return np.where(nowhere & np.isnan(reference), reference, found)


def _with_ties(expected: Arrays, reference: np.ndarray, found: np.ndarray, tolerance: float) -> np.ndarray:
    """Return a ranking with Keras' choice wherever the graph's is as good: two values closer than the tolerance."""
    for values in expected.values():
        fits = values.ndim == reference.ndim and values.shape[:-1] == reference.shape[:-1]
        if values.dtype.kind != "f" or not fits or values.shape[-1] <= max(reference.max(), found.max()):
            continue
        if found.min(initial=0) < 0:
            break
        ours = np.take_along_axis(values, found.astype("int64"), axis=-1)
        theirs = np.take_along_axis(values, reference.astype("int64"), axis=-1)
        return np.where(np.abs(ours - theirs) <= tolerance * (1 + np.abs(theirs)), reference, found)
    return found
