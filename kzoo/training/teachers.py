"""What a teacher makes of texts or images, kept on disk for every epoch that a student learns from it."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from kzoo.errors import KzooError

_CHUNK = 256
_BATCH = 32
Rows = Mapping[str, Sequence[np.ndarray]]


@dataclass(frozen=True)
class Wanted:
    """What is asked of a model: outputs by name, and hidden states and attention maps by layer.

    Attributes:
        outputs: such as `("logits",)`.
        hidden: layers, 0 for what enters the first block.
        attention: layers, from 1.
        mean_heads: whether a layer's heads are averaged.
    """

    outputs: tuple[str, ...] = ()
    hidden: tuple[int, ...] = ()
    attention: tuple[int, ...] = ()
    mean_heads: bool = False

    @property
    def per_token(self) -> bool:
        """Whether there is anything with an axis of tokens."""
        return bool(self.hidden or self.attention)


def observe(model: Any, inputs: Any, wanted: Wanted, training: bool = False) -> dict[str, Any]:
    """Return a kzoo model's outputs by name, with `hidden_0` and `attention_1` and so on, as they are wanted."""
    outputs, features = model.call_with_features(inputs, training, attention=bool(wanted.attention))
    found = {name: outputs[name] for name in wanted.outputs}
    found |= {f"hidden_{layer}": features["hidden_states"][layer] for layer in wanted.hidden}
    for layer in wanted.attention:
        weights = features["attention"][layer - 1]
        found[f"attention_{layer}"] = (
            keras.ops.mean(weights, axis=1, keepdims=True) if wanted.mean_heads else weights
        )
    return found


class Teacher(Protocol):
    """Gives rows for texts or images."""

    def digest(self) -> str:
        """Return what tells this teacher from others."""
        ...

    def rows(self, x: Any, wanted: Wanted) -> Rows:
        """Return for each wanted name an array for each of `x`, without padding."""
        ...


class KerasTeacher:
    """A kzoo model as a teacher.

    Args:
        model: any, with a tokenizer if it reads texts.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._observed: dict[Wanted, keras.Model] = {}

    def digest(self) -> str:
        """Return the sha256 of config, tokenizer and weights."""
        digest = hashlib.sha256(json.dumps(self.model.get_config(), sort_keys=True, default=str).encode())
        if getattr(self.model, "tokenizer", None) is not None:
            digest.update(self.model.tokenizer.to_json().encode())
        for variable in self.model.weights:
            digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value)).tobytes())
        return digest.hexdigest()

    def rows(self, x: Any, wanted: Wanted) -> Rows:
        """Return for each wanted name an array for each of `x`, without padding."""
        if wanted not in self._observed:
            self._observed[wanted] = _Observed(self.model, wanted)
        inputs = self.model._encoder.inputs(x)
        found = self._observed[wanted].predict_on_batch(inputs)
        sizes = np.asarray(inputs["attention_mask"]).sum(axis=1) if "attention_mask" in inputs else None
        return {name: _unpadded(name, np.asarray(value), sizes) for name, value in found.items()}


class BundleTeacher:
    """A pipeline from `kzoo.load` as a teacher: of a graph that serves, only the results are to be had.

    Args:
        pipeline: for classes, several labels, numbers, or embeddings.
        labels: the student's, in order.

    Raises:
        KzooError: the pipeline is for another task, or other labels.
    """

    def __init__(self, pipeline: Any, labels: Sequence[str] | None) -> None:
        tasks = ("classification", "image_classification", "multilabel", "regression", "embedding")
        if pipeline.task not in tasks:
            raise KzooError(
                f"The bundle '{pipeline.name}' is for the task '{pipeline.task}'; one that teaches is for "
                f"{', '.join(tasks)}. A Keras model teaches others too."
            )
        self.pipeline = pipeline
        wanted, known = list(labels or ()), pipeline.manifest.labels or list(labels or ())
        if sorted(known) != sorted(wanted):
            raise KzooError(
                f"The bundle '{pipeline.name}' has the classes {', '.join(known)}, and the student "
                f"{', '.join(wanted) or 'no names of its own: build it with labels=[...]'}."
            )
        self._order = [known.index(label) for label in wanted]

    def digest(self) -> str:
        """Return the sha256 of the manifest, which has those of the bundle's files."""
        return hashlib.sha256(self.pipeline.manifest.model_dump_json().encode()).hexdigest()

    def rows(self, x: Any, wanted: Wanted) -> Rows:
        """Return for each wanted name an array for each of `x`."""
        task = self.pipeline.task
        if task == "embedding":
            return {"embedding": list(self.pipeline(list(x)))}
        if task == "regression":
            return {"logits": [np.array([result["score"]]) for result in self.pipeline(list(x))]}
        chances = np.clip(self.pipeline.probabilities(list(x))[:, self._order], 1e-7, 1 - 1e-7)
        return {"logits": list(np.log(chances) - (np.log1p(-chances) if task == "multilabel" else 0.0))}


class _Observed(keras.Model):
    """Runs a model compiled, and shows what is wanted of it."""

    def __init__(self, model: Any, wanted: Wanted) -> None:
        super().__init__(name="observed")  # TensorFlow takes no name with a line in front
        self.model, self.wanted = model, wanted
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """Return what is wanted."""
        return observe(self.model, inputs, self.wanted, training)


def _unpadded(name: str, values: np.ndarray, sizes: np.ndarray | None) -> Sequence[np.ndarray]:
    if sizes is None or not name.startswith(("hidden", "attention")):
        return list(values)
    if name.startswith("hidden"):
        return [row[:size] for row, size in zip(values, sizes, strict=True)]
    return [row[:, :size, :size] for row, size in zip(values, sizes, strict=True)]


class TeacherOutputs:
    """A teacher's outputs for texts or images, on disk as float16, read through memory maps.

    They lie in a folder that is named by what made them: teacher, data, and what was asked for. Making them goes on
    where it was stopped.

    Args:
        teacher: asked only for what is not yet on disk.
        x: texts, or one array of images.
        wanted: what to ask.
        folder: where the folder lies.

    Attributes:
        names: what there is.
        path: the folder.
    """

    def __init__(self, teacher: Teacher, x: Any, wanted: Wanted, folder: Path) -> None:
        key = hashlib.sha256(f"{teacher.digest()} {_digest(x)} {wanted}".encode()).hexdigest()
        self.path = folder / key[:32]
        self.path.mkdir(parents=True, exist_ok=True)
        progress = self._progress()
        while progress["done"] < len(x):
            progress = self._write_chunk(teacher, x, wanted, progress)
        self.names: dict[str, list[int]] = progress["shapes"]
        shape = (len(x), len(self.names))
        ends = np.fromfile(self.path / "ends", np.int64)[: math.prod(shape)].reshape(shape).T
        sizes = np.fromfile(self.path / "sizes", np.int64)[: len(x)]
        self.sizes = sizes
        self._ends = dict(zip(self.names, ends, strict=True))
        self._values = {
            name: np.memmap(self.path / name, np.float16, "r", shape=(int(self._ends[name][-1]),))
            for name in self.names
        }

    def take(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """Return float32 arrays by name of some rows, those with an axis of tokens cut or padded to `length`."""
        return {name: self._take(name, rows, length) for name in self.names}

    def _take(self, name: str, rows: np.ndarray, length: int) -> np.ndarray:
        shape, values, ends = self.names[name], self._values[name], self._ends[name]
        full = [length if size < 0 else size for size in shape]
        batch = np.zeros((len(rows), *full), np.float32)
        for place, row in zip(batch, rows, strict=True):
            flat = values[ends[row - 1] if row else 0 : ends[row]]
            size = int(self.sizes[row])
            own = [size if axis < 0 else axis for axis in shape]
            kept = flat.reshape(own)[tuple(slice(0, axis) for axis in full)]
            place[tuple(slice(0, axis) for axis in own)] = kept
        return batch

    def _progress(self) -> dict[str, Any]:
        """Return how far an earlier process came, and cut its files back to there."""
        file = self.path / "progress.json"
        progress = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"bytes": {}}
        found = {
            name: (self.path / name).stat().st_size
            for name in progress["bytes"]
            if (self.path / name).is_file()
        }
        if not found or any(found.get(name, 0) < size for name, size in progress["bytes"].items()):
            return {"done": 0, "shapes": {}, "bytes": {}}
        for name, size in progress["bytes"].items():
            if found[name] > size:
                os.truncate(self.path / name, size)
        return progress

    def _write_chunk(
        self, teacher: Teacher, x: Any, wanted: Wanted, progress: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Ask the teacher of the next examples, and return how far it is then."""
        first = progress["done"]
        found = _ask(teacher, x[first : first + _CHUNK], wanted)
        count = len(next(iter(found.values())))
        shapes = {name: _free_shape(name, rows[0]) for name, rows in found.items()}
        before = {name: progress["bytes"].get(name, 0) // 2 for name in found}
        lengths = np.array([[row.size for row in rows] for rows in found.values()])
        ends = np.cumsum(lengths, axis=1) + np.array([*before.values()])[:, None]
        tokens = [name for name in found if name.startswith(("hidden", "attention"))]
        sizes = [row.shape[-2] for row in found[tokens[0]]] if tokens else [0] * count
        contents = {"ends": ends.T.astype(np.int64), "sizes": np.array(sizes, np.int64)}
        contents |= {name: _flat(name, rows) for name, rows in found.items()}
        written = {}
        for name, values in contents.items():
            # Not to be appended to by whoever comes after a process that was killed here: see `_progress`.
            with (self.path / name).open("r+b" if first else "wb") as file:
                file.seek(progress["bytes"].get(name, 0))
                file.write(np.ascontiguousarray(values).tobytes())
                file.flush()
                os.fsync(file.fileno())
                written[name] = file.tell()
        progress = {"done": first + count, "shapes": shapes, "bytes": written}
        temporary = self.path / "progress.json.partial"
        temporary.write_text(json.dumps(progress), encoding="utf-8")
        temporary.replace(self.path / "progress.json")
        return progress


def _ask(teacher: Teacher, x: Any, wanted: Wanted) -> dict[str, list[np.ndarray]]:
    """Return the teacher's rows of some examples, asked in batches of like length."""
    order = np.arange(len(x))
    if not hasattr(x, "shape"):
        order = np.argsort([len(text) if isinstance(text, str) else sum(map(len, text)) for text in x])
    found: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(order), _BATCH):
        places = order[start : start + _BATCH]
        batch = x[places] if hasattr(x, "shape") else [x[place] for place in places]
        for name, rows in teacher.rows(batch, wanted).items():
            target = found.setdefault(name, [np.empty(0)] * len(order))
            for place, row in zip(places, rows, strict=True):
                target[place] = row
    return found


def _free_shape(name: str, row: np.ndarray) -> list[int]:
    """Return a row's shape, -1 for the axes of tokens."""
    if name.startswith("hidden"):
        return [-1, row.shape[1]]
    return [row.shape[0], -1, -1] if name.startswith("attention") else list(row.shape)


def _flat(name: str, rows: Sequence[np.ndarray]) -> np.ndarray:
    flat = np.concatenate([row.ravel() for row in rows])
    if not np.isfinite(flat).all():
        raise KzooError(f"The teacher's {name} are no numbers: it cannot teach.")
    return np.clip(flat, *(np.finfo(np.float16).min, np.finfo(np.float16).max)).astype(np.float16)


def _digest(x: Any) -> str:
    """Return the sha256 of texts, pairs, or an array of images."""
    digest = hashlib.sha256()
    if hasattr(x, "shape"):
        digest.update(f"{x.dtype} {x.shape} ".encode())
        digest.update(np.ascontiguousarray(x).tobytes())
    else:
        for part in _lines(x):
            digest.update(part)
    return digest.hexdigest()


def _lines(texts: Sequence[Any]) -> Iterator[bytes]:
    for text in texts:
        yield json.dumps(text).encode() + b"\n"
