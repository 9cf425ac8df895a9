"""The registry: variants by name, and how a variant's overrides become a model."""

from __future__ import annotations

import contextvars
import dataclasses
import fnmatch
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

from kzoo.errors import KzooError, did_you_mean
from kzoo.models.backbone import Backbone
from kzoo.models.base import TransformerModel
from kzoo.models.tasks import TASKS

Variant = Callable[..., TransformerModel]
F = TypeVar("F", bound=Variant)


class Design(NamedTuple):
    """What a model is made of, before it is made: a backbone's class and config, and the model's options."""

    backbone: type[Backbone]
    config: Any
    options: dict[str, Any]


class _DesignedError(Exception):
    """Carries a design out of a variant's function, which would go on to make the model."""

    def __init__(self, design: Design) -> None:
        super().__init__(design)
        self.design = design


_only_designing: contextvars.ContextVar[bool] = contextvars.ContextVar("only_designing", default=False)

_VARIANTS: dict[str, Variant] = {}
_MODEL_OPTIONS = frozenset(
    {
        "task",
        "num_classes",
        "labels",
        "pooling",
        "layer",
        "normalize",
        "gradient_checkpointing",
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


def design_of(variant: str, /, **overrides: Any) -> Design:
    """Return what the variant of that name is made of, without making it.

    Raises:
        KzooError: an unknown name or override.

    Example:
        >>> design_of("bert_tiny").config.num_layers
        2
    """
    token = _only_designing.set(True)
    try:
        get_variant(variant)(**overrides)
    except _DesignedError as designed:
        return designed.design
    finally:
        _only_designing.reset(token)
    raise KzooError(f"The function of '{variant}' does not call kzoo.models.build: it cannot be described.")


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
            `image_preprocessing=`, `gradient_checkpointing=`, `name=`, `dtype=`).

    Raises:
        KzooError: an override that is neither, or that contradicts another.
    """
    design = _design(backbone, config, overrides)
    if _only_designing.get():
        raise _DesignedError(design)
    options = dict(design.options)
    return TransformerModel(
        backbone(design.config, name="backbone", dtype=options.pop("dtype", None)), **options
    )


def _design(backbone: type[Backbone], config: Any, overrides: dict[str, Any]) -> Design:
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
    return Design(backbone, dataclasses.replace(config, **knobs), options)
