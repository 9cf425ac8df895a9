"""What an exported graph is tried on, and what the Keras model makes of it.

Batch size, length and padding are covered pairwise: a graph that goes wrong at two of them together is seen, for
the price of a few runs.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kzoo.errors import ExportError
from kzoo.models import InputSpec, TransformerModel
from kzoo.models.graphs import Graph

Arrays = dict[str, np.ndarray]
Function = Callable[[dict[str, Any]], dict[str, Any]]

# Sizes that the free axes take, small and large; they differ by axis, which tells the axes apart in the outputs.
_LENGTHS = (5, 17)
_PIXELS = (32, 64)
_NUMBERS = (3, 6)
_BEAMS = 2

# What stands in the rows of a batch; "mixed" is a row of each kind of padding.
PADDINGS = {
    "none": "not padded",
    "right": "padded on the right",
    "left": "padded on the left",
    "full": "nothing but padding",
}
_MIXED = ("right", "left", "full")

# Batch size, length (0 small, 1 large), padding: each pair of two of them is there.
_GRID = (
    (1, 0, "none"),
    (1, 0, "left"),
    (1, 1, "right"),
    (1, 1, "full"),
    (3, 0, "mixed"),
    (3, 1, "none"),
    (3, 1, "mixed"),
)
_BRIEF = ((1, 0, "none"), (1, 0, "left"), (3, 1, "mixed"))

# Above so many parameters the brief list: a run of such a model takes longer than all else that export does.
_LARGE = 30_000_000
# The longest text that a model takes is tried where that costs next to nothing.
_LONGEST_OPERATIONS = 5e9
_LONGEST = 1024
_FAR_OUT = 30.0


@dataclass(frozen=True)
class Case:
    """What went into the Keras model, and what came out.

    Attributes:
        name: its sizes and what is special about it.
        inputs: arrays by name.
        expected: what Keras gave.
        paddings: what stands in each row, a key of `PADDINGS`; empty if that is unknown.
        slack: factor on the tolerance.
    """

    name: str
    inputs: Arrays
    expected: Arrays
    paddings: tuple[str, ...] = ()
    slack: float = 1.0


def make_cases(
    graph: Graph,
    variables: list[Any],
    token_limits: dict[str, int],
    batch: Arrays | None = None,
    may_refuse: bool = False,
) -> tuple[list[Case], list[str]]:
    """Run the Keras side of a graph on the grid of sizes and paddings, and on extreme values.

    Args:
        graph: the function, on whatever backend Keras runs.
        variables: the Keras variables that it reads.
        token_limits: for inputs that are token ids, how many ids there are.
        batch: one of the user's own, added to the cases.
        may_refuse: leave out what the model itself cannot take, as nobody knows which lengths a user's model accepts.

    Returns:
        The cases, and the names of those that the model itself refused, with its reason.

    Raises:
        ExportError: the model refused them all.
    """
    function = _compiled(graph, variables)
    cases, refused = [], []
    for case in itertools.chain(_draw_cases(graph, variables, token_limits), _own_case(batch)):
        try:
            expected = run_keras(function, case.inputs)
        except Exception as error:
            if not may_refuse:
                raise
            reason = str(error).strip().splitlines() or [type(error).__name__]
            refused.append(f"{case.name}: {reason[0][:200]}")
        else:
            cases.append(dataclasses.replace(case, expected=expected))
    if not cases:
        raise ExportError(
            f"The model fails on inputs made up by its signature, so there is nothing to compare ({refused[0]}): "
            "pass inputs=, a batch as you would call the model on."
        )
    return cases, refused


def golden_cases(cases: list[Case], rankings: Iterable[str] = ()) -> list[Case]:
    """Return the cases that a bundle keeps: the first, and the last one with padding, or the last of all.

    Without rankings, which the last bit can swap on another machine, and without cases that need slack.
    """
    cases = [case for case in cases if case.slack == 1.0] or cases
    padded = [case for case in cases if set(case.paddings) - {"none"}]
    kept = [cases[0], (padded or cases)[-1]]
    hidden = frozenset(rankings)
    return [
        dataclasses.replace(
            case, expected={name: array for name, array in case.expected.items() if name not in hidden}
        )
        for case in kept
    ]


def token_limits(model: keras.Model, names: Iterable[str]) -> dict[str, int]:
    """Return, for each input that could be token ids, how many ids its embedding tables hold.

    Where it cannot be told which table an input is looked up in, the smallest table counts.
    """
    if isinstance(model, TransformerModel):
        config = model.backbone.config
        sizes: dict[str, int] = {"label": model.num_classes or 1}
        return {
            name: sizes.get(name)
            or int(getattr(config, "type_vocab_size" if "type" in name else "vocab_size", 2))
            for name in names
        }
    smallest = min((size for size in _table_sizes(model._flatten_layers()) if size > 2), default=2)
    limits = {name: 2 if "type" in name or "segment" in name else smallest for name in names}
    tables: dict[str, list[int]] = {}
    for layer in getattr(model, "layers", []):
        # An input's table can be told in a functional model: it is in a layer that the input goes to.
        for node in layer._inbound_nodes:
            for tensor in node.input_tensors:
                source = tensor._keras_history.operation
                if isinstance(source, keras.layers.InputLayer):
                    tables.setdefault(source.name, []).extend(_table_sizes(layer._flatten_layers()))
    return limits | {name: min(sizes) for name, sizes in tables.items() if sizes and name in limits}


def _table_sizes(layers: Iterable[Any]) -> list[int]:
    return [layer.input_dim for layer in layers if isinstance(layer, keras.layers.Embedding)]


def _own_case(batch: Arrays | None) -> Iterator[Case]:
    if batch is not None:
        yield Case("your own inputs", batch, {})


def _draw_cases(graph: Graph, variables: list[Any], limits: dict[str, int]) -> Iterator[Case]:
    """Yield the cases to try, without what Keras makes of them."""
    parameters = sum(math.prod(variable.shape) for variable in variables)
    # JAX compiles the model anew for each shape, which takes seconds: the brief list has fewer.
    brief = parameters > _LARGE or keras.backend.backend() == "jax"
    padded_at_all = any(_can_be_padded(name, spec) for name, spec in graph.inputs.items())
    has_past = "past" in _atoms(graph)
    seen = set()
    for seed, (batch, level, padding) in enumerate(_BRIEF if brief else _GRID):
        paddings: tuple[str, ...] = (padding,) * batch if padding in PADDINGS else _MIXED
        if not padded_at_all:
            paddings = ("none",) * batch
        sizes = _sizes(graph, batch, level)
        if has_past and level == 0 and (brief or padding in ("none", "mixed")):
            sizes = _complete(sizes | {"past": 0})
        key = (tuple(sizes.items()), paddings)
        if key not in seen:
            seen.add(key)
            name = _case_name(sizes, paddings if padded_at_all else ())
            yield Case(name, _draw(graph, sizes, limits, seed, paddings), {}, paddings)
    sizes = _sizes(graph, 2, 1)
    if graph.max_length is not None and graph.max_length <= _LONGEST:
        longest = _longest(graph, sizes)
        if 2 * 2 * parameters * graph.max_length <= _LONGEST_OPERATIONS:
            sizes = longest
    elif brief:
        sizes = _sizes(graph, 3, 1)
    paddings = ("none",)
    inputs = _draw(graph, sizes, limits, len(_GRID), paddings, extreme=True)
    # Rounding grows with what is rounded, and a softmax of scores hundreds apart makes more of it.
    far_out = any(array.dtype.kind == "f" for array in inputs.values())
    yield Case(
        f"{_case_name(sizes, ())}, extreme values", inputs, {}, paddings, slack=_FAR_OUT if far_out else 1.0
    )


def _atoms(graph: Graph) -> list[str]:
    """Return the names of a graph's free axes; those that are sums or products, such as `past+sequence`, in parts."""
    axes = {axis for spec in graph.inputs.values() for axis in spec.shape if isinstance(axis, str)}
    return sorted({atom for axis in axes for atom in re.split(r"[+*]", axis)})


def _sizes(graph: Graph, batch: int, level: int) -> dict[str, int]:
    """Return the size of each free axis."""
    atoms = _atoms(graph)
    first = {str(spec.shape[0]) for spec in graph.inputs.values() if spec.shape}
    rows = first & set(atoms) - {"batch"}
    sizes = {"batch": batch} if "batch" in atoms else {}
    lengths = [atom for atom in atoms if atom not in rows | {"batch", "beams"}]
    room = (graph.max_length or _LENGTHS[1] * 8) // (1 + ("past" in atoms))
    for place, atom in enumerate(lengths):
        if atom.endswith(("height", "width")):
            sizes[atom] = _PIXELS[level] + 32 * place
        else:
            sizes[atom] = max(1, min(_LENGTHS[level] + 2 * place, room - place))
    if "beams" in atoms:
        sizes["beams"] = _BEAMS
    for place, atom in enumerate(sorted(rows), start=1 if "batch" in atoms else 0):
        sizes[atom] = batch * sizes.get("beams", 1) + place
    for name, spec in graph.inputs.items():
        if spec.shape == () and np.dtype(spec.dtype).kind in "iu":
            sizes[name] = _NUMBERS[level]
            if "keep" in name:
                sizes[name] = min([2 * level + 2, *(sizes[atom] for atom in lengths if "sequence" in atom)])
    return _complete(sizes)


def _longest(graph: Graph, sizes: dict[str, int]) -> dict[str, int]:
    """Return sizes at which the model reads as many tokens as it can, past ones included."""
    assert graph.max_length is not None
    longest = dict(sizes)
    for atom in ("sequence", "decoder_sequence"):
        if atom in longest:
            longest[atom] = graph.max_length
    if "past" in longest:
        longest[_step(longest)] = 1
        longest["past"] = graph.max_length - 1
    longest |= {name: 1 for name in longest if "keep" in name}
    return _complete(longest)


def _step(sizes: dict[str, int]) -> str:
    """Return the axis of the tokens that follow the past."""
    return "decoder_sequence" if "decoder_sequence" in sizes else "sequence"


def _complete(sizes: dict[str, int]) -> dict[str, int]:
    """Add the sizes of the axes that are sums or products of others."""
    whole = {name: size for name, size in sizes.items() if "+" not in name and "*" not in name}
    if "past" in whole and _step(whole) in whole:
        whole[f"past+{_step(whole)}"] = whole["past"] + whole[_step(whole)]
    if "beams" in whole:
        whole["batch*beams"] = whole["batch"] * whole["beams"]
    return whole


def _case_name(sizes: dict[str, int], paddings: tuple[str, ...]) -> str:
    parts = [f"{name} {size}" for name, size in sizes.items() if "+" not in name and "*" not in name]
    kinds = list(dict.fromkeys(paddings))
    if len(kinds) == 1 and kinds != ["none"]:
        parts.append(PADDINGS[kinds[0]])
    elif len(kinds) > 1:
        parts.append("rows " + ", ".join(PADDINGS[kind] for kind in kinds))
    return ", ".join(parts)


def _can_be_padded(name: str, spec: InputSpec) -> bool:
    """Return whether an input tells padding: a mask, or token ids, of which 0 may be the padding."""
    return len(spec.shape) == 2 and ("mask" in name or np.dtype(spec.dtype).kind in "iu")


def _draw(
    graph: Graph,
    sizes: dict[str, int],
    limits: dict[str, int],
    seed: int,
    paddings: tuple[str, ...],
    extreme: bool = False,
) -> Arrays:
    generator = np.random.default_rng(seed)
    has_mask = any(_is_mask(name) for name in graph.inputs)
    arrays = {}
    for name, spec in graph.inputs.items():
        shape = tuple(sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape)
        kind = np.dtype(spec.dtype).kind
        if name in sizes and not shape:
            array: Any = np.asarray(sizes[name])
        elif name.endswith("positions"):
            array = generator.integers(0, sizes.get("sequence", 1), shape)
        elif name == "beam_idx":
            array = generator.integers(0, sizes.get("past_batch", shape[0]), shape)
        elif _is_mask(name):
            array = _real(shape, paddings) if len(shape) == 2 else np.ones(shape)
        elif kind in "iu":
            array = _draw_tokens(generator, shape, limits.get(name, 2), extreme)
            if not has_mask and len(shape) == 2:
                array = array * _real(shape, paddings)
        elif kind == "b":
            array = generator.integers(0, 2, shape)
        else:
            array = generator.standard_normal(shape)
            if extreme and not name.startswith("past_key_values"):
                array = array * _FAR_OUT
        arrays[name] = np.asarray(array).astype(spec.dtype)
    return arrays


def _is_mask(name: str) -> bool:
    return "mask" in name and not name.endswith("positions")


def _draw_tokens(
    generator: np.random.Generator, shape: tuple[int, ...], limit: int, extreme: bool
) -> np.ndarray:
    if not extreme:
        return generator.integers(0, limit, shape)
    tokens = generator.choice([0, limit - 1], shape)
    tokens[:1] = limit - 1
    return tokens


def _real(shape: tuple[int, ...], paddings: tuple[str, ...]) -> np.ndarray:
    """Return a mask (rows, length) of real tokens, with each row padded as `paddings` says in turn."""
    rows, length = shape
    mask = np.ones(shape, "int64")
    for row in range(rows):
        padding = paddings[row % len(paddings)]
        if padding == "right":
            mask[row, max(1, 2 * length // 3) :] = 0
        elif padding == "left":
            mask[row, : length - max(1, length // 2)] = 0
        elif padding == "full":
            mask[row] = 0
    return mask


def run_keras(function: Function, inputs: Arrays) -> Arrays:
    """Return what a Keras function makes of a batch, as numpy arrays."""
    outputs = function({name: keras.ops.convert_to_tensor(array) for name, array in inputs.items()})
    arrays = {name: keras.ops.convert_to_numpy(tensor) for name, tensor in outputs.items()}
    return {name: array.astype("float32") if _is_reduced(array) else array for name, array in arrays.items()}


def _compiled(graph: Graph, variables: list[Any]) -> Function:
    """Return the function, compiled on JAX, which would else compile each operation anew for each shape.

    On TensorFlow, BERT-base takes ten times as long to trace as to run eagerly.
    """
    if keras.backend.backend() != "jax":
        return graph.function
    import jax

    numbers = [name for name, spec in graph.inputs.items() if spec.shape == ()]

    def stateless(values: list[Any], inputs: dict[str, Any], fixed: tuple[Any, ...]) -> dict[str, Any]:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            # As arrays of numpy's, which a layer takes and JAX leaves alone.
            known = {name: np.asarray(value) for name, value in zip(numbers, fixed, strict=True)}
            return graph.function({**inputs, **known})

    # A single number may be the size of something, which must be known when it is compiled.
    compiled = jax.jit(stateless, static_argnums=2)

    def function(inputs: dict[str, Any]) -> dict[str, Any]:
        fixed = tuple(inputs[name].item() for name in numbers)
        arrays = {name: array for name, array in inputs.items() if name not in numbers}
        return compiled([variable.value for variable in variables], arrays, fixed)

    return function


def _is_reduced(array: np.ndarray) -> bool:
    return array.dtype.kind not in "iub" and array.dtype not in (np.float32, np.float64)


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
        if not spec.shape and np.dtype(spec.dtype).kind in "iu":
            sizes[name] = int(inputs[name])
        for axis, size in zip(spec.shape, np.shape(inputs[name]), strict=True):
            if isinstance(axis, str):
                sizes[axis] = size
    if "past" in sizes and _step(sizes) in sizes:
        sizes[f"past+{_step(sizes)}"] = sizes["past"] + sizes[_step(sizes)]
    return sizes


def _axis_name(seen: list[int], sizes: list[dict[str, int]], fallback: str) -> int | str:
    if len(set(seen)) == 1:
        return seen[0]
    for axis in sizes[0]:
        if all(size == known.get(axis) for size, known in zip(seen, sizes, strict=True)):
            return axis
    return fallback
