"""Images of any common kind to one float32 batch."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from kzoo.errors import KzooError

if TYPE_CHECKING:
    from PIL.Image import Image

ImageInput: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO | Image | np.ndarray"

MAX_PIXELS = 64_000_000

# Only these decoders run: Pillow has others that start programs (EPS) or that nobody has fuzzed for years.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")


class ImagePreprocessing(BaseModel):
    """How images become pixel values: resized, cropped, divided by 255, then `(x - mean) / std` per channel.

    Images are resized to `height` by `width`, whatever their shape; or, where `resize` is given, to that, after
    which their middle is cut out: a number is the shorter side's, which keeps the shape, two are height and width.
    `mean` and `std` hold one value for each channel, or one for all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    channels: Literal[1, 3] = 3
    mean: list[float] = [0.5]
    std: list[float] = [0.5]
    resample: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    resize: PositiveInt | Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] | None = None

    @model_validator(mode="after")
    def _check_channels(self) -> ImagePreprocessing:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                raise ValueError(f"{name} has {len(values)} values for {self.channels} channel(s)")
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0; got {self.std}")
        if max(self.height, self.width) ** 2 > MAX_PIXELS:
            raise ValueError(f"{self.height} by {self.width} is too large for a model's images")
        if self.resize is not None:
            height, width = self.resize if isinstance(self.resize, list) else [self.resize] * 2
            if max(height, width) ** 2 > MAX_PIXELS:
                raise ValueError(f"resize={self.resize} is too large for a model's images")
            if height < self.height or width < self.width:
                raise ValueError(
                    f"resize={self.resize} leaves too little to cut {self.height} by {self.width} out of"
                )
        return self


def is_image(images: Any) -> bool:
    """Tell one image from a list of them: an array of 4 dimensions is a list, one of fewer is an image."""
    if isinstance(images, np.ndarray):
        return images.ndim < 4
    return not hasattr(images, "__len__") or isinstance(images, str | bytes)


def preprocess(
    images: Sequence[ImageInput],
    settings: ImagePreprocessing,
    *,
    max_pixels: int = MAX_PIXELS,
    first_index: int = 0,
) -> np.ndarray:
    """Turn images into one batch of pixel values.

    Colour, grey, palette, CMYK and 16-bit images are taken; transparency is laid on white, and the
    rotation that a camera noted (EXIF) is applied. Of an animation the first frame counts.

    Args:
        images: each a path, the bytes of a file, an open binary file, a PIL image, or a uint8 array of
            shape (height, width) or (height, width, 1, 3 or 4).
        settings: size, channels and normalization.
        max_pixels: larger images are refused before they are decoded.
        first_index: what error messages call the first image, when the list is a piece of a longer one.

    Returns:
        float32 (batch, settings.height, settings.width, settings.channels).

    Raises:
        KzooError: naming the image, if it is missing, damaged, too large, or no image.

    Example:
        >>> settings = ImagePreprocessing(height=8, width=8)
        >>> preprocess([np.zeros((20, 30), np.uint8)], settings).shape
        (1, 8, 8, 3)
    """
    return normalize(decode(images, settings, max_pixels=max_pixels, first_index=first_index), settings)


def decode(
    images: Sequence[ImageInput],
    settings: ImagePreprocessing,
    *,
    max_pixels: int = MAX_PIXELS,
    first_index: int = 0,
) -> np.ndarray:
    """Bring images to one size and number of channels, as `preprocess` does, whose arguments and errors it has.

    Returns:
        uint8 (batch, settings.height, settings.width, settings.channels), which `normalize` takes.
    """
    if is_image(images) or len(images) == 0:
        raise KzooError("preprocess takes a list with at least one image.")
    batch = np.empty((len(images), settings.height, settings.width, settings.channels), np.uint8)
    for index, source in enumerate(images):
        # Bytes from an archive know their name, and so do open files.
        name = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
        where = f"Image {first_index + index}" + (
            f" ({str(name)[:200]})" if isinstance(name, str | os.PathLike) else ""
        )
        picture = _open(source, where, max_pixels)
        try:
            pixels = _fit(_flatten(picture, settings.channels), settings, max_pixels)
        except KzooError as error:
            raise KzooError(f"{where} {error}") from None
        except Exception as error:  # decoders fail in many ways: OSError, SyntaxError, struct.error, ...
            raise KzooError(f"{where} is damaged or cut short: {error}.") from None
        batch[index] = np.asarray(pixels).reshape(batch.shape[1:])
    return batch


def normalize(batch: np.ndarray, settings: ImagePreprocessing) -> np.ndarray:
    """Turn pixels of 0 to 255 into pixel values: by the settings' mean and standard deviation, float32."""
    mean, std = np.array(settings.mean, np.float32), np.array(settings.std, np.float32)
    return (batch / np.float32(255) - mean) / std


def _open(source: Any, where: str, max_pixels: int) -> Image:
    """Open an image without decoding its pixels, and check its size."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(source, Image.Image):
        picture = source
    elif isinstance(source, np.ndarray):
        picture = _from_array(source, where)
    else:
        if not isinstance(source, str | os.PathLike | bytes) and not hasattr(source, "read"):
            raise KzooError(
                f"{where} is of type {type(source).__name__}; expected a path, the bytes of an image file, "
                "an open file, a PIL image, or a uint8 array."
            )
        try:
            content = Path(source).read_bytes() if isinstance(source, str | os.PathLike) else source
            file = io.BytesIO(content) if isinstance(content, bytes) else content
            picture = Image.open(file, formats=_FORMATS)
        except FileNotFoundError:
            raise KzooError(f"{where}: there is no such file.") from None
        except UnidentifiedImageError:
            raise KzooError(f"{where} is not an image file ({', '.join(_FORMATS)}).") from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise KzooError(f"{where} has more than {max_pixels:,} pixels; make it smaller first.") from None
        except Exception as error:
            raise KzooError(f"{where} cannot be read: {error}.") from None
    if picture.width * picture.height > max_pixels:
        raise KzooError(
            f"{where} has {picture.width} x {picture.height} pixels, more than {max_pixels:,}; "
            "make it smaller first."
        )
    return picture


def _from_array(array: np.ndarray, where: str) -> Image:
    from PIL import Image

    if array.dtype != np.uint8:
        raise KzooError(f"{where} is an array of {array.dtype}; expected uint8 with values from 0 to 255.")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise KzooError(
            f"{where} is an array of shape {array.shape}; expected (height, width) or "
            "(height, width, channels) with 1, 3 or 4 channels."
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _flatten(picture: Image, channels: int) -> Image:
    """Decode, rotate, and reduce to 8-bit grey or RGB."""
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("I", "F"):
        raise KzooError("has 32 bits a pixel, whose range is not known; convert it to 8 bits first.")
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) // 257).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("L" if channels == 1 else "RGB")


def _fit(picture: Image, settings: ImagePreprocessing, max_pixels: int) -> Image:
    """Resize, and where the settings say so cut out the middle."""
    from PIL import Image

    height, width = settings.height, settings.width
    if isinstance(settings.resize, list):
        height, width = settings.resize
    elif settings.resize is not None:
        shorter = min(picture.size)
        # Rounded down, as the original libraries do.
        width, height = (settings.resize * side // shorter for side in picture.size)
        if width * height > max_pixels:
            raise KzooError(
                f"has {picture.width} x {picture.height} pixels: with a shorter side of {settings.resize} it would "
                f"have more than {max_pixels:,} pixels. Crop it first."
            )
    picture = picture.resize((width, height), Image.Resampling[settings.resample.upper()])
    left, top = (width - settings.width) // 2, (height - settings.height) // 2
    return picture.crop((left, top, left + settings.width, top + settings.height))
