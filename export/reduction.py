"""A verified float32 graph gives way to one in another precision, once that is near enough and worth it."""

from __future__ import annotations

import dataclasses
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from kzoo.errors import ExportError, VerificationError
from kzoo.export.cases import Arrays, Case
from kzoo.export.outliers import Outliers, find_outliers, set_apart
from kzoo.export.precision import BOUNDS, INTEGERS, reduce_precision
from kzoo.export.quantization import spared_weights
from kzoo.export.verification import open_graph
from kzoo.export.weights import mapped, save
from kzoo.models.graphs import Graph
from kzoo.runtime.comparison import Difference, compare, join
from kzoo.runtime.pipeline import Pipeline

Metric = Callable[[Any], float]

# What the two graphs are timed on: one text of ordinary length, or one image.
_TIMED_LENGTH = 128
_TIMED_SECONDS = 0.5
_TIMED_RUNS = 15
# Decoders run once a token: the first steps say enough.
_MOST_CALIBRATION_RUNS = 256


@dataclass(frozen=True)
class GraphReduction:
    """One graph before and after.

    Attributes:
        bytes_before: size in float32.
        bytes_after: size as shipped.
        milliseconds_before: median of a run in float32, here and now.
        milliseconds_after: the same as shipped.
        timed: the sizes that it was timed at.
        differences: how far each output is from what it was in float32.
        apart: the matrices of feed-forwards of which some units stay in float32, since with them in 8 bits the graph
            was too far from it.
        evened: those whose inputs are evened out, for the same reason.
        spared: weights whose products stay in float32, for the same reason.
        reason: how far it was.
    """

    bytes_before: int
    bytes_after: int
    milliseconds_before: float
    milliseconds_after: float
    timed: str
    differences: dict[str, Difference]
    apart: list[str] = field(default_factory=list)
    evened: list[str] = field(default_factory=list)
    spared: list[str] = field(default_factory=list)
    reason: str = ""


@dataclass(frozen=True)
class Reduction:
    """What another precision brought and cost.

    Attributes:
        dtype: the precision.
        graphs: sizes, latencies and differences, by role.
        metric_before: what the caller's metric gave in float32, if there is one.
        metric_after: the same as shipped.
    """

    dtype: str
    graphs: dict[str, GraphReduction] = field(default_factory=dict)
    metric_before: float | None = None
    metric_after: float | None = None

    def __str__(self) -> str:
        lines = []
        for role, graph in self.graphs.items():
            cosine = min((each.cosine for each in graph.differences.values()), default=1.0)
            lines.append(
                f"{role} in {self.dtype}: {graph.bytes_before / 1e6:,.1f} MB to {graph.bytes_after / 1e6:,.1f} MB, "
                f"{graph.milliseconds_before:.2f} ms to {graph.milliseconds_after:.2f} ms ({graph.timed}), "
                f"cosine to float32 at least {cosine:.4f}"
            )
            if graph.apart or graph.evened:
                lines.append(
                    f"what stands out in {len({*graph.apart, *graph.evened})} matrices of its feed-forwards is set "
                    f"apart or evened out: with all in {self.dtype} as it was {graph.reason}"
                )
            if graph.spared:
                lines.append(
                    f"{len(graph.spared)} of its products stay in float32, beginning with '{graph.spared[0]}': with "
                    f"all in {self.dtype} {graph.reason}"
                )
        if self.metric_before is not None and self.metric_after is not None:
            lines.append(f"metric {self.metric_before:.4g} to {self.metric_after:.4g}")
        return "\n".join(lines)


def reduce_graph(
    path: pathlib.Path, graph: Graph, cases: list[Case], dtype: str, calibration: list[Arrays] | None = None
) -> tuple[GraphReduction, list[Case]]:
    """Put a graph of another precision in the place of a float32 one.

    Args:
        path: the float32 `.onnx` file, verified.
        graph: what it was converted from.
        cases: the inputs that it was verified on, and what Keras gave.
        dtype: the precision, one of `kzoo.export.precision.DTYPES` but `"float32"`.
        calibration: for `"int8_static"`, batches of the graph's inputs.

    Returns:
        What was measured, and the cases with what the new graph gives.

    Raises:
        ExportError: ONNX Runtime does not run that precision.
        VerificationError: an output is too far from float32.
    """
    with tempfile.TemporaryDirectory(prefix="float32-", dir=path.parent) as folder:
        original = pathlib.Path(folder) / path.name
        for file in (path, path.with_name(f"{path.name}.data")):
            if file.exists():
                file.rename(original.with_name(file.name))
        reason = ""
        for sparing in _sparings(original, dtype, calibration or [case.inputs for case in cases]):
            try:
                reduction, shipped = _attempt(original, path, graph, cases, dtype, calibration, sparing)
            except _BoundError as error:
                reason, last = reason or error.fault, error
            else:
                return dataclasses.replace(reduction, reason=reason), shipped
        raise last


@dataclass(frozen=True)
class _Sparing:
    """What stays in float32: some units of feed-forwards, or whole products."""

    outliers: Outliers = field(default_factory=Outliers)
    spared: list[str] = field(default_factory=list)

    def title(self, dtype: str) -> str:
        """Return the precision, with what is left out of it."""
        if self.outliers:
            return f"{dtype}, what stands out set apart,"
        return f"{dtype}, {len(self.spared)} products left in float32," if self.spared else dtype


def _sparings(original: pathlib.Path, dtype: str, batches: list[Arrays]) -> Iterator[_Sparing]:
    """Yield what to leave in float32: nothing, and where that is too far from it, more and more."""
    yield _Sparing()
    if dtype not in INTEGERS:
        return
    proto = mapped(original)
    if dtype != "int4":  # where inputs are rounded in blocks, in which few meet an outlier
        outliers = find_outliers(proto, _observer(original, proto, batches))
        if outliers:
            yield _Sparing(outliers)
    for spared in spared_weights(proto):
        yield _Sparing(spared=spared)


def _attempt(
    original: pathlib.Path,
    path: pathlib.Path,
    graph: Graph,
    cases: list[Case],
    dtype: str,
    calibration: list[Arrays] | None,
    sparing: _Sparing,
) -> tuple[GraphReduction, list[Case]]:
    proto = mapped(original)
    spared = [*sparing.spared, *set_apart(proto, sparing.outliers, original.parent)]
    observe = None if calibration is None else _observer(original, proto, calibration)
    reduce_precision(proto, dtype, observe, spared, original.parent)
    written = save(proto, path, folder=original.parent)
    del proto
    if calibration is not None:
        # Whatever lies outside the calibrated ranges is cut off: the bounds hold for nothing else.
        compared = [Case(f"calibration batch {i}", batch, {}) for i, batch in enumerate(calibration[:8])]
    else:
        compared = cases
    timed, batch = _typical(graph, cases[0].inputs)
    # One graph after the other: both at once would hold the weights in memory twice.
    before = open_graph(original)
    references = [_run(before, case.inputs) for case in compared]
    milliseconds_before = _time(before, batch)
    del before
    after = _open_reduced(path, dtype)
    found: dict[str, list[Difference]] = {}
    for case, expected in zip(compared, references, strict=True):
        results = _run(after, case.inputs)
        for name, reference in expected.items():
            if reference.dtype.kind == "f":
                difference = _difference(name, reference, results[name], case, dtype, sparing.title(dtype))
                found.setdefault(name, []).append(difference)
    reduction = GraphReduction(
        bytes_before=sum(file.stat().st_size for file in original.parent.iterdir()),
        bytes_after=sum(file.stat().st_size for file in written),
        milliseconds_before=milliseconds_before,
        milliseconds_after=_time(after, batch),
        timed=timed,
        differences={name: join(differences) for name, differences in found.items()},
        apart=[*sparing.outliers.units],
        evened=[*sparing.outliers.factors],
        spared=sparing.spared,
    )
    return reduction, [dataclasses.replace(case, expected=_run(after, case.inputs)) for case in cases]


def check_metric(name: str, before: float, after: float, max_drop: float | None) -> None:
    """Refuse a metric that fell too far.

    Raises:
        VerificationError: naming both values and the bound.
    """
    drop = before - after
    if max_drop is not None and not drop <= max_drop:
        raise VerificationError(
            f"In {name} the metric is {after:.4g}, down from {before:.4g} in float32, which is more than "
            f"max_drop={max_drop:g} allows. Nothing was written: choose another dtype, or allow more."
        )


def record_inputs(pipeline: Pipeline, inputs: Any) -> dict[str, list[Arrays]]:
    """Run a bundle's pipeline, and return what each of its graphs was given, by role."""
    recorded = {}
    for role, session in pipeline._sessions.items():
        session._session = recorder = _Recorder(session._session)
        recorded[role] = recorder.kept
    pipeline(inputs)
    return recorded


class _Recorder:
    """Stands before an ONNX Runtime session, and keeps what it is given."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.kept: list[Arrays] = []

    def run(self, outputs: list[str], feeds: Arrays) -> Any:
        if len(self.kept) < _MOST_CALIBRATION_RUNS:
            self.kept.append({name: np.array(array) for name, array in feeds.items()})
        return self._session.run(outputs, feeds)


def _observer(
    path: pathlib.Path, proto: onnx.ModelProto, calibration: list[Arrays]
) -> Callable[[list[str]], Iterator[list[np.ndarray]]]:
    """Return what runs the calibration data and yields the values of any tensors."""

    def observe(names: list[str]) -> Iterator[list[np.ndarray]]:
        outputs = {value.name for value in proto.graph.output}
        inputs = {value.name for value in proto.graph.input}
        added = [name for name in names if name not in outputs | inputs]
        count = len(proto.graph.output)
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in added)
        probe = path.with_name("probe.onnx")
        files = save(proto, probe, folder=path.parent)
        del proto.graph.output[count:]
        session = open_graph(probe)
        for batch in calibration:
            values = _run(session, batch) | batch
            yield [values[name] for name in names]
        del session
        for file in files:
            file.unlink()

    return observe


def _open_reduced(path: pathlib.Path, dtype: str) -> Any:
    try:
        return open_graph(path)
    except ExportError as error:
        raise ExportError(
            f"ONNX Runtime's CPU provider does not run this model in {dtype}, and what cannot be verified is not "
            f"written: choose float16 (for GPUs) or int8 (for CPUs). It says: {error.__cause__}"
        ) from error


def _run(session: Any, inputs: Arrays) -> Arrays:
    taken = {value.name for value in session.get_inputs()}
    names = [output.name for output in session.get_outputs()]
    lacking = sorted(taken - inputs.keys())
    if lacking:
        raise ExportError(f"calibration= lacks the inputs {', '.join(lacking)}.")
    results = session.run(names, {name: array for name, array in inputs.items() if name in taken})
    return dict(zip(names, results, strict=True))


class _BoundError(VerificationError):
    """A graph in another precision that misses a bound."""

    def __init__(self, title: str, fault: str) -> None:
        super().__init__(f"In {title} {fault}. Nothing was written.")
        self.fault = fault


def _difference(
    name: str, reference: np.ndarray, found: np.ndarray, case: Case, dtype: str, title: str
) -> Difference:
    bounds = BOUNDS[dtype]
    found = np.where(np.isnan(reference), reference, found)
    result = compare(name, reference, found, bounds.tolerance)
    if result.beyond:
        raise _BoundError(
            title,
            f"the output '{name}' differs from float32 at {result.place}: {result.account}; "
            f"{result.beyond:,} of {result.total:,} values are beyond the tolerance of {bounds.tolerance:g} "
            f"(case: {case.name})",
        )
    if result.difference.cosine < bounds.cosine:
        raise _BoundError(
            title,
            f"the output '{name}' has cosine {result.difference.cosine:.4f} to float32, and at least "
            f"{bounds.cosine:g} is asked for (case: {case.name})",
        )
    return result.difference


def _typical(graph: Graph, inputs: Arrays) -> tuple[str, Arrays]:
    """Return inputs of a size that is met in practice, and that size in words, made by repeating others."""
    length = min(_TIMED_LENGTH, (graph.max_length or _TIMED_LENGTH) // 2)
    sizes: dict[str, int] = {}
    for name, spec in graph.inputs.items():
        for axis, size in zip(spec.shape, inputs[name].shape, strict=True):
            if isinstance(axis, str):
                sizes[axis] = size
    for axis in sizes:
        if axis in ("sequence", "past"):
            sizes[axis] = length
    if "past" in sizes:
        step = "decoder_sequence" if "decoder_sequence" in sizes else "sequence"
        sizes[step] = 1
        sizes[f"past+{step}"] = sizes["past"] + 1
    shapes = {
        name: tuple(sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape)
        for name, spec in graph.inputs.items()
    }
    words = ", ".join(f"{axis} {size}" for axis, size in sizes.items() if not {"+", "*"} & set(axis))
    return words, {name: np.resize(inputs[name], shape) for name, shape in shapes.items()}


def _time(session: Any, inputs: Arrays) -> float:
    """Return the median milliseconds of a run."""
    _run(session, inputs)
    seconds: list[float] = []
    end = time.perf_counter() + _TIMED_SECONDS
    while len(seconds) < _TIMED_RUNS and (not seconds or time.perf_counter() < end):
        started = time.perf_counter()
        _run(session, inputs)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1e3
