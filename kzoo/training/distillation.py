"""Distillation: a student network that learns from what a larger one makes of texts or images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
from keras import ops

from kzoo.errors import KzooError, did_you_mean
from kzoo.training import batches
from kzoo.training.default_fit import DefaultFit
from kzoo.training.imitation import (
    EMBEDDING_LOSSES,
    attention_loss,
    embedding_loss,
    map_layers,
    mean_of_counted,
    softened_binary_loss,
    softened_loss,
    states_loss,
)
from kzoo.training.lessons import Lesson, TeacherShape
from kzoo.training.teachers import Wanted, observe

# How logits of each task that has any become probabilities; numbers stay what they are.
_LOGITS = {
    "classification": "softmax",
    "image_classification": "softmax",
    "next_sentence": "softmax",
    "tokens": "softmax",
    "multilabel": "sigmoid",
    "regression": "number",
}
PARTS = ("labels", "logits", "hidden", "attention", "embedding")


@keras.saving.register_keras_serializable("kzoo")
class Distillation(DefaultFit):
    """Trains a student on what a teacher makes of the same texts or images, and on labels where there are any.

    The loss is the weighted sum of its parts: `labels`, the task's own loss; `logits`, at a temperature (Hinton et
    al., 2015); `hidden`, hidden states, through learned projections where widths differ (Romero et al., 2015);
    `attention`, attention maps, their heads averaged where their numbers differ (Jiao et al., 2020); `embedding`,
    vectors of texts. The teacher is asked once for each text, before the first epoch.

    Args:
        student: a kzoo model; it is trained in place.
        teacher: a kzoo model, or a bundle that `kzoo.load` opened, of which logits or embeddings are to be had.
        weights: of the loss' parts, by name, those left out being 0; half each for labels and logits unless given,
            and for embeddings all on the embedding.
        temperature: what logits are divided by.
        layers: which of the teacher's layers the student's learn from, as for `map_layers`.
        embedding: how embeddings are compared, `"cosine"` or `"mse"`.
        cache: a folder where the teacher's outputs are kept, and found again by whoever asks the same; without one
            they are kept for as long as this object lives.
        unlabelled: more texts, or images, to learn from, for which there are no labels.

    Raises:
        KzooError: weights that are unknown or that the two have no use for, or models that do not fit each other.

    Example:
        >>> import kzoo
        >>> tokenizer = kzoo.text.Tokenizer.train(["good", "bad"], vocab_size=40)
        >>> options = dict(tokenizer=tokenizer, vocab_size=tokenizer.vocab_size, labels=["bad", "good"])
        >>> teacher, student = kzoo.models.bert_tiny(**options), kzoo.models.bert_tiny(num_layers=1, **options)
        >>> distillation = Distillation(student, teacher)
        >>> dict(distillation.part_weights)
        {'labels': 0.5, 'logits': 0.5}
        >>> distillation.fit(["good", "bad"], ["good", "bad"], epochs=3)  # doctest: +SKIP
    """

    def __init__(
        self,
        student: Any,
        teacher: Any,
        *,
        weights: Mapping[str, float] | None = None,
        temperature: float = 2.0,
        layers: str | Sequence[int] = "uniform",
        embedding: str = "cosine",
        cache: str | Path | None = None,
        unlabelled: Any = (),
        name: str | None = "distillation",
    ) -> None:
        super().__init__(name=name)
        self.student = student
        self.part_weights = _check_weights(student.task, weights)
        if temperature <= 0:
            raise KzooError(f"temperature={temperature} is not a positive number.")
        if embedding not in EMBEDDING_LOSSES:
            raise KzooError(
                f"Unknown embedding loss '{embedding}'.{did_you_mean(embedding, EMBEDDING_LOSSES)}"
            )
        self.temperature, self.embedding = temperature, embedding
        self.strategy = layers if isinstance(layers, str) else tuple(layers)
        shape = teacher if isinstance(teacher, TeacherShape) else TeacherShape.of(teacher)
        self._lesson = Lesson(student, teacher, shape, unlabelled, cache)
        self.pairs = self._layer_pairs(shape) if self._wants("hidden", "attention") else []
        self.mean_heads = shape.num_heads != getattr(student.backbone.config, "num_heads", 0)
        self.projections = self._make_projections(shape)
        self._task_loss, self._task_metrics = student.objective()
        self._labelled = True
        self._part_means = [keras.metrics.Mean(name=f"{part}_loss") for part in self.part_weights]
        self.built = True
        self._default_width = student.backbone.config.hidden_dim
        self.compile_defaults()

    def _wants(self, *parts: str) -> bool:
        return any(part in self.part_weights for part in parts)

    def _layer_pairs(self, shape: TeacherShape) -> list[tuple[int, int]]:
        """Return the student's layers, each with the teacher's; the first pair is what enters the blocks."""
        if shape.num_layers is None:
            raise KzooError(
                "The teacher shows neither hidden states nor attention, as a bundle does not: leave their weights "
                "out, or give a Keras model that is one stack of blocks."
            )
        backbone, count = self.student.backbone, self.student.backbone.config.num_layers
        if len(backbone.all_blocks()) != count or self.student.gradient_checkpointing:
            raise KzooError(
                f"This {type(backbone).__name__} shows no hidden states and attention to learn by: it is no single "
                "stack of blocks, or has gradient_checkpointing."
            )
        return [(0, 0), *enumerate(map_layers(self.strategy, count, shape.num_layers), start=1)]

    def _make_projections(self, shape: TeacherShape) -> dict[str, keras.layers.Dense]:
        """Make what turns the student's states and embedding into vectors of the teacher's width."""
        names = [f"hidden_{own}" for own, _ in self.pairs] if self._wants("hidden") else []
        widths: dict[str, int | None] = dict.fromkeys(names, shape.hidden_dim)
        if self._wants("embedding"):
            widths["embedding"] = shape.embedding_dim
        own = self.student.backbone.config.hidden_dim
        made = {
            name: keras.layers.Dense(width, use_bias=False, name=f"{name}_projection", dtype="float32")
            for name, width in widths.items()
            if width != own
        }
        for layer in made.values():
            layer.build((None, own))
        return made

    def _wanted(self, side: int) -> Wanted:
        """Return what to ask of the student (0) or the teacher (1)."""
        outputs = [part for part in ("logits", "embedding") if self._wants(part)]
        # Of the student's logits the labels' loss is made, too.
        if side == 0 and "logits" not in outputs and self.student.task in _LOGITS:
            outputs.append("logits")
        layers = [pair[side] for pair in self.pairs]
        return Wanted(
            outputs=tuple(outputs),
            hidden=tuple(layers) if self._wants("hidden") else (),
            attention=tuple(layers[1:]) if self._wants("attention") else (),
            mean_heads=self.mean_heads,
        )

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """Return the student's outputs that the loss is made of, as wide as the teacher's."""
        found = observe(self.student, inputs, self._wanted(0), training)
        return {
            name: self.projections[name](value) if name in self.projections else value
            for name, value in found.items()
        }

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the weighted sum of the loss' parts."""
        total = 0.0
        for mean, (part, weight) in zip(self._part_means, self.part_weights.items(), strict=True):
            loss = self._part_loss(part, x, y, y_pred)
            mean.update_state(loss)
            total += weight * loss
        return total

    def _part_loss(self, part: str, x: Any, y: Any, got: Any) -> Any:
        if part == "labels":
            return self._labels_loss(y, got)
        if part == "embedding":
            return ops.mean(embedding_loss(got["embedding"], y["embedding"], self.embedding))
        real = None
        if isinstance(x, dict) and "input_ids" in x:
            real = ops.cast(x.get("attention_mask", ops.ones_like(x["input_ids"])), "float32")
        if part == "logits":
            return self._logits_loss(got["logits"], y["logits"], real)
        compare = states_loss if part == "hidden" else attention_loss
        losses = [
            mean_of_counted(
                compare(ops.cast(got[f"{part}_{own}"], "float32"), y[f"{part}_{other}"], real),
                y["same_pieces"],
            )
            for own, other in self.pairs
            if f"{part}_{own}" in got
        ]
        return sum(losses) / len(losses)

    def _labels_loss(self, y: Any, got: Any) -> Any:
        if self.student.task == "tokens":
            return self._task_loss(y["labels"], got["logits"])
        loss = self._task_loss(y["labels"], got["logits"], sample_weight=y["labelled"])
        # Keras divides by all examples of the batch, those without labels too.
        return loss / ops.maximum(ops.mean(y["labelled"]), 1e-6)

    def _logits_loss(self, got: Any, wanted: Any, real: Any) -> Any:
        kind = _LOGITS[self.student.task]
        if kind == "number":
            return ops.mean(ops.square(got - wanted))
        compare = softened_loss if kind == "softmax" else softened_binary_loss
        losses = compare(got, wanted, self.temperature)
        if self.student.task != "tokens":
            return ops.mean(losses)
        return mean_of_counted(losses, real)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Return the loss, its parts, and the task's usual metrics, where there are labels."""
        for metric in self._task_metrics if "labels" in y else ():
            weight = None if self.student.task == "tokens" else ops.cast(y["labelled"] > 0, "float32")
            metric.update_state(y["labels"], y_pred["logits"], sample_weight=weight)
        return self.get_metrics_result()

    def get_metrics_result(self) -> dict[str, Any]:
        """Return the loss, its parts, and the task's usual metrics, where there are labels."""
        unknown = [] if self._labelled else [metric.name for metric in self._task_metrics]
        return {name: value for name, value in super().get_metrics_result().items() if name not in unknown}

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        *,
        sample_weight: Any = None,
        validation_data: Any = None,
        validation_batch_size: int | None = None,
        shuffle: bool = True,
        initial_epoch: int = 0,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Ask the teacher for what is not on disk, and train the student.

        Until `compile` is called, each `fit` trains with the optimizer that a kzoo model's own `fit` does.

        Args:
            x: texts (or pairs of texts, as tuples), or an array of images.
            y: labels, as the student's own `fit` takes them; without any, the labels' weight is 0.
            batch_size: examples a step; 32 unless given.
            epochs: passes over the data.
            sample_weight: (n,) how much each example's label counts; the teacher's outputs all count the same.
            validation_data: `(x, y)`, or `(x,)`.
            validation_batch_size: as `batch_size`, while validating.
            shuffle: whether examples are shuffled before each epoch.
            initial_epoch: epoch to go on from; unless 0, the optimizer goes on too.
            **kwargs: as in `keras.Model.fit`.

        Raises:
            KzooError: no teacher, no labels where they have a weight, or texts that the two split differently, where
                hidden states or attention are to be learnt.
        """
        if self.student.labels is None and self.student.num_classes is not None:
            self.student.labels = batches.infer_labels(y, self.student.num_classes)
        self._labelled = y is not None
        x, y, encoder = self._lesson.prepare(x, y, sample_weight, to_learn=True, **self._asked())
        if validation_data is not None:
            held = self._lesson.prepare(*validation_data, **self._asked())
            validation_data = batches.encode_validation(
                held[:2], held[2], validation_batch_size or batch_size
            )
        data = batches.encode(x, y, None, encoder, batch_size=batch_size, shuffle=shuffle)
        return self._fit_encoded(
            data,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=validation_data,
            validation_batch_size=validation_batch_size,
            shuffle=shuffle,
            initial_epoch=initial_epoch,
            **kwargs,
        )

    def _asked(self) -> dict[str, Any]:
        return {"wanted": self._wanted(1), "needs_labels": self._wants("labels")}

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs to build the same object without its teacher."""
        return {
            "student": keras.saving.serialize_keras_object(self.student),
            "teacher": self._lesson.shape._asdict(),
            "weights": dict(self.part_weights),
            "temperature": self.temperature,
            "layers": self.strategy,
            "embedding": self.embedding,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Distillation:
        """Build an object from `get_config`'s result."""
        config = dict(config)
        student = keras.saving.deserialize_keras_object(config.pop("student"), custom_objects)
        opened = cls(student, TeacherShape(**config.pop("teacher")), **config)
        # Or Keras would warn that there is nothing to put the saved optimizer's state into.
        opened.optimizer.build(opened.trainable_variables)
        return opened

    def get_compile_config(self) -> dict[str, Any]:
        """Return nothing: its optimizer's state is for going on in the process that has the teacher."""
        return {}


def _check_weights(task: str, weights: Mapping[str, float] | None) -> dict[str, float]:
    """Return the weights that are not 0.

    Raises:
        KzooError: an unknown part, one that the task does not have, or none.
    """
    if weights is None:
        weights = {"embedding": 1.0} if task == "embedding" else {"labels": 0.5, "logits": 0.5}
    for part, weight in weights.items():
        if part not in PARTS:
            raise KzooError(f"Unknown part '{part}' of the loss.{did_you_mean(part, PARTS)}")
        if weight < 0:
            raise KzooError(f"The weight of {part} is {weight}: give 0 or more.")
        has_part = {"labels": task in _LOGITS, "logits": task in _LOGITS, "embedding": task == "embedding"}
        if weight and not has_part.get(part, True):
            raise KzooError(
                f"task='{task}' has no {part} to learn by: logits and labels are for {', '.join(_LOGITS)}, "
                "embedding is for task='embedding'."
            )
    found = {part: float(weights[part]) for part in PARTS if weights.get(part)}
    if not found:
        raise KzooError("All weights are 0: there is nothing to learn.")
    return found
