"""A trained model put to another task."""

from __future__ import annotations

from typing import Any

import keras

from kzoo.errors import KzooError
from kzoo.models.base import TransformerModel
from kzoo.models.initialization import variables
from kzoo.models.registry import build


def with_task(model: TransformerModel, task: str, **overrides: Any) -> TransformerModel:
    """Return a model for a task that begins with the backbone, the tokenizer and the lengths of another.

    Its head is new, unless the task is the same and has no classes.

    Args:
        model: stays as it is.
        task: one that its backbone can carry.
        **overrides: as for a variant: fields of the config that change no shape, such as rates of dropout, and
            options of `TransformerModel`.

    Raises:
        KzooError: the backbone cannot carry the task, or an override is unknown or changes a weight's shape.

    Example:
        >>> from kzoo.models import bert_tiny
        >>> pretrained = bert_tiny(task="mlm")
        >>> classifier = with_task(pretrained, "classification", labels=["ham", "spam"])
        >>> classifier.task, classifier.num_classes
        ('classification', 2)
    """
    options: dict[str, Any] = {
        "tokenizer": model.tokenizer,
        "max_length": model.max_length,
        "image_preprocessing": model.image_preprocessing,
        "gradient_checkpointing": model.gradient_checkpointing,
        "dtype": model.dtype_policy,
        "name": model.name,
    }
    made = build(type(model.backbone), model.backbone.config, task=task, **{**options, **overrides})
    sources = variables(model)
    whole = task == model.task and made.num_classes is None
    for path, variable in variables(made).items():
        if not whole and not path.startswith("backbone/"):
            continue
        source = sources[path]
        if source.shape != variable.shape:
            raise KzooError(
                f"'{path}' has the shape {tuple(variable.shape)}, and {tuple(source.shape)} in the model that this "
                "one begins with: leave out what changes it."
            )
        variable.assign(keras.ops.convert_to_numpy(source))
    return made
