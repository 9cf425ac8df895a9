"""From strings and images to a model's inputs and targets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kzoo.errors import KzooError
from kzoo.text import Encoding, Tokenizer
from kzoo.training.batches import bucket_length, is_text, to_texts
from kzoo.training.objectives import WITH_OFFSETS, TargetContext, Targets, masked_token_targets
from kzoo.vision import ImagePreprocessing


@dataclass(frozen=True)
class BatchEncoder:
    """Makes one batch's inputs and targets, as one model wants them.

    With `joins_words`, what is elsewhere a pair of texts is one text, given as its words. With `learns` off, inputs
    are left as they are, whatever the targets would want of them.
    """

    input_names: tuple[str, ...]
    targets: Targets
    tokenizer: Tokenizer | None
    max_length: int | None
    image: ImagePreprocessing | None
    num_classes: int | None
    labels: list[str] | None
    joins_words: bool = False
    learns: bool = True

    @property
    def draws(self) -> bool:
        """Whether chance has a part in the targets."""
        return self.learns and self.targets is masked_token_targets

    def __call__(
        self, x: Any, y: Any = None, sample_weight: Any = None, length: int | None = None
    ) -> tuple[Any, ...]:
        """Return `(inputs,)`, `(inputs, targets)` or `(inputs, targets, sample_weight)`.

        Raises:
            KzooError: strings without a tokenizer, arrays of the wrong shape, labels outside the classes.
        """
        context = self._context()
        if is_text(x) and y is not None and self.targets in WITH_OFFSETS:
            texts = self._texts(x)
            encoding = self._encode(texts, offsets=True)
            inputs = self._padded(encoding, length)
            context = replace(
                context,
                texts=texts,
                offsets=encoding.offsets,
                words=encoding.word_ids,
                parts=encoding.sequence_ids,
            )
        else:
            inputs = self.inputs(x, length)
        inputs, targets = self.targets(inputs, y, context)
        if targets is None:
            return (inputs,)
        return (inputs, targets) if sample_weight is None else (inputs, targets, np.asarray(sample_weight))

    def inputs(self, x: Any, length: int | None = None) -> dict[str, Any]:
        """Return inputs by name of texts, arrays, or a dict of arrays."""
        if is_text(x):
            return self._encode_texts(x, length)
        inputs = dict(x) if isinstance(x, dict) else {self.input_names[0]: x}
        for name in inputs:
            if name not in self.input_names:
                raise KzooError(f"Unknown input '{name}': the model takes {', '.join(self.input_names)}.")
        if is_text(inputs.get("input_ids")):
            inputs |= self._encode_texts(inputs["input_ids"], length)
        if "pixel_values" in inputs:
            inputs["pixel_values"] = self._pixels(inputs["pixel_values"])
        for name, value in inputs.items():
            if isinstance(value, list):
                inputs[name] = _as_array(name, value)
            if name.endswith("input_ids") and self.max_length is not None and np.ndim(value) == 2:
                _check_length(np.shape(value)[1], self.max_length)
        return inputs

    def _texts(self, x: Any) -> list[Any]:
        texts = to_texts(x)
        if self.joins_words:
            return [text if isinstance(text, str) else " ".join(text) for text in texts]
        return texts

    def _encode(self, texts: list[Any], offsets: bool = False, target: bool = False) -> Encoding:
        if self.tokenizer is None or self.max_length is None:
            raise KzooError(
                "The model was given strings, but it has no tokenizer. Two ways to get one: pass "
                "tokenizer='tokenizer.json' when building the model (or set model.tokenizer), or train one with "
                "kzoo.text.Tokenizer.train(texts, vocab_size=8000)."
                if "input_ids" in self.input_names
                else "The model reads images; it was given strings. Open the files first, as uint8 arrays."
            )
        return self.tokenizer.encode(texts, max_length=self.max_length, offsets=offsets, target=target)

    def _encode_texts(self, x: Any, length: int | None = None) -> dict[str, np.ndarray]:
        return self._padded(self._encode(self._texts(x)), length)

    def _encode_targets(self, y: Any) -> dict[str, np.ndarray]:
        return self._padded(self._encode(self._texts(y), target=True), None)

    def _padded(self, encoding: Encoding, length: int | None) -> dict[str, np.ndarray]:
        found = encoding.input_ids.shape[1]
        size = length or bucket_length(found, self.max_length or found)
        arrays = {
            "input_ids": (encoding.input_ids, self.tokenizer.pad_id if self.tokenizer else 0),
            "attention_mask": (encoding.attention_mask, 0),
            "token_type_ids": (encoding.token_type_ids, 0),
        }
        return {
            name: np.pad(array, ((0, 0), (0, size - array.shape[1])), constant_values=padding).astype("int32")
            for name, (array, padding) in arrays.items()
            if name in self.input_names
        }

    def _pixels(self, x: Any) -> Any:
        image = self.image
        if image is None:
            return x
        shape = tuple(np.shape(x))
        if len(shape) == 3 and image.channels == 1:
            x, shape = np.asarray(x)[..., None], (*shape, 1)
        if shape[1:] != (image.height, image.width, image.channels):
            raise KzooError(
                f"The images have shape {shape}; the model takes (batch, {image.height}, {image.width}, "
                f"{image.channels}). Resize them with kzoo.vision.preprocess, or build the model with another "
                "image_size or num_channels."
            )
        if isinstance(x, np.ndarray) and x.dtype == np.uint8:
            mean, std = np.asarray(image.mean, "float32"), np.asarray(image.std, "float32")
            return (x.astype("float32") / 255 - mean) / std
        return x

    def _context(self) -> TargetContext:
        context = TargetContext(
            num_classes=self.num_classes or 0,
            labels=self.labels,
            encode_targets=self._encode_targets,
            is_text=is_text,
            start_id=None,
            learns=self.learns,
        )
        tokenizer = self.tokenizer
        if tokenizer is None:
            return context
        return replace(
            context,
            start_id=tokenizer.start_id,
            mask_id=tokenizer.mask_id,
            special_ids=tokenizer.special_ids,
            vocab_size=tokenizer.vocab_size,
        )


def _as_array(name: str, rows: list[Any]) -> np.ndarray:
    try:
        array = np.asarray(rows)
    except ValueError:
        raise KzooError(
            f"The rows of {name} differ in length: pad them, and give an attention_mask."
        ) from None
    if array.dtype.kind not in "biuf":
        raise KzooError(
            f"{name} holds what is no number, such as {array.flat[0]!r}: give numbers, or texts alone."
        )
    return array


def _check_length(length: int, max_length: int) -> None:
    if length > max_length:
        raise KzooError(
            f"The sequences have {length} tokens, the model takes {max_length}: cut them, or build the model "
            f"with max_positions={length} or more."
        )
