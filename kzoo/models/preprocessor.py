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
# What the original library's processors do where the file says nothing; a plain number is a square's side, but
# the shorter side for CLIP.
_SQUARE = {"size": {"height": 224, "width": 224}, "resample": 2, "image_mean": [0.5], "image_std": [0.5]}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "ViT": _SQUARE,
    "DeiT": {
        **_SQUARE,
        "size": {"height": 256, "width": 256},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": 224,
    },
    "CLIP": {
        **_SQUARE,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "size": {"shortest_edge": 224},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": 224,
    },
}
_SHORTER_SIDE = "CLIP"
_KNOWN = frozenset(
    {
        *("image_processor_type", "feature_extractor_type", "processor_class", "_valid_processor_keys"),
        *(
            "do_convert_rgb",
            "do_resize",
            "size",
            "default_to_square",
            "resample",
            "do_center_crop",
            "crop_size",
        ),
        *("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
        *("data_format", "input_data_format", "return_tensors", "device", "disable_grouping"),
    }
)


def read_preprocessing(given: Mapping[str, Any], config: Any, other_size: bool = False) -> ImagePreprocessing:
    """Return what preprocessor_config.json says, in kzoo's terms, for a model with that config.

    Args:
        given: the file's contents.
        config: the model's, with its `image_size` and `num_channels`.
        other_size: whether the model takes images of another size than the file says: sizes are scaled to it.

    Raises:
        KzooError: images are made in a way that kzoo does not know; the message names the setting.
    """
    side = config.image_size
    kind = _kind(given)
    settings = {**_DEFAULTS[kind], **{name: value for name, value in given.items() if value is not None}}

    def refuse(name: str, reason: str) -> KzooError:
        return KzooError(
            f"{PREPROCESSOR_FILE} says {name}={settings[name]!r}; {reason}. Pass "
            "image_preprocessing=kzoo.vision.ImagePreprocessing(...) to say how images are to be made."
        )

    for name, value in given.items():
        if name not in _KNOWN and value not in (None, False):
            raise refuse(name, "kzoo does not know that setting")
    if not settings.get("do_resize", True):
        raise refuse("do_resize", "kzoo resizes every image")
    if not settings.get("do_rescale", True):
        raise refuse("do_rescale", "kzoo divides by 255")
    if not math.isclose(settings.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-3):
        raise refuse("rescale_factor", "kzoo divides by 255")
    if settings["resample"] not in _RESAMPLE:
        raise refuse("resample", f"kzoo knows {_RESAMPLE}")
    resize = _resize(settings["size"], kind)
    if resize is None:
        raise refuse("size", "kzoo knows a height and a width, or a shortest_edge")
    cropped = bool(settings.get("do_center_crop"))
    made = _resize(settings["crop_size"], "ViT") if cropped else resize
    if other_size and isinstance(made, list) and made[0] == made[1]:
        sizes = [round(size * side / made[0]) for size in (resize if isinstance(resize, list) else [resize])]
        made, resize = [side, side], sizes if len(sizes) == 2 else sizes[0]
    if made != [side, side]:
        name = "crop_size" if cropped else "size"
        raise refuse(name, f"the model takes {side} by {side}{'' if cropped else ', and nothing is cropped'}")
    normalize = settings.get("do_normalize", True)
    try:
        return ImagePreprocessing(
            height=side,
            width=side,
            channels=config.num_channels,
            mean=settings["image_mean"] if normalize else [0.0],
            std=settings["image_std"] if normalize else [1.0],
            resample=_RESAMPLE[settings["resample"]],
            resize=None if resize == [side, side] else resize,
        )
    except ValueError as error:
        raise refuse("size" if "leaves too little" in str(error) else "image_mean", str(error)) from None


def write_preprocessing(settings: ImagePreprocessing) -> dict[str, Any]:
    """Return the contents of preprocessor_config.json."""
    square = {"height": settings.height, "width": settings.width}
    crop: dict[str, Any] = {"do_center_crop": settings.resize is not None, "crop_size": square}
    if settings.resize is None:
        kind, size = "ViT", square
        crop = {}
    elif isinstance(settings.resize, list):
        kind, size = "DeiT", dict(zip(square, settings.resize, strict=True))
    else:
        kind, size = _SHORTER_SIDE, {"shortest_edge": settings.resize}
    return {
        "image_processor_type": f"{kind}ImageProcessor",
        "do_resize": True,
        "size": size,
        "resample": next(number for number, name in _RESAMPLE.items() if name == settings.resample),
        **crop,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": _for_each_channel(settings.mean, settings.channels),
        "image_std": _for_each_channel(settings.std, settings.channels),
    }


def _kind(settings: Mapping[str, Any]) -> str:
    """Return whose processor a file describes."""
    name = (
        settings.get("image_processor_type") or settings.get("feature_extractor_type") or "ViTImageProcessor"
    )
    for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        name = str(name).removesuffix(ending)
    if name not in _DEFAULTS:
        raise KzooError(
            f"{PREPROCESSOR_FILE} is that of a {name} processor; kzoo knows those of {', '.join(_DEFAULTS)}. Pass "
            "image_preprocessing=kzoo.vision.ImagePreprocessing(...) to say how images are to be made."
        )
    return name


def _resize(size: Any, kind: str) -> int | list[int] | None:
    """Return a size in kzoo's terms: the shorter side, or height and width; None if it is neither."""
    if isinstance(size, dict) and set(size) == {"height", "width"}:
        return [size["height"], size["width"]]
    if isinstance(size, dict) and set(size) == {"shortest_edge"}:
        return size["shortest_edge"]
    if isinstance(size, list) and len(size) == 2:
        return size
    if isinstance(size, int):
        return size if kind == _SHORTER_SIDE else [size, size]
    return None


def _for_each_channel(values: list[float], channels: int) -> list[float]:
    return values * channels if len(values) == 1 else values
