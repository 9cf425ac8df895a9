"""What a student learns from: examples, labels where there are any, and what the teacher makes of all of them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from kzoo.errors import KzooError
from kzoo.training import batches
from kzoo.training.teachers import BundleTeacher, KerasTeacher, Teacher, TeacherOutputs, Wanted, observe

# Texts that are split together, to be compared.
_COMPARED = 1024


class TeacherShape(NamedTuple):
    """What a student must know of its teacher beforehand; None where the teacher has none, or does not show it."""

    num_layers: int | None = None
    num_heads: int | None = None
    hidden_dim: int | None = None
    embedding_dim: int | None = None

    @classmethod
    def of(cls, teacher: Any) -> TeacherShape:
        """Return the shape of a kzoo model, or of a pipeline."""
        if isinstance(teacher, keras.Model):
            config, blocks = teacher.backbone.config, len(teacher.backbone.all_blocks())
            # Of several stacks, or of blocks that run several times, the layers have no one order.
            layers = blocks if blocks == config.num_layers else None
            return cls(layers, getattr(config, "num_heads", None), config.hidden_dim, config.hidden_dim)
        outputs = {spec.name: spec.shape for spec in teacher.manifest.graphs["model"].outputs}
        width = outputs.get("embedding", [None])[-1]
        return cls(embedding_dim=width if isinstance(width, int) else None)


class Lesson:
    """What Keras is to know nothing of: the teacher, its outputs on disk, and the texts without labels."""

    def __init__(
        self, student: Any, teacher: Any, shape: TeacherShape, unlabelled: Any, cache: str | Path | None
    ) -> None:
        self.student, self.teacher, self.shape, self.unlabelled = student, teacher, shape, unlabelled
        if cache is None:
            # Kept, since the folder goes when this does.
            self._temporary = tempfile.TemporaryDirectory(prefix="kzoo-teacher-")
            cache = self._temporary.name
        self.folder = Path(cache)
        if (
            isinstance(teacher, keras.Model)
            and student.labels
            and teacher.labels not in (None, student.labels)
        ):
            raise KzooError(
                f"The teacher's classes are {teacher.labels}, the student's {student.labels}: build the student with "
                "labels=teacher.labels."
            )

    def prepare(
        self,
        x: Any,
        y: Any = None,
        weights: Any = None,
        *,
        wanted: Wanted,
        needs_labels: bool,
        to_learn: bool = False,
    ) -> tuple[Any, Any, LessonEncoder]:
        """Return examples and targets, and what makes batches of them.

        Of what is to learn from, those without labels are a part, and most must be split alike.
        """
        if needs_labels and y is None:
            raise KzooError(
                "The labels' loss has a weight, and there are no labels: give y, or another weights=...."
            )
        if not batches.is_text(x) and not hasattr(x, "shape"):
            raise KzooError("A teacher is asked of texts, or of one array of images: give a list of strings.")
        x = batches.to_texts(x) if batches.is_text(x) else np.asarray(x)
        labelled = np.ones(len(x), np.float32) if weights is None else np.asarray(weights, np.float32)
        more = self.unlabelled if to_learn else ()
        if len(more):
            if self.student.task == "tokens":
                raise KzooError("Texts without labels are for tasks with one label a text.")
            labelled = np.concatenate([labelled, np.zeros(len(more), np.float32)])
            x = [*x, *batches.to_texts(more)] if isinstance(x, list) else np.concatenate([x, more])
            if y is not None:
                # Some label must stand there; its weight is 0.
                y = [*y, *[y[0]] * len(more)]
        source = self._source()
        targets = {"row": np.arange(len(x)), "labelled": labelled, "labels": y}
        if wanted.per_token:
            # Before the teacher is asked, which takes a while.
            targets["same_pieces"] = self._same_patches(x) if hasattr(x, "shape") else self._same_pieces(x)
            if to_learn:
                self._refuse_most(x, targets["same_pieces"])
        outputs = TeacherOutputs(source, x, wanted, self.folder)
        return x, targets, LessonEncoder(self.student._encoder, outputs)

    def _source(self) -> Teacher:
        if isinstance(self.teacher, TeacherShape):
            raise KzooError(
                "This was opened from a file, which does not hold the teacher: make a new Distillation."
            )
        if isinstance(self.teacher, keras.Model):
            return KerasTeacher(self.teacher)
        return BundleTeacher(self.teacher, self.student.labels)

    def _same_patches(self, images: np.ndarray) -> np.ndarray:
        """Return 1 for each image, float32 (n,).

        Raises:
            KzooError: student and teacher make another number of patches of an image.
        """
        found, wanted = (
            observe(model, model._encoder.inputs(images[:1]), Wanted(hidden=(0,)))["hidden_0"].shape[1]
            for model in (self.student, self.teacher)
        )
        if found != wanted:
            raise KzooError(
                f"An image is {wanted} tokens for the teacher and {found} for the student: hidden states and "
                "attention are learnt token by token. Give both the same image_size and patch_size, or leave these "
                "weights out."
            )
        return np.ones(len(images), np.float32)

    def _same_pieces(self, texts: list[Any]) -> np.ndarray:
        """Return 1 for each text that student and teacher split alike, and 0 for others, float32 (n,)."""
        same = np.zeros(len(texts), np.float32)
        known = self.teacher.tokenizer.vocabulary
        ids = np.full(self.student.tokenizer.vocab_size, -1)
        for entry, index in self.student.tokenizer.vocabulary.items():
            ids[index] = known.get(entry, -1)
        for start in range(0, len(texts), _COMPARED):
            chunk = texts[start : start + _COMPARED]
            pairs = zip(*(_pieces(model, chunk) for model in (self.student, self.teacher)), strict=True)
            same[start : start + len(chunk)] = [np.array_equal(ids[own], others) for own, others in pairs]
        return same

    @staticmethod
    def _refuse_most(x: Any, same: np.ndarray) -> None:
        """Refuse texts of which most are split otherwise, as by tokenizers of which neither came from the other."""
        if 2 * same.sum() < len(x):
            raise KzooError(
                f"The student splits {int(len(x) - same.sum()):,} of {len(x):,} texts into other tokens than the "
                f"teacher, such as {x[int(np.flatnonzero(same == 0)[0])]!r}: hidden states and attention are learnt "
                "token by token. Give both the same tokenizer and max_length, prune less of the vocabulary, or leave "
                "these weights out."
            )


def _pieces(model: Any, texts: Any) -> list[np.ndarray]:
    """Return the ids of each text's tokens."""
    inputs = model._encoder.inputs(texts)
    return [row[mask > 0] for row, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]


class LessonEncoder:
    """Makes a batch's inputs for the student, and what it is to learn of them.

    Args:
        encoder: the student's own.
        outputs: the teacher's.
    """

    def __init__(self, encoder: batches.Encoder, outputs: TeacherOutputs) -> None:
        self.encoder, self.outputs = encoder, outputs

    def __call__(
        self, x: Any, y: Any = None, sample_weight: Any = None, length: int | None = None
    ) -> tuple[Any, ...]:
        """Return inputs by name, and the targets of all parts of the loss."""
        encoded = self.encoder(x, y["labels"], None, length)
        inputs = encoded[0]
        tokens = inputs["input_ids"].shape[1] if "input_ids" in inputs else int(self.outputs.sizes[0])
        targets = {name: np.asarray(y[name]) for name in ("labelled", "same_pieces") if name in y}
        targets |= self.outputs.take(np.asarray(y["row"]), tokens)
        return inputs, {**targets, "labels": encoded[1]} if len(encoded) > 1 else targets
