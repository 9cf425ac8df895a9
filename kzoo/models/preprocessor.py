"""preprocessor_config.json: how the original library makes images into pixel values, in kzoo's terms and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from kzoo.errors import KzooError
from kzoo.vision import ImagePreprocessing

PREPROCESSOR_FILE = "preprocessor_config.json"
# Pillow's numbers for the ways of resizing.
_RESAMPLE: dict[int, Literal["nearest", "bilinear", "bicubic"]] = {0: "nearest", 2: "bilinear", 3: "bicubic"}


def read_preprocessing(settings: Mapping[str, Any], config: Any) -> ImagePreprocessing:
    """Return what preprocessor_config.json says, in kzoo's terms, for a model with that config.

    Raises:
        KzooError: images are made in a way that kzoo does not know; the message names the setting.
    """
    side = config.image_size

    def refuse(name: str, reason: str) -> KzooError:
        return KzooError(
            f"{PREPROCESSOR_FILE} says {name}={settings[name]!r}; {reason}. Pass "
            "image_preprocessing=kzoo.vision.ImagePreprocessing(...) to say how images are to be made."
        )

    def is_side(size: Any) -> bool:
        return size in (side, [side, side], {"height": side, "width": side})

    if not is_side(settings.get("size", side)):
        raise refuse("size", f"kzoo resizes to the model's {side} by {side}, whatever the image's shape")
    if settings.get("do_center_crop") and not is_side(settings.get("crop_size", side)):
        raise refuse("crop_size", "kzoo does not crop")
    if not settings.get("do_rescale", True):
        raise refuse("do_rescale", "kzoo divides by 255")
    if not math.isclose(settings.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-3):
        raise refuse("rescale_factor", "kzoo divides by 255")
    if settings.get("resample", 2) not in _RESAMPLE:
        raise refuse("resample", f"kzoo knows {_RESAMPLE}")
    normalize = settings.get("do_normalize", True)
    try:
        return ImagePreprocessing(
            height=side,
            width=side,
            channels=config.num_channels,
            mean=settings.get("image_mean", [0.5]) if normalize else [0.0],
            std=settings.get("image_std", [0.5]) if normalize else [1.0],
            resample=_RESAMPLE[settings.get("resample", 2)],
        )
    except ValueError as error:
        raise refuse("image_mean", str(error)) from None


def write_preprocessing(settings: ImagePreprocessing, processor: str) -> dict[str, Any]:
    """Return the contents of preprocessor_config.json; `processor` is the original library's class."""
    return {
        "image_processor_type": processor,
        "do_resize": True,
        "size": {"height": settings.height, "width": settings.width},
        "resample": next(number for number, name in _RESAMPLE.items() if name == settings.resample),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": _for_each_channel(settings.mean, settings.channels),
        "image_std": _for_each_channel(settings.std, settings.channels),
    }


def _for_each_channel(values: list[float], channels: int) -> list[float]:
    return values * channels if len(values) == 1 else values
