"""The model that a user holds: a backbone with a task's head, at home with strings."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kzoo.errors import KzooError, did_you_mean
from kzoo.layers import record_attention
from kzoo.models.backbone import Backbone, InputSpec
from kzoo.models.encoding import BatchEncoder
from kzoo.models.heads import ClassificationHead
from kzoo.models.initialization import initialization
from kzoo.models.options import resolve_classes, resolve_length, resolve_preprocessing
from kzoo.models.tasks import TASKS, HeadOptions
from kzoo.text import Tokenizer
from kzoo.training import batches, exclude_from_weight_decay
from kzoo.training.default_fit import DefaultFit
from kzoo.training.lora import fine_tuning_state, restore_fine_tuning
from kzoo.vision import ImagePreprocessing


@keras.saving.register_keras_serializable("kzoo")
class TransformerModel(DefaultFit):
    """A backbone with a task's head: built, compiled with sensible defaults, and at home with strings.

    `fit`, `evaluate` and `predict` take what Keras takes (arrays, dicts of arrays, `tf.data`, `PyDataset`, torch
    loaders), and strings wherever arrays stand, once a tokenizer is attached. Outputs are dicts: `logits`
    (batch, num_classes), `embedding` (batch, hidden_dim), or the backbone's features.

    Until `compile` is called, each `fit` trains with AdamW, its learning rate warmed up and decayed over that
    `fit`'s own steps, gradients clipped, and the task's usual loss and metrics.

    Args:
        backbone: the architecture.
        task: one of the backbone's `tasks`.
        num_classes: number of classes, for the tasks that have any.
        labels: the classes' names, in order; sets `num_classes`.
        pooling: `"mean"`, `"max"` or `"cls"`, for embeddings.
        layer: which hidden layer embeddings are pooled from: 0 what enters the first block, -1 the last.
        normalize: whether embeddings are scaled to length 1.
        tokenizer: a `kzoo.text.Tokenizer`, or the path of a `tokenizer.json`.
        max_length: most tokens of an encoded text; the model's positions unless given.
        image_preprocessing: how 8-bit images become `pixel_values`; to -1 to 1 unless given.
        gradient_checkpointing: run each block again in the backward pass instead of keeping all that it computed:
            a longer step in less memory. XLA's compiler for CPUs undoes it, on JAX.
        name: name of the model, the root of its weights' paths.
        dtype: dtype policy of all layers, such as `"mixed_bfloat16"`.

    Raises:
        KzooError: options that contradict each other or the backbone.
    """

    def __init__(
        self,
        backbone: Backbone,
        task: str,
        num_classes: int | None = None,
        labels: Sequence[str] | None = None,
        pooling: str = "mean",
        layer: int = -1,
        normalize: bool = True,
        tokenizer: Tokenizer | str | os.PathLike[str] | None = None,
        max_length: int | None = None,
        image_preprocessing: ImagePreprocessing | dict[str, Any] | None = None,
        gradient_checkpointing: bool = False,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype or backbone.dtype_policy)
        self.backbone = backbone
        self.gradient_checkpointing = gradient_checkpointing
        for block in backbone.all_blocks():
            block.gradient_checkpointing = gradient_checkpointing
        self.task = task
        names = list(labels) if labels is not None else None
        self.num_classes = resolve_classes(task, num_classes, names, type(backbone).num_classes)
        self.labels = names or list(TASKS[task].classes) or None
        self.pooling, self.layer, self.normalize = pooling, layer, normalize
        self.max_length = resolve_length(max_length, backbone)
        self.head = TASKS[task].head(backbone, HeadOptions(self.num_classes or 0, pooling, layer, normalize))
        pooler = getattr(backbone, "pooler", None)
        if pooler is not None and self.head is not None and not isinstance(self.head, ClassificationHead):
            pooler.trainable = False  # no loss reaches it, which optimizers would warn of at each fit
        self._tokenizer: Tokenizer | None = None
        self.tokenizer = tokenizer
        self.image_preprocessing = resolve_preprocessing(image_preprocessing, backbone)
        self.build()
        self._default_width = backbone.config.hidden_dim
        self.compile_defaults()

    # Building, calling, saving.

    def build(self, input_shape: Any = None) -> None:
        """Create all weights."""
        if getattr(self, "built", False):
            return
        with initialization(self):
            self.backbone.build()
            if self.head is not None and not self.head.built:
                self.head.build((None, self.backbone.config.hidden_dim))
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """Return the task's outputs by name.

        Args:
            inputs: a dict of arrays by the names in `signature()`, of which only the first is required, or that
                first array alone.
            training: whether dropout is on.
        """
        return self.call_with_features(inputs, training)[0]

    def call_with_features(
        self, inputs: Any, training: bool = False, attention: bool = False
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what `call` returns, and the backbone's features on the way to it, `hidden_states` among them.

        With `attention` these have a list `attention` too, the attention weights of every layer.
        """
        if not isinstance(inputs, dict):
            inputs = {self.main_input: inputs}
        with record_attention() if attention else contextlib.nullcontext() as weights:
            features = self.backbone(inputs, training=training)
        if self.head is None:
            outputs = {name: value for name, value in features.items() if not name.endswith("hidden_states")}
        else:
            outputs = self.head(features, attention_mask=inputs.get("attention_mask"), training=training)
        return outputs, {**features, "attention": weights} if attention else features

    def signature(self) -> dict[str, InputSpec]:
        """Return the inputs by name, each with its shape and dtype."""
        return self.backbone.signature()

    @property
    def main_input(self) -> str:
        """Name of the input that a bare array stands for: `input_ids` or `pixel_values`."""
        return next(iter(self.signature()))

    def attention_maps(self, inputs: Any) -> list[np.ndarray]:
        """Return the attention weights of every layer, in the order in which they run.

        Args:
            inputs: what the model is called on, or a list of strings.

        Returns:
            Arrays (batch, num_heads, query_length, key_length), float32.
        """
        with record_attention() as weights:
            self(self._encoder.inputs(inputs))
        return _as_arrays(weights)

    def hidden_states(self, inputs: Any, name: str = "hidden_states") -> list[np.ndarray]:
        """Return what enters the backbone's first block, and what leaves each one.

        Args:
            inputs: what the model is called on, or a list of strings.
            name: which of the backbone's lists; encoder-decoders have `encoder_hidden_states` beside the decoder's.

        Returns:
            Arrays (batch, length, hidden_dim), float32, one more than there are blocks.

        Raises:
            KzooError: the backbone has no such list.
        """
        features = self.backbone(self._encoder.inputs(inputs))
        lists = [key for key in features if key.endswith("hidden_states")]
        if name not in lists:
            raise KzooError(f"{type(self.backbone).__name__} has no '{name}'.{did_you_mean(name, lists)}")
        return _as_arrays(features[name])

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs to build the same model; the tokenizer is saved beside it."""
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "task": self.task,
            "num_classes": self.num_classes,
            "labels": self.labels,
            "pooling": self.pooling,
            "layer": self.layer,
            "normalize": self.normalize,
            "gradient_checkpointing": self.gradient_checkpointing,
            "max_length": self.max_length,
            "image_preprocessing": self.image_preprocessing and self.image_preprocessing.model_dump(),
            "name": self.name,
            **fine_tuning_state(self),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> TransformerModel:
        """Build a model from `get_config`'s result."""
        config = dict(config)
        backbone = keras.saving.deserialize_keras_object(config.pop("backbone"), custom_objects)
        adapters, frozen = config.pop("adapters", {}), config.pop("frozen", [])
        model = cls(backbone, **config)
        restore_fine_tuning(model, adapters, frozen)
        return model

    def save_assets(self, directory: str) -> None:
        """Put the tokenizer into a `.keras` file."""
        if self._tokenizer is not None:
            self._tokenizer.save(pathlib.Path(directory) / "tokenizer.json")

    def load_assets(self, directory: str) -> None:
        """Take the tokenizer from a `.keras` file."""
        path = pathlib.Path(directory or "", "tokenizer.json")
        if directory and path.is_file():
            self.tokenizer = Tokenizer.from_file(path)

    # Strings.

    @property
    def labels(self) -> list[str] | None:
        """The classes' names, in order; None if they have none yet."""
        return list(self._labels) if self._labels is not None else None

    @labels.setter
    def labels(self, labels: Sequence[str] | None) -> None:
        if labels is not None:
            resolve_classes(self.task, self.num_classes, list(labels), 0)
        self._labels = list(labels) if labels is not None else None

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer that strings go through; assign a `Tokenizer` or a path."""
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Tokenizer | str | os.PathLike[str] | None) -> None:
        if tokenizer is not None and not isinstance(tokenizer, Tokenizer):
            tokenizer = Tokenizer.from_file(tokenizer)
        vocab_size = getattr(self.backbone.config, "vocab_size", None)
        if tokenizer is None:
            self._tokenizer = None
            return
        if vocab_size is None:
            raise KzooError(f"{type(self.backbone).__name__} reads images: it has no use for a tokenizer.")
        if tokenizer.vocab_size > vocab_size:
            raise KzooError(
                f"The tokenizer has {tokenizer.vocab_size} tokens, the model only vocab_size={vocab_size}: "
                f"build the model with vocab_size={tokenizer.vocab_size}."
            )
        self.backbone.check_tokenizer(tokenizer)
        self._tokenizer = tokenizer

    @property
    def _encoder(self) -> BatchEncoder:
        return BatchEncoder(
            input_names=(*self.signature(), *self.backbone.learning_inputs),
            targets=TASKS[self.task].targets,
            tokenizer=self.tokenizer,
            max_length=self.max_length,
            image=self.image_preprocessing,
            num_classes=self.num_classes,
            labels=self.labels,
            joins_words=self.task == "tokens",
        )

    # Training.

    def objective(self) -> tuple[Any, list[Any]]:
        """Return the task's usual loss, and metrics of its own to be updated."""
        task = TASKS[self.task]
        return task.loss(), task.metrics()

    def _default_objective(self) -> dict[str, Any]:
        loss, metrics = self.objective()
        return {"loss": loss, "metrics": metrics}

    def get_compile_config(self) -> dict[str, Any]:
        """Return Keras' compile config, whether it is the default one, and whether its optimizer has begun."""
        return {
            **(super().get_compile_config() or {}),
            "uses_default_compile": self._uses_default_compile,
            "optimizer_is_built": self.optimizer is not None and self.optimizer.built,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as `get_compile_config` says."""
        config = dict(config)
        uses_default, is_built = (
            config.pop("uses_default_compile", False),
            config.pop("optimizer_is_built", True),
        )
        if not uses_default:
            super().compile_from_config(config)
            return
        optimizer = keras.optimizers.deserialize(config["optimizer"])
        exclude_from_weight_decay(optimizer)
        self._compile_as_default(optimizer)
        if is_built:
            optimizer.build(self.trainable_variables)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        *,
        validation_split: float = 0.0,
        validation_data: Any = None,
        validation_batch_size: int | None = None,
        shuffle: bool = True,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train as `keras.Model.fit` does, on arrays or strings.

        Args:
            x: texts (or pairs of texts, as tuples), arrays, a dict of arrays, 8-bit or preprocessed images,
                `tf.data.Dataset`, `PyDataset`, torch `DataLoader`, or a generator.
            y: class ids or names; lists of them for `"multilabel"`, and for `"tokens"`, where texts may be lists of
                words; target texts for `"seq2seq"`; for `"qa"` each answer's first character in the context and the
                one after its last, or the answer and its first; 0 or 1 for each token for `"replaced_token"`; none
                for `"causal_lm"`, `"mlm"` and `"image_text_similarity"`.
            batch_size: examples a step; 32 unless given.
            epochs: passes over the data.
            validation_split: share of arrays or texts, taken from the end, to validate on.
            validation_data: `(x, y)`, `(x, y, sample_weight)`, or a dataset.
            validation_batch_size: as `batch_size`, while validating.
            shuffle: whether arrays and texts are shuffled before each epoch.
            sample_weight: (n,) weight of each example.
            initial_epoch: epoch to go on from; unless 0, the optimizer goes on too.
            steps_per_epoch: batches an epoch, for endless datasets.
            **kwargs: as in `keras.Model.fit`.

        Raises:
            KzooError: strings without a tokenizer, labels outside the classes, empty data, wrong shapes, or a task
                that has no loss of its own in a model that was not compiled with one.
        """
        if self._uses_default_compile and TASKS[self.task].loss() is None:
            raise KzooError(
                f"task='{self.task}' has no loss of its own: compile the model with one first, "
                "model.compile(optimizer=..., loss=...)."
            )
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = batches.split(x, y, sample_weight, validation_split)
        if self.labels is None and self.num_classes is not None:
            self.labels = batches.infer_labels(y, self.num_classes)
        if validation_data is not None:
            validation_data = batches.encode_validation(
                validation_data, self._encoder, validation_batch_size or batch_size
            )
        data = batches.encode(x, y, sample_weight, self._encoder, batch_size=batch_size, shuffle=shuffle)
        return self._fit_encoded(
            data,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=validation_data,
            validation_batch_size=validation_batch_size,
            shuffle=shuffle,
            initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch,
            **kwargs,
        )

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        *,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Evaluate as `keras.Model.evaluate` does, on what `fit` takes."""
        data = batches.encode(x, y, sample_weight, self._encoder, batch_size=batch_size)
        return super().evaluate(
            x=data.x, y=data.y, sample_weight=data.sample_weight, batch_size=batch_size, **kwargs
        )

    def predict(self, x: Any, batch_size: int | None = None, **kwargs: Any) -> dict[str, np.ndarray]:
        """Return the outputs by name, for all of `x`, which is what `fit` takes.

        Texts and images that are compared with each other may differ in number; either may be left out.
        """
        if len(parts := self._apart(x)) > 1:
            outputs: dict[str, Any] = {}
            for part in parts:
                outputs |= self.predict(part, batch_size, **kwargs)
            if self.head is None:
                return outputs
            joined = self.head(outputs)
            return dict(zip(joined, _as_arrays(list(joined.values())), strict=True))
        encoder = dataclasses.replace(self._encoder, learns=False)
        data = batches.encode(
            x, None, None, encoder, batch_size=batch_size, one_length=TASKS[self.task].outputs_tokens
        )
        return super().predict(data.x, batch_size=batch_size, **kwargs)

    def _apart(self, x: Any) -> list[Any]:
        """Return inputs by name in as many dicts as there are kinds of things of which there may be any number."""
        signature = self.signature()
        if not isinstance(x, dict) or not x.keys() <= signature.keys():
            return [x]
        parts: dict[Any, dict[str, Any]] = {}
        for name, value in x.items():
            parts.setdefault(signature[name].shape[0], {})[name] = value
        return list(parts.values())

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write a folder that the original library, and `kzoo.models.from_pretrained`, open.

        Raises:
            KzooError: the original library has no class for the model, or the folder holds something else.
        """
        from kzoo.models.saving import save_pretrained

        save_pretrained(self, directory)

    def export(self, filepath: str | os.PathLike[str], format: str = "onnx", **kwargs: Any) -> Any:
        """Export for serving.

        Args:
            filepath: a path that ends in `.onnx` gets the bare graph, any other a bundle that `kzoo.load` opens.
            format: `"onnx"`, or one of Keras' own formats.
            **kwargs: options of `kzoo.export.to_onnx` or `kzoo.export.to_bundle`.

        Returns:
            What was measured on the way, as a `kzoo.export.ExportReport`.
        """
        if format != "onnx":
            return super().export(filepath, format=format, **kwargs)
        from kzoo import export

        to = export.to_onnx if str(filepath).endswith(".onnx") else export.to_bundle
        return to(self, filepath, **kwargs)


def _as_arrays(tensors: list[Any]) -> list[np.ndarray]:
    return [np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))) for tensor in tensors]
