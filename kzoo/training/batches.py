"""Batches: whatever a user gives `fit`, turned into what Keras takes."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np

from kzoo.errors import KzooError

# Lengths that batches of texts are padded to: few, so that compiled backends compile few shapes.
_LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
# Texts are sorted by length within this many batches, so that those of a batch need little padding.
_SORTED_BATCHES = 32


class Encoder(Protocol):
    """Turns one raw batch into inputs by name and targets.

    One with an attribute `draws` that is true does so by chance, each time in another way.
    """

    def __call__(
        self, x: Any, y: Any = None, sample_weight: Any = None, length: int | None = None
    ) -> tuple[Any, ...]:
        """Return `(inputs,)`, `(inputs, targets)` or `(inputs, targets, sample_weight)`."""


class KerasData(NamedTuple):
    """What goes to Keras; unpacks to the first three arguments of `keras.Model.fit`."""

    x: Any
    y: Any = None
    sample_weight: Any = None

    @property
    def is_shuffled(self) -> bool:
        """Whether the data shuffles itself, or cannot be shuffled."""
        return self.y is None and not isinstance(self.x, dict)


def is_text(x: Any) -> bool:
    """Return whether `x` is a batch of strings, or of pairs of strings."""
    if isinstance(x, (list, tuple)):
        first = x[0] if x else None
        return isinstance(first, str) or (
            isinstance(first, (list, tuple)) and bool(first) and all(isinstance(part, str) for part in first)
        )
    dtype = getattr(x, "dtype", None)
    if dtype is None:
        return False
    if getattr(dtype, "name", "") == "string":
        return True
    kind = getattr(dtype, "kind", "")
    return kind in ("U", "S") or (
        kind == "O" and len(x) > 0 and isinstance(np.asarray(x).flat[0], (str, bytes))
    )


def to_texts(x: Any) -> list[Any]:
    """Return a batch of strings, or of pairs of strings, as a list of str or of tuples."""
    values = x.numpy() if hasattr(x, "numpy") else x
    items = values.tolist() if hasattr(values, "tolist") else list(values)

    def text(item: Any) -> Any:
        if isinstance(item, (list, tuple)):
            return tuple(text(part) for part in item)
        return item.decode() if isinstance(item, bytes) else item

    return [text(item) for item in items]


def bucket_length(length: int, max_length: int) -> int:
    """Return the length to pad to: the next of a few, at most `max_length`.

    Example:
        >>> bucket_length(50, 512)
        64
    """
    return min(next((bucket for bucket in _LENGTHS if bucket >= length), length), max_length)


class EncodedBatches(keras.utils.PyDataset):
    """Texts or arrays in batches, shuffled anew each epoch, texts of like length together, encoded when asked for.

    Args:
        x: strings, pairs of them, an array, or a dict of arrays.
        y: labels, one a text, or None.
        sample_weight: weights, one a text, or None.
        encoder: makes a batch's inputs and targets.
        batch_size: texts a batch.
        shuffle: whether to shuffle; if not, the order of `texts` is kept.
        length: length that all batches are padded to; by default each to its own.
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        sample_weight: Any,
        encoder: Encoder,
        batch_size: int,
        shuffle: bool,
        length: int | None = None,
    ) -> None:
        super().__init__()
        self.x, self.y, self.sample_weight = x, y, sample_weight
        self.encoder, self.batch_size, self.shuffle, self.length = encoder, batch_size, shuffle, length
        self.batches: list[np.ndarray] = []
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-_size(self.x) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        rows = self.batches[index]
        return self.encoder(
            _rows(self.x, rows),
            _rows(self.y, rows),
            _rows(self.sample_weight, rows),
            self.length,
        )

    def on_epoch_end(self) -> None:
        """Make the next epoch's batches."""
        order = np.arange(_size(self.x))
        if self.shuffle:
            order = np.random.permutation(order)
            window = self.batch_size * _SORTED_BATCHES
            sizes = np.array([*map(_text_size, self.x)]) if is_text(self.x) else np.zeros(len(order))
            order = np.concatenate(
                [
                    chunk[np.argsort(sizes[chunk], kind="stable")]
                    for chunk in np.split(order, range(window, len(order), window))
                ]
            )
        self.batches = np.split(order, range(self.batch_size, len(order), self.batch_size))
        if self.shuffle:
            self.batches = [self.batches[index] for index in np.random.permutation(len(self.batches))]


def _text_size(text: Any) -> int:
    return len(text) if isinstance(text, str) else sum(map(len, text))


def _rows(values: Any, rows: np.ndarray) -> Any:
    if values is None:
        return None
    if isinstance(values, dict):
        return {name: _rows(value, rows) for name, value in values.items()}
    return values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]


class _EncodedDataset(keras.utils.PyDataset):
    """A user's `PyDataset`, each batch encoded."""

    def __init__(self, dataset: keras.utils.PyDataset, encoder: Encoder) -> None:
        super().__init__(
            workers=dataset.workers,
            use_multiprocessing=dataset.use_multiprocessing,
            max_queue_size=dataset.max_queue_size,
        )
        self.dataset = dataset
        self.encoder = encoder

    @property
    def num_batches(self) -> int | None:
        """Number of batches of the user's dataset."""
        return self.dataset.num_batches

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return self.encoder(*_as_tuple(self.dataset[index]))

    def on_epoch_begin(self) -> None:
        """Pass it on."""
        self.dataset.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Pass it on."""
        self.dataset.on_epoch_end()


def encode(
    x: Any,
    y: Any,
    sample_weight: Any,
    encoder: Encoder,
    batch_size: int | None = None,
    shuffle: bool = False,
    one_length: bool = False,
) -> KerasData:
    """Return what Keras' trainer takes in place of a user's data.

    Args:
        x: texts, arrays, a dict of arrays, `tf.data.Dataset`, `PyDataset`, torch `DataLoader`, or a generator.
        y: labels, with texts and arrays.
        sample_weight: weights, with texts and arrays.
        encoder: makes a batch's inputs and targets.
        batch_size: examples a batch; 32 unless given.
        shuffle: whether to shuffle texts.
        one_length: pad all texts to one length, so that outputs can be joined.

    Raises:
        KzooError: empty or unequal data, or a lone string.
    """
    if isinstance(x, (str, bytes)):
        raise KzooError("Give a list of texts, not a lone string: [text].")
    if _is_tf_dataset(x):
        return KerasData(_encode_tf_dataset(x, encoder))
    if isinstance(x, keras.utils.PyDataset):
        return KerasData(_for_backend(_EncodedDataset(x, encoder), x.num_batches))
    if _is_torch_loader(x):
        return KerasData(_encode_torch_loader(x, encoder))
    if isinstance(x, Iterator):
        return KerasData(_encode_iterator(x, encoder))
    _check_sizes(x, y, sample_weight)
    if not is_text(x):
        if y is not None or not getattr(encoder, "draws", False):
            return KerasData(*encoder(x, y, sample_weight))
        drawn = EncodedBatches(x, None, sample_weight, encoder, batch_size or 32, shuffle)
        return KerasData(_for_backend(drawn, len(drawn)))
    texts = to_texts(x)
    for index, text in enumerate(texts):
        if not isinstance(text, (str, tuple)):
            raise KzooError(
                f"Text {index} is of type {type(text).__name__}; expected a string or a pair of them."
            )
    length = None
    if one_length:
        length = max(
            next(iter(encoder(texts[i : i + 1024])[0].values())).shape[1] for i in range(0, len(texts), 1024)
        )
    batches = EncodedBatches(texts, y, sample_weight, encoder, batch_size or 32, shuffle, length)
    return KerasData(_for_backend(batches, len(batches)))


def encode_validation(data: Any, encoder: Encoder, batch_size: int | None) -> Any:
    """Return `validation_data` as Keras takes it: a tuple of arrays, or a dataset."""
    if isinstance(data, (tuple, list)):
        x, y, sample_weight = _as_tuple(tuple(data), fill=True)
        encoded = encode(x, y, sample_weight, encoder, batch_size)
        return encoded.x if encoded.is_shuffled else tuple(part for part in encoded if part is not None)
    return encode(data, None, None, encoder).x


def split(x: Any, y: Any, sample_weight: Any, share: float) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Split arrays or texts into a first part and a last one of the given share, as Keras does.

    Raises:
        KzooError: data that cannot be split, or a share that leaves one part empty.
    """
    if not isinstance(x, (list, tuple, dict)) and not hasattr(x, "shape"):
        raise KzooError("validation_split needs arrays or texts; give a dataset's part as validation_data.")
    _check_sizes(x, y, sample_weight)
    size = _size(x)
    cut = int(size * (1.0 - share))
    if not 0 < cut < size:
        raise KzooError(f"validation_split={share} of {size} examples leaves one part empty.")

    def part(values: Any, rows: slice) -> Any:
        if isinstance(values, dict):
            return {name: value[rows] for name, value in values.items()}
        return None if values is None else values[rows]

    first, last = slice(None, cut), slice(cut, None)
    held = tuple(part(values, last) for values in (x, y, sample_weight))
    return tuple(part(values, first) for values in (x, y, sample_weight)), held


def infer_labels(y: Any, num_classes: int) -> list[str] | None:
    """Return the classes' names, sorted, if `y` is names; None if it is not, or not to be looked through.

    Raises:
        KzooError: there are more names than classes, or fewer.
    """
    if y is None or not is_text(y):
        return None
    names = sorted({part for item in to_texts(y) for part in (item if isinstance(item, tuple) else (item,))})
    if len(names) != num_classes:
        raise KzooError(
            f"The labels have {len(names)} different names ({', '.join(names[:10])}…), the model "
            f"num_classes={num_classes}: build it with labels=[...] or num_classes={len(names)}."
        )
    return names


def count(x: Any, batch_size: int | None) -> int | None:
    """Return the number of batches an epoch of what `encode` returned, or None if it cannot be told."""
    if isinstance(x, keras.utils.PyDataset):
        return x.num_batches
    if _is_tf_dataset(x):
        batches = int(x.cardinality())
        return batches if batches > 0 else None
    if isinstance(x, dict):
        return -(-_size(x) // (batch_size or 32))
    return _length(x)


def _as_tuple(batch: Any, fill: bool = False) -> tuple[Any, ...]:
    parts = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
    return parts + (None,) * (3 - len(parts)) if fill else parts


def _size(x: Any) -> int:
    first = next(iter(x.values()), ()) if isinstance(x, dict) else x
    return len(first)


def _check_sizes(x: Any, y: Any, sample_weight: Any) -> None:
    if x is None or not hasattr(x, "__len__"):
        raise KzooError(f"Cannot learn from a {type(x).__name__}: give texts, arrays, or a dataset.")
    size = _size(x)
    if size == 0:
        raise KzooError("x is empty: give at least one example.")
    for name, values in (("y", y), ("sample_weight", sample_weight)):
        if values is not None and not isinstance(values, dict) and len(values) != size:
            raise KzooError(f"x has {size} examples, {name} has {len(values)}.")


def _is_tf_dataset(x: Any) -> bool:
    tf = sys.modules.get("tensorflow")
    return tf is not None and isinstance(x, tf.data.Dataset)


def _is_torch_loader(x: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.utils.data.DataLoader)


def _free_signature(batch: Any) -> Any:
    import tensorflow as tf

    return keras.tree.map_structure(
        lambda array: tf.TensorSpec([None] * np.ndim(array), np.asarray(array).dtype), batch
    )


def _for_backend(dataset: keras.utils.PyDataset, num_batches: int | None) -> Any:
    """Return the dataset, or on TensorFlow a `tf.data` one."""
    if keras.backend.backend() != "tensorflow":
        return dataset
    is_first = True

    def epoch() -> Iterator[Any]:
        nonlocal is_first
        if not is_first:
            dataset.on_epoch_end()
        is_first = False
        for index in itertools.count() if num_batches is None else range(num_batches):
            yield dataset[index]

    return _tf_dataset(epoch, dataset[0], num_batches)


def _tf_dataset(epoch: Callable[[], Iterator[Any]], first: Any, num_batches: int | None) -> Any:
    """Return batches as a `tf.data` dataset whose shapes are free.

    Keras would guess them from the first batches, and fail at the first one of another length.
    """
    import tensorflow as tf

    dataset = tf.data.Dataset.from_generator(epoch, output_signature=_free_signature(first))
    if num_batches is not None:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(num_batches))
    return dataset.prefetch(2)


def _encode_iterator(batches: Iterator[Any], encoder: Encoder) -> Any:
    encoded = (encoder(*_as_tuple(batch)) for batch in batches)
    if keras.backend.backend() != "tensorflow":
        return encoded
    first = next(encoded, None)
    if first is None:
        raise KzooError("The generator is empty: give at least one batch.")
    rest = itertools.chain([first], encoded)
    return _tf_dataset(lambda: rest, first, None)


def _encode_tf_dataset(dataset: Any, encoder: Encoder) -> Any:
    import tensorflow as tf

    specs = keras.tree.flatten(dataset.element_spec)
    if not any(getattr(spec, "dtype", None) == tf.string for spec in specs):
        return dataset
    first = next(iter(dataset), None)
    if first is None:
        raise KzooError("The tf.data.Dataset is empty.")
    parts = len(first) if isinstance(first, tuple) else 1
    signature = _free_signature(encoder(*_as_tuple(first)))
    flat_signature = keras.tree.flatten(signature)

    def encode_batch(*batch: Any) -> Any:
        def run(*tensors: Any) -> list[Any]:
            return keras.tree.flatten(encoder(*(tensor.numpy() for tensor in tensors)))

        flat = tf.py_function(run, batch[:parts], [spec.dtype for spec in flat_signature])
        for tensor, spec in zip(flat, flat_signature, strict=True):
            tensor.set_shape(spec.shape)
        return keras.tree.pack_sequence_as(signature, flat)

    return dataset.map(encode_batch).prefetch(2)


def _encode_torch_loader(loader: Any, encoder: Encoder) -> Any:
    import torch

    collate: Callable[[Any], Any] = loader.collate_fn

    def encode_batch(items: Any) -> Any:
        return keras.tree.map_structure(torch.as_tensor, encoder(*_as_tuple(collate(items))))

    options: dict[str, Any] = {"num_workers": loader.num_workers, "collate_fn": encode_batch}
    if loader.batch_sampler is not None:
        options["batch_sampler"] = loader.batch_sampler
    else:
        options |= {"batch_size": loader.batch_size, "drop_last": loader.drop_last}
    encoded = torch.utils.data.DataLoader(loader.dataset, **options)
    if keras.backend.backend() != "tensorflow":
        return encoded

    def epoch() -> Iterator[Any]:
        for batch in encoded:
            yield keras.tree.map_structure(lambda tensor: tensor.numpy(), batch)

    first = next(epoch(), None)
    if first is None:
        raise KzooError("The DataLoader is empty: give at least one batch.")
    return _tf_dataset(epoch, first, _length(encoded))


def _length(sized: Any) -> int | None:
    """Return the number of batches, or None if it cannot be told, as of a stream."""
    try:
        return len(sized)
    except TypeError:
        return None
