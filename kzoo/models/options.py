"""What may be said of a model when it is made: options checked against its backbone and task, and filled in."""

from __future__ import annotations

from typing import Any

from kzoo.errors import KzooError
from kzoo.models.backbone import Backbone
from kzoo.models.tasks import TASKS
from kzoo.vision import ImagePreprocessing

# Most tokens of a text where a model's positions have no end.
_UNBOUNDED_LENGTH = 512


def resolve_length(max_length: int | None, backbone: Backbone) -> int | None:
    """Return the most tokens of a text; None for a model that reads none.

    Raises:
        KzooError: the backbone has fewer positions.
    """
    if "input_ids" not in backbone.signature():
        return max_length
    positions = getattr(backbone.config, "max_positions", None)
    if max_length is None:
        return positions or _UNBOUNDED_LENGTH
    if positions is not None and max_length > positions:
        raise KzooError(f"max_length={max_length} exceeds the model's {positions} positions.")
    return max_length


def resolve_classes(task: str, num_classes: int | None, labels: list[str] | None, default: int) -> int | None:
    """Return the number of classes; None for a task that has none.

    Raises:
        KzooError: number and labels contradict each other or the task, or a label is there twice.
    """
    own = TASKS[task].classes
    if own:
        if num_classes not in (None, len(own)) or (labels or list(own)) != list(own):
            raise KzooError(
                f"task='{task}' has the classes {', '.join(own)}: leave num_classes and labels out."
            )
        return len(own)
    if not TASKS[task].has_classes:
        given = {"num_classes": num_classes, "labels": labels}
        for option, value in given.items():
            if value is not None:
                raise KzooError(f"task='{task}' has no classes: leave {option} out.")
        return None
    if labels is not None and len(set(labels)) != len(labels):
        raise KzooError(f"Some labels are there twice: {labels}.")
    if labels is not None and num_classes not in (None, len(labels)):
        raise KzooError(
            f"num_classes={num_classes}, but there are {len(labels)} labels: leave one of them out."
        )
    if num_classes is None:
        return len(labels) if labels is not None else default
    if num_classes < 1:
        raise KzooError(f"num_classes={num_classes} is not a positive whole number.")
    return num_classes


def resolve_preprocessing(
    settings: ImagePreprocessing | dict[str, Any] | None, backbone: Backbone
) -> ImagePreprocessing | None:
    """Return how images become pixel values; None for a model that reads text.

    Raises:
        KzooError: they make images that the backbone does not take, or it takes none.
    """
    config = backbone.config
    if not hasattr(config, "image_size"):
        if settings is not None:
            raise KzooError(f"{type(backbone).__name__} reads text: leave image_preprocessing out.")
        return None
    shape = {"height": config.image_size, "width": config.image_size, "channels": config.num_channels}
    if settings is None:
        return ImagePreprocessing(**shape)
    settings = ImagePreprocessing(**settings) if isinstance(settings, dict) else settings
    if any(getattr(settings, name) != size for name, size in shape.items()):
        raise KzooError(f"image_preprocessing makes {settings}; the model takes {shape}.")
    return settings
