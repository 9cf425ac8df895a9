"""What a family's table says: which tensor is which variable, and what the fields of its config.json mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from kzoo.errors import KzooError

Transform = Callable[[np.ndarray], np.ndarray]


class Source(NamedTuple):
    """Where a variable's values come from: a tensor's name, without prefix, and what is done to the tensor."""

    tensor: str
    transform: Transform


# Variables by path below the model's name; `{layer}` stands for the number of a block, on both sides.
Table = dict[str, Source]


def as_is(array: np.ndarray) -> np.ndarray:
    """Return the tensor unchanged."""
    return array


def transposed(array: np.ndarray) -> np.ndarray:
    """Return a kernel (in, out) of a weight (out, in)."""
    return array.T


def convolution(array: np.ndarray) -> np.ndarray:
    """Return a kernel (height, width, in, out) of a weight (out, in, height, width)."""
    return array.transpose(2, 3, 1, 0)


def first(array: np.ndarray) -> np.ndarray:
    """Drop a leading axis of length 1."""
    return array[0] if array.ndim and array.shape[0] == 1 else array


def dense(variable: str, tensor: str, kernel: Transform = transposed, bias: Transform = as_is) -> Table:
    """Return the two lines of a dense layer."""
    return {
        f"{variable}/kernel": Source(f"{tensor}.weight", kernel),
        f"{variable}/bias": Source(f"{tensor}.bias", bias),
    }


def norm(variable: str, tensor: str) -> Table:
    """Return the two lines of a layer normalization."""
    return {
        f"{variable}/gamma": Source(f"{tensor}.weight", as_is),
        f"{variable}/beta": Source(f"{tensor}.bias", as_is),
    }


def embedding(variable: str, tensor: str, transform: Transform = as_is) -> Table:
    """Return the one line of an embedding table."""
    return {f"{variable}/embeddings": Source(tensor, transform)}


class Field(NamedTuple):
    """A field of config.json: the kzoo knob that it sets, and how its value is read.

    `read` raises a ValueError, which says what is wrong, for a value that kzoo cannot honour.
    """

    knob: str
    read: Callable[[Any], Any]


def whole(value: Any) -> int:
    """Read a whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("it is not a whole number")
    return value


def number(value: Any) -> float:
    """Read a number."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError("it is not a number")
    return float(value)


def square(value: Any) -> int:
    """Read the side of a square, written as one number or as two that agree."""
    sides = list(value) if isinstance(value, (list, tuple)) else [value]
    if not sides or len(sides) > 2 or sides[0] != sides[-1]:
        raise ValueError("kzoo takes squares only")
    return whole(sides[0])


# The names that the ecosystem gives to kzoo's activations.
_ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def activation(value: Any) -> str:
    """Read an activation's name."""
    if value not in _ACTIVATIONS:
        raise ValueError(f"kzoo has {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[value]


# Fields that change any family's arithmetic, with the one value that kzoo's models agree with.
_REQUIRED_EVERYWHERE: dict[str, Any] = {
    "auto_map": None,
    "quantization_config": None,
    "pruned_heads": None,
    "is_decoder": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
}


@dataclass(frozen=True)
class Family:
    """How one `model_type`'s checkpoints are read.

    Attributes:
        model_type: as config.json has it.
        prefix: what the names of the backbone's tensors may start with.
        backbone: the table of the backbone's variables.
        fields: the fields that set knobs of the kzoo config; several may set one, and must then agree.
        defaults: the knobs' values when no field sets them: a value, or a function of the other knobs.
        required: fields that change the arithmetic, with the only value that is honoured.
        heads: the task of each architecture whose head kzoo has too.
        head: the table of the classification head's variables.
        tied: tensors that repeat another one; kzoo has a single variable for both.
        may_be_missing: layers that may start fresh, because not every checkpoint has them.
        known: patterns of tensors that kzoo has no use for: other heads, and buffers.
        renamed: older names of tensors' parts, with the current ones.
    """

    model_type: str
    prefix: str
    backbone: Table
    fields: dict[str, Field]
    defaults: dict[str, Any]
    required: dict[str, Any] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    head: Table = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    may_be_missing: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)

    def knobs(self, config: Mapping[str, Any], settled: Collection[str] = ()) -> dict[str, Any]:
        """Return the fields of the kzoo config that config.json's fields stand for.

        Args:
            config: the contents of config.json.
            settled: knobs that the caller sets: their fields are not looked at.

        Raises:
            KzooError: a field asks for what kzoo does not compute; the message names it.
        """
        for name, value in {**_REQUIRED_EVERYWHERE, **self.required}.items():
            given = config.get(name)
            # Empty lists and dicts say the same as null.
            if given is not None and given != value and (given or value is not None):
                raise KzooError(
                    f"config.json says {name}={given!r}, which kzoo's {self.model_type} does not compute"
                    f"{f': it has {name}={value!r}' if value is not None else ''}. These weights would give "
                    "other results here, so they are not loaded."
                )
        set_by: dict[str, str] = {}
        knobs: dict[str, Any] = {}
        for name, (knob, read) in self.fields.items():
            if config.get(name) is None or knob in settled:
                continue
            try:
                value = read(config[name])
            except ValueError as error:
                raise KzooError(
                    f"config.json says {name}={config[name]!r}, which kzoo's {self.model_type} cannot honour: "
                    f"{error}."
                ) from None
            if knobs.setdefault(knob, value) != value:
                raise KzooError(
                    f"config.json says {set_by[knob]}={config[set_by[knob]]!r} and {name}={config[name]!r}, but "
                    f"kzoo's {self.model_type} has one {knob} for both: pass {knob}=... to settle it."
                )
            set_by.setdefault(knob, name)
        for knob, default in self.defaults.items():
            if knob not in knobs and knob not in settled:
                knobs[knob] = default(knobs) if callable(default) else default
        return knobs

    def sources(self, num_layers: int, with_head: bool) -> Table:
        """Return the tables of backbone and head, written out for each layer."""
        table: Table = {}
        for variable, source in {**self.backbone, **(self.head if with_head else {})}.items():
            for layer in range(num_layers) if "{layer}" in variable else [0]:
                name = source.tensor.replace("{layer}", str(layer))
                table[variable.replace("{layer}", str(layer))] = Source(name, source.transform)
        return table

    def canonical(self, tensor: str) -> str:
        """Return the name that the table uses for a checkpoint's tensor."""
        name = tensor.removeprefix(self.prefix)
        for old, new in self.renamed.items():
            name = name.replace(old, new)
        return name

    def is_known(self, tensor: str) -> bool:
        """Return whether a tensor, by its canonical name, is one that kzoo has no use for."""
        return any(re.fullmatch(pattern, tensor) for pattern in (*self.known, *self._head_patterns()))

    def _head_patterns(self) -> tuple[str, ...]:
        return tuple(re.escape(source.tensor) for source in self.head.values())
