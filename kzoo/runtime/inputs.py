"""What a pipeline is given, read into what a graph takes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kzoo.errors import KzooError
from kzoo.runtime.manifest import ImagePreprocessing
from kzoo.text import Encoding, Text, Tokenizer, check_text
from kzoo.vision import is_image, preprocess


class TruncationWarning(UserWarning):
    """Texts had more tokens than the model takes, and were cut.

    Attributes:
        places: which, by their index among those that were given together.
    """

    def __init__(self, message: str, places: Sequence[int] = ()):
        super().__init__(message)
        self.places = tuple(places)


def warn_of_cuts(cut: Sequence[int], total: int, max_length: int, stacklevel: int) -> None:
    """Warn that some of `total` texts, those at these places, were cut; `stacklevel` is the caller's own."""
    shown = ", ".join(map(str, sorted(cut)[:10])) + (", ..." if len(cut) > 10 else "")
    message = f"{len(cut)} of {total} texts had more than {max_length} tokens and were cut (index {shown})."
    warnings.warn(TruncationWarning(message, sorted(cut)), stacklevel=stacklevel + 1)


@dataclass(frozen=True)
class Tokens:
    """A text that is tokens already, special ones included.

    Attributes:
        ids: int32 (length,).
        types: int32 (length,), 1 for the tokens of a pair's second text.
    """

    ids: np.ndarray
    types: np.ndarray


@dataclass(frozen=True)
class Pixels:
    """An image that is float32 pixel values (height, width, channels) already, as the graph takes them."""

    values: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Inputs that run together.

    Attributes:
        items: the texts or images.
        feeds: what the graph takes, by name.
        truncated: (batch,) whether a text was cut.
        encoding: the texts' tokens, with their offsets where the reader was asked for them; None for images.
    """

    items: Sequence[Any]
    feeds: dict[str, np.ndarray]
    truncated: np.ndarray
    encoding: Encoding | None = None


@dataclass(frozen=True)
class TextReader:
    """Reads strings into padded token ids.

    Attributes:
        tokenizer: makes the ids.
        max_length: most tokens of a text; longer ones are cut.
        kinds: whether texts are strings, pairs of them, or either.
        keep: which end of a text survives the cut.
        offsets: whether to say which characters each token comes from.
        tokens: whether texts may come as `Tokens`, if all of a batch do.
    """

    tokenizer: Tokenizer
    max_length: int
    kinds: Literal["singles", "pairs", "both"] = "singles"
    keep: Literal["first", "last"] = "first"
    offsets: bool = False
    tokens: bool = False

    def listed(self, inputs: Any) -> tuple[list[Any], bool]:
        """Return the inputs as a checked list, and whether they were one bare text."""
        bare = isinstance(inputs, str | tuple)
        items = [inputs] if bare else _as_list(inputs, "a string or a list of strings")
        if self.tokens and all(isinstance(item, Tokens) for item in items):
            return items, bare
        for index, item in enumerate(items):
            check_text(item, index)
            if isinstance(item, tuple) and self.kinds == "singles":
                raise KzooError(f"Text {index} is a pair; this task takes single strings.")
            if isinstance(item, str) and self.kinds == "pairs":
                raise KzooError(f"Text {index} is a single string; this task takes pairs, as 2-tuples.")
        return items, bare

    def size(self, text: Text | Tokens) -> int:
        """Return a cheap measure that sorts texts by length."""
        if isinstance(text, Tokens):
            return len(text.ids)
        return len(text) if isinstance(text, str) else len(text[0]) + len(text[1])

    def read(self, texts: Sequence[Any], first_index: int) -> Batch:
        """Return the graph's inputs for one batch."""
        if isinstance(texts[0], Tokens):
            return self._padded(texts)
        encoding = self.tokenizer.encode(
            texts, max_length=self.max_length, keep=self.keep, offsets=self.offsets
        )
        feeds = {
            "input_ids": encoding.input_ids,
            "attention_mask": encoding.attention_mask,
            "token_type_ids": encoding.token_type_ids,
        }
        return Batch(texts, feeds, encoding.truncated, encoding)

    def _padded(self, texts: Sequence[Tokens]) -> Batch:
        sizes = np.array([len(text.ids) for text in texts])
        if sizes.max() > self.max_length:
            raise KzooError(
                f"A text has {sizes.max()} tokens; the model takes {self.max_length}. Cut it before."
            )
        shape = len(texts), int(sizes.max())
        ids, types = np.full(shape, self.tokenizer.pad_id, np.int32), np.zeros(shape, np.int32)
        for row, (text, size) in enumerate(zip(texts, sizes, strict=True)):
            ids[row, :size], types[row, :size] = text.ids, text.types
        mask = (np.arange(shape[1]) < sizes[:, None]).astype(np.int32)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        return Batch(texts, feeds, np.zeros(len(texts), bool))


@dataclass(frozen=True)
class ImageReader:
    """Reads images of any kind that `kzoo.vision.preprocess` takes into pixel values, or `Pixels`."""

    settings: ImagePreprocessing

    def listed(self, inputs: Any) -> tuple[list[Any], bool]:
        """Return the inputs as a list, and whether they were one bare image."""
        bare = is_image(inputs)
        return ([inputs] if bare else _as_list(inputs, "an image or a list of images")), bare

    def size(self, image: Any) -> int:
        """Return the same for all: an image's size makes no difference to its batch, so order stays."""
        return 0

    def read(self, images: Sequence[Any], first_index: int) -> Batch:
        """Return the graph's inputs for one batch."""
        if isinstance(images[0], Pixels):
            pixels = np.stack([image.values for image in images])
        else:
            pixels = preprocess(images, self.settings, first_index=first_index)
        return Batch(images, {"pixel_values": pixels}, np.zeros(len(images), bool))


def _as_list(inputs: Any, expected: str) -> list[Any]:
    if isinstance(inputs, dict | bytes) or not isinstance(inputs, Iterable):
        raise KzooError(f"Inputs are of type {type(inputs).__name__}; expected {expected}.")
    items = list(inputs)
    if not items:
        raise KzooError(f"The list of inputs is empty; expected {expected}.")
    return items
