"""What a family's table says: the tensors, the fields of config.json, and the heads of its checkpoints."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from kzoo.errors import KzooError, did_you_mean
from kzoo.weights.fields import NO_EFFECT, REQUIRED, Field, flatten, nest
from kzoo.weights.layouts import Table


@dataclass(frozen=True)
class Head:
    """One of the original library's classes, by what it adds to the backbone.

    Attributes:
        architecture: the class' name, as config.json's `architectures` has it.
        task: kzoo's task. `"classification"` stands for `"multilabel"` and `"regression"` too: config.json's
            `problem_type` tells.
        table: the lines of the head's variables, and of those of the backbone that this class stores elsewhere.
            Their tensors' names carry no prefix.
        without: layers of kzoo's backbone that this class lacks, and that its task has no use for.
        tied: tensors that repeat another one; kzoo has a single variable for both.
        knobs: of the kzoo config, which this class implies.
        tie: name of the knob that says whether the `tied` tensors do repeat, where they alone tell.
    """

    architecture: str
    task: str
    table: Table = field(default_factory=dict)
    without: tuple[str, ...] = ()
    tied: dict[str, str] = field(default_factory=dict)
    knobs: dict[str, Any] = field(default_factory=dict)
    tie: str | None = None

    @property
    def has_classes(self) -> bool:
        """Whether a user names the classes: those of next-sentence and replaced-token heads are given."""
        return self.task in ("classification", "tokens", "image_classification")


@dataclass(frozen=True)
class Family:
    """How one `model_type`'s checkpoints are read and written.

    A table may have lines that a given model has no variable for (a bias that the config switches off): they are
    left out, and their tensors must then be absent. A variable of the backbone must have a line.

    Attributes:
        model_type: as config.json has it.
        backbone: name of the kzoo architecture, such as `"Bert"`.
        architecture: the original library's class without a head.
        prefix: what the names of the backbone's tensors start with when there is a head.
        table: the lines of the backbone's variables.
        when: further lines, each table for one value of a knob.
        fields: the fields that set knobs of the kzoo config; several may set one, and must then agree.
        defaults: the knobs' values when no field sets them, as the original library has them: a value, or a
            function of the other knobs.
        fixed: knobs that are the same in every checkpoint of the family.
        required: fields that change the arithmetic, with the only value that is honoured.
        no_effect: names of further fields that change nothing of what kzoo computes.
        decoding: names of fields that newer checkpoints hold in generation_config.json.
        heads: the heads, the most usual one of a task first.
        tied: tensors that repeat another one; kzoo has a single variable for both.
        may_be_missing: layers that may start fresh, because not every checkpoint has them.
        known: patterns of tensors that kzoo has no use for: buffers, and heads that it lacks.
        renamed: older names of tensors' parts, with the current ones.
        layers: which knob says how many times a placeholder such as `{layer}` is written out.
    """

    model_type: str
    backbone: str
    architecture: str
    prefix: str
    table: Table
    fields: tuple[Field, ...]
    defaults: dict[str, Any]
    when: dict[tuple[str, Any], Table] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    required: dict[str, Any] = field(default_factory=dict)
    no_effect: tuple[str, ...] = ()
    decoding: tuple[str, ...] = ()
    heads: tuple[Head, ...] = ()
    tied: dict[str, str] = field(default_factory=dict)
    may_be_missing: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    layers: dict[str, str] = field(default_factory=lambda: {"layer": "num_layers"})

    def like(self, model_type: str, name: str, **changes: Any) -> Family:
        """Return the table of a family whose classes have another name: `like("xlm-roberta", "XLMRoberta")`.

        Args:
            model_type: as config.json has it.
            name: what the names of the original library's classes start with.
            **changes: other attributes that differ.
        """
        own = self.architecture.removesuffix("Model")
        heads = tuple(
            dataclasses.replace(head, architecture=name + head.architecture.removeprefix(own))
            for head in self.heads
        )
        named = {"model_type": model_type, "architecture": f"{name}Model", "heads": heads}
        return dataclasses.replace(self, **{**named, **changes})

    # Fields of config.json.

    def knobs(
        self, config: Mapping[str, Any], settled: Collection[str] = (), ignore: Collection[str] = ()
    ) -> dict[str, Any]:
        """Return the fields of the kzoo config that config.json's fields stand for.

        Args:
            config: the contents of config.json.
            settled: knobs that the caller sets: their fields are not looked at.
            ignore: names of fields that are not looked at, whatever they say.

        Raises:
            KzooError: a field asks for what kzoo does not compute, or kzoo does not know it; the message names it.
        """
        given = flatten(config, self._sections)
        for name in ignore:
            if name not in given:
                raise KzooError(f"config.json has no field '{name}' to ignore.{did_you_mean(name, given)}")
            del given[name]
        self._refuse(given)
        set_by: dict[str, str] = {}
        knobs: dict[str, Any] = {}
        for entry in self.fields:
            name = entry.name
            if given.get(name) is None or (entry.knobs and set(entry.knobs) <= set(settled)):
                continue
            try:
                values = entry.read(given[name])
            except ValueError as error:
                raise KzooError(
                    f"config.json says {name}={given[name]!r}, which kzoo's {self.model_type} cannot honour: "
                    f"{error}.{self._way_out(name)}"
                ) from None
            for knob, value in values.items():
                if knob in settled:
                    continue
                if knobs.setdefault(knob, value) != value:
                    raise KzooError(
                        f"config.json says {set_by[knob]}={given[set_by[knob]]!r} and {name}={given[name]!r}, but "
                        f"kzoo's {self.model_type} has one {knob} for both: pass {knob}=... to settle it."
                    )
                set_by.setdefault(knob, name)
        for knob, default in {**self.defaults, **self.fixed}.items():
            if knob not in knobs and knob not in settled:
                knobs[knob] = default(knobs) if callable(default) else default
        return knobs

    def config(self, knobs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of config.json that stand for the knobs of a kzoo config, as far as they can."""
        flat = {name: value for name, value in self.required.items() if value is not None}
        for entry in self.fields:
            if entry.written and (value := entry.write(knobs)) is not None:
                flat[entry.name] = value
        return nest(flat)

    def _refuse(self, given: Mapping[str, Any]) -> None:
        """Refuse fields that ask for something else than kzoo computes, and those that it does not know."""
        names = {entry.name for entry in self.fields}
        required = {name: value for name, value in REQUIRED.items() if name not in names} | self.required
        for name, value in given.items():
            last = name.rsplit(".", 1)[-1]
            # Empty lists and dicts say the same as null: nothing.
            if value is None or (isinstance(value, (str, list, dict)) and not value) or name in names:
                continue
            if name in required or (last in REQUIRED and last not in names):
                wanted = required.get(name, REQUIRED.get(last))
                if value != wanted:
                    raise KzooError(
                        f"config.json says {name}={value!r}, which kzoo's {self.model_type} does not compute"
                        f"{f': it has {name}={wanted!r}' if wanted is not None else ''}. These weights would give "
                        f"other results here, so they are not loaded.{self._way_out(name)}"
                    )
            elif last not in NO_EFFECT and name not in self.no_effect:
                raise KzooError(
                    f"config.json says {name}={value!r}. kzoo's {self.model_type} does not know that field, and it "
                    f"may change the results.{did_you_mean(name, names)}{self._way_out(name)}"
                )

    @staticmethod
    def _way_out(name: str) -> str:
        return f" If it does not matter to you, pass ignore=('{name}',)."

    @property
    def _sections(self) -> frozenset[str]:
        parts = [entry.name.split(".")[:-1] for entry in self.fields]
        return frozenset(".".join(part[:end]) for part in parts for end in range(1, len(part) + 1))

    # Tensors.

    def lines(self, knobs: Mapping[str, Any], head: Head | None) -> Table:
        """Return the tables of backbone and head, written out for each layer."""
        chosen = dict(self.table)
        for (knob, value), further in self.when.items():
            chosen |= further if knobs[knob] == value else {}
        table: Table = {}
        for variable, source in {**chosen, **(head.table if head else {})}.items():
            loops = [name for name in self.layers if f"{{{name}}}" in variable]
            for layer in range(knobs[self.layers[loops[0]]] if loops else 1):
                number = {name: str(layer) for name in loops}
                table[_fill(variable, number)] = source._replace(tensor=_fill(source.tensor, number))
        return table

    def full_name(self, variable: str, tensor: str, head: Head | None) -> str:
        """Return the name under which a class stores a variable's tensor."""
        return tensor if head is None or variable in head.table else self.prefix + tensor

    def canonical(self, tensor: str) -> str:
        """Return the name that the table uses for a checkpoint's tensor."""
        name = tensor.removeprefix(self.prefix)
        for old, new in self.renamed.items():
            name = name.replace(old, new)
        return name

    def is_known(self, tensor: str) -> bool:
        """Return whether a tensor, by its canonical name, is one that kzoo may have no use for."""
        heads = {source.tensor for head in self.heads for source in head.table.values()}
        tied = {name for head in self.heads for name in head.tied} | set(self.tied)
        return tensor in heads | tied or any(re.fullmatch(pattern, tensor) for pattern in self.known)

    def heads_for(self, task: str) -> list[Head]:
        """Return the heads that do a task."""
        return [head for head in self.heads if task in tasks_of(head)]


def tasks_of(head: Head) -> tuple[str, ...]:
    """Return the tasks that a head can do: its own, and what `problem_type` can make of it."""
    if head.task == "classification":
        return ("classification", "multilabel", "regression")
    return (head.task,)


def _fill(name: str, number: Mapping[str, str]) -> str:
    for placeholder, layer in number.items():
        name = name.replace(f"{{{placeholder}}}", layer)
    return name
