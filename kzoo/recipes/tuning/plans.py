"""What a search for better numbers may try: a TOML file that names a recipe's fields, and how it is read."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from kzoo.errors import KzooError, did_you_mean
from kzoo.recipes.schema.config import STREAMED, Recipe
from kzoo.recipes.schema.data_kinds import Section

Value = bool | int | float | str
_SECTIONS = ("model", "training", "text", "vision", "lora")
# What the data is read by, or what says how often to train, is the same in all trials.
_FIXED = ("model.pretrained", "model.tokenizer", "training.seed", "training.seeds", "training.folds")


class Span(Section):
    """Numbers from `low` to `high`, both among them; whole ones if both are."""

    low: int | float
    high: int | float
    log: bool = False
    """Whether their logarithms are spread evenly."""

    @model_validator(mode="after")
    def _check_order(self) -> Span:
        if not self.low < self.high:
            raise ValueError("low is less than high")
        if self.log and self.low <= 0:
            raise ValueError("log = true is for numbers above 0")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether the numbers are whole ones."""
        return isinstance(self.low, int) and isinstance(self.high, int)


def _kind(given: Any) -> str | None:
    if isinstance(given, dict | Span):
        return "span"
    return "values" if isinstance(given, list) else None


Candidates = Annotated[
    Annotated[list[Value], Field(min_length=2), Tag("values")] | Annotated[Span, Tag("span")],
    Discriminator(
        _kind,
        custom_error_type="candidates",
        custom_error_message="write several values, [1, 2, 4], or a range, { low = 1e-4, high = 1e-2, log = true }",
    ),
]


class Plan(Section):
    """A search: the recipe, and which of its fields may be what."""

    recipe: str
    """The recipe, beside this file."""

    trials: int = Field(default=20, gt=0)
    """How many trainings; more may be asked for later."""

    seed: int = Field(default=0, ge=0)
    """Of the choice of values; the recipe's own seed is that of each training."""

    prune: Literal["median", "hyperband", "none"] = "median"
    """When a training is stopped early: as soon as it is worse than half of the others were at that point, or as
    Hyperband says; or never."""

    fields: Annotated[dict[str, Candidates], Field(min_length=1)]
    """By `section.field`: several values, or a range."""

    @field_validator("fields")
    @classmethod
    def _check_fields(cls, fields: dict[str, Candidates]) -> dict[str, Candidates]:
        for name in fields:
            section, _, field = name.partition(".")
            if not field or section not in _SECTIONS:
                raise ValueError(f"'{name}': a field of {', '.join(_SECTIONS)}, as in training.learning_rate")
            if name in _FIXED:
                raise ValueError(f"'{name}' is the same in all trials")
        return fields

    def first(self) -> dict[str, Value]:
        """Return a value for each field."""
        return {
            name: given.low if isinstance(given, Span) else given[0] for name, given in self.fields.items()
        }


def load_plan(path: Path) -> Plan:
    """Read and check a search's file.

    Raises:
        KzooError: there is no such file, or something in it is wrong; the message names the field.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KzooError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise KzooError(f"{path} is not TOML: {error}.") from None
    try:
        return Plan.model_validate(raw)
    except ValidationError as error:
        problems = []
        for details in error.errors():
            place = [str(key) for key in details["loc"] if key not in ("values", "span")]
            problem = details["msg"].removeprefix("Value error, ")
            if details["type"] == "extra_forbidden":
                known = Plan.model_fields if len(place) == 1 else Span.model_fields
                problem = f"unknown field.{did_you_mean(place[-1], known)}"
            problems.append(f"  {'.'.join(place)}: {problem}")
        raise KzooError(f"{path} is not a valid search:\n" + "\n".join(problems)) from None


def check_searchable(recipe: Recipe, plan: Plan) -> None:
    """Refuse a recipe that is not one training, or whose trials could not be told apart.

    Raises:
        KzooError: saying what is in the way.
    """
    for name in ("seeds", "folds"):
        if getattr(recipe.training, name) is not None:
            raise KzooError(
                f"training.{name} is for one training of several: leave it out of what is searched."
            )
    if recipe.distillation is not None:
        raise KzooError("A search is for recipes without the section 'distillation'.")
    by_loss = recipe.task in STREAMED and recipe.task != "seq2seq"
    if by_loss and any(name.startswith("text.") for name in plan.fields):
        raise KzooError(
            "Trials of a language model are told apart by the loss of a token, so their tokens must be the same: "
            "leave the fields of 'text' out."
        )


def as_overrides(values: dict[str, Value]) -> list[str]:
    """Return values as `kzoo train --set` takes them.

    Example:
        >>> as_overrides({"training.learning_rate": 1e-05, "model.name": "bert_tiny"})
        ['training.learning_rate=1e-05', 'model.name="bert_tiny"']
    """
    return [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]


def to_toml(recipe: dict[str, Any], place: tuple[str, ...] = ()) -> str:
    """Return a recipe's fields as TOML.

    Example:
        >>> print(to_toml({"name": "topic", "text": {"augment": {"swap": 0.1}}}))
        name = "topic"
        <BLANKLINE>
        [text.augment]
        swap = 0.1
        <BLANKLINE>
    """
    plain = {name: value for name, value in recipe.items() if not isinstance(value, dict)}
    lines = [f"{_key(name)} = {json.dumps(value, ensure_ascii=False)}" for name, value in plain.items()]
    if place and (lines or not recipe):
        lines = ["", f"[{'.'.join(map(_key, place))}]", *lines]
    text = "".join(f"{line}\n" for line in lines)
    tables = ((name, value) for name, value in recipe.items() if isinstance(value, dict))
    return text + "".join(to_toml(value, (*place, name)) for name, value in tables)


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else json.dumps(name, ensure_ascii=False)
