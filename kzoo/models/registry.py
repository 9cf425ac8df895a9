"""The registry: variants by name, and how a variant's overrides become a model."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from kzoo.errors import KzooError, did_you_mean
from kzoo.models.backbone import Backbone
from kzoo.models.base import TransformerModel
from kzoo.models.tasks import TASKS

Variant = Callable[..., TransformerModel]
F = TypeVar("F", bound=Variant)

_VARIANTS: dict[str, Variant] = {}
_MODEL_OPTIONS = frozenset(
    {
        "task",
        "num_classes",
        "labels",
        "pooling",
        "layer",
        "normalize",
        "tokenizer",
        "max_length",
        "image_preprocessing",
        "name",
        "dtype",
    }
)


def register_model(variant: F) -> F:
    """Register a function that builds a variant under its own name, which its models get too."""

    @functools.wraps(variant)
    def named(**overrides: Any) -> TransformerModel:
        return variant(**{"name": variant.__name__, **overrides})

    _VARIANTS[variant.__name__] = named
    return cast(F, named)


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the registered variants that match a shell pattern, sorted.

    Example:
        >>> list_models("bert_b*")
        ['bert_base', 'bert_base_cased']
    """
    return sorted(fnmatch.filter(_VARIANTS, pattern))


def get_variant(name: str) -> Variant:
    """Return the function that builds the variant `name`.

    Raises:
        KzooError: no variant has that name; the nearest one is named.
    """
    if name not in _VARIANTS:
        raise KzooError(f"Unknown model '{name}'.{did_you_mean(name, _VARIANTS)} `kzoo list` shows all.")
    return _VARIANTS[name]


def create_model(variant: str, /, **overrides: Any) -> TransformerModel:
    """Build the variant of that name; `overrides` are fields of its config or options of `TransformerModel`.

    Raises:
        KzooError: an unknown name or override.

    Example:
        >>> create_model("bert_tiny", task="features").count_params()
        4385920
    """
    return get_variant(variant)(**overrides)


def build(backbone: type[Backbone], config: Any, **overrides: Any) -> TransformerModel:
    """Build a model of `backbone` with `config`, after `overrides`.

    Args:
        backbone: the architecture.
        config: its frozen config, the variant's numbers.
        **overrides: fields of the config (`num_layers=6`), or options of `TransformerModel` (`task=`,
            `num_classes=`, `labels=`, `pooling=`, `layer=`, `normalize=`, `tokenizer=`, `max_length=`,
            `image_preprocessing=`, `name=`, `dtype=`).

    Raises:
        KzooError: an override that is neither, or that contradicts another.
    """
    fields = {field.name for field in dataclasses.fields(config)}
    for key in overrides:
        if key not in fields | _MODEL_OPTIONS:
            raise KzooError(
                f"Unknown option '{key}' for {backbone.__name__}.{did_you_mean(key, fields | _MODEL_OPTIONS)}"
            )
    knobs = {key: value for key, value in overrides.items() if key in fields}
    options = {key: value for key, value in overrides.items() if key not in fields}
    task = options.setdefault("task", backbone.tasks[0])
    if task not in backbone.tasks:
        known = "no such task exists" if task not in TASKS else f"{backbone.__name__} cannot carry it"
        raise KzooError(f"Unknown task '{task}': {known}.{did_you_mean(str(task), backbone.tasks)}")
    config = dataclasses.replace(config, **knobs)
    return TransformerModel(backbone(config, name="backbone", dtype=options.pop("dtype", None)), **options)
