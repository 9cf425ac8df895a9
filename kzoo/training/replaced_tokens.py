"""Replaced-token detection: a small network swaps tokens, and a larger one learns to find them."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import ops

from kzoo.errors import KzooError
from kzoo.training import batches
from kzoo.training.objectives import (
    IGNORED,
    ReplacedTokenAccuracy,
    ReplacedTokenLoss,
    TokenAccuracy,
    token_loss,
)
from kzoo.training.pretraining import Pretraining

# What the generator has fewer of (Clark et al., 2020, section 3.2).
_NARROWED = ("hidden_dim", "num_heads", "intermediate_dim")
_FEWER = 4


@keras.saving.register_keras_serializable("kzoo")
class ReplacedTokenDetection(Pretraining):
    """Trains a model to tell which tokens of a text were replaced (Clark et al., 2020, section 2).

    A generator guesses hidden tokens, as a masked language model does; what it draws stands in the text that the
    discriminator looks at. Both learn at once, each from its own loss. The two have embeddings of their own.

    Args:
        discriminator: a kzoo model for `"replaced_token"`; it is trained in place.
        generator: a kzoo model for `"mlm"` with the same tokenizer, trained too; one with a fourth of the
            discriminator's width, heads and feed-forward is made unless given.
        weight: of the discriminator's loss beside the generator's.
        name: of this object.

    Raises:
        KzooError: models for other tasks, with different vocabularies, or whose width is no multiple of four.

    Example:
        >>> import kzoo
        >>> tokenizer = kzoo.text.Tokenizer.train(["a dog runs"], vocab_size=40)
        >>> model = kzoo.models.electra_small(
        ...     task="replaced_token", num_layers=1, tokenizer=tokenizer, vocab_size=tokenizer.vocab_size
        ... )
        >>> detection = ReplacedTokenDetection(model)
        >>> detection.generator.backbone.config.hidden_dim
        64
        >>> detection.fit(["a dog runs", "the cat sleeps"], epochs=3)  # doctest: +SKIP
    """

    def __init__(
        self,
        discriminator: Any,
        generator: Any = None,
        *,
        weight: float = 50.0,
        name: str | None = "replaced_token_detection",
    ) -> None:
        super().__init__(discriminator.backbone.config.hidden_dim, name)
        _check_task(discriminator, "replaced_token", "discriminator")
        self.discriminator = discriminator
        self.generator = generator if generator is not None else _small_generator(discriminator)
        _check_task(self.generator, "mlm", "generator")
        sizes = [model.backbone.config.vocab_size for model in (discriminator, self.generator)]
        if sizes[0] != sizes[1]:
            raise KzooError(
                f"The discriminator has {sizes[0]} tokens, the generator {sizes[1]}: give both the same tokenizer."
            )
        self.weight = weight
        self._objectives = token_loss(), ReplacedTokenLoss()
        self._loss_means = [
            keras.metrics.Mean(name=f"{side}_loss") for side in ("generator", "discriminator")
        ]
        self._accuracies = [
            TokenAccuracy("generator_accuracy"),
            ReplacedTokenAccuracy("discriminator_accuracy"),
        ]
        self.built = True

    @property
    def encoder(self) -> batches.Encoder:
        """What hides tokens, and keeps them beside the inputs too."""
        return _LabelledInputs(self.generator._encoder)

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Return what both networks make of texts in which tokens are hidden.

        Args:
            inputs: a model's inputs by name, and `labels` (batch, length), what is hidden, -100 elsewhere.
            training: whether dropout is on.

        Returns:
            `generator_logits` (batch, length, vocab_size), of what is hidden; `logits` (batch, length), above 0 where
            a token is taken for a replacement; and `replaced` (batch, length), 1 where it is one, 0 where it is not,
            -100 for padding.
        """
        labels, inputs = inputs["labels"], {name: x for name, x in inputs.items() if name != "labels"}
        guesses = self.generator(inputs, training=training)["logits"]
        labels = ops.cast(labels, "int32")
        hidden, ids = ops.not_equal(labels, IGNORED), ops.cast(inputs["input_ids"], "int32")
        original = ops.where(hidden, labels, ids)
        shown = ops.where(hidden, self._drawn(guesses, training), original)
        replaced = ops.cast(ops.not_equal(shown, original), "int32")
        if "attention_mask" in inputs:
            replaced = ops.where(ops.cast(inputs["attention_mask"], "bool"), replaced, IGNORED)
        found = self.discriminator({**inputs, "input_ids": shown}, training=training)["logits"]
        return {"generator_logits": guesses, "logits": found, "replaced": replaced}

    def _drawn(self, logits: Any, training: bool) -> Any:
        """Return a token for each place, drawn by its probability; no gradient goes through it."""
        chance = keras.random.uniform(ops.shape(logits), 1e-6, 1.0, seed=self.chance(training))
        noise = -ops.log(-ops.log(ops.minimum(chance, 1.0 - 1e-6)))
        return ops.cast(ops.argmax(ops.stop_gradient(logits) + noise, axis=-1), "int32")

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the generator's loss and, by its weight, the discriminator's."""
        both = [
            self._objectives[0](y, y_pred["generator_logits"]),
            self._objectives[1](y_pred["replaced"], y_pred["logits"]),
        ]
        for mean, loss in zip(self._loss_means, both, strict=True):
            mean.update_state(loss)
        return both[0] + self.weight * both[1]

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Return the loss, its two parts, and the share of tokens that each network is right about."""
        self._accuracies[0].update_state(y, y_pred["generator_logits"])
        self._accuracies[1].update_state(y_pred["replaced"], y_pred["logits"])
        return self.get_metrics_result()

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs to build the same object."""
        models = {"discriminator": self.discriminator, "generator": self.generator}
        return {
            **{name: keras.saving.serialize_keras_object(model) for name, model in models.items()},
            "weight": self.weight,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> ReplacedTokenDetection:
        """Build an object from `get_config`'s result."""
        models = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in ("discriminator", "generator")
        }
        opened = cls(**{**config, **models})
        # Or Keras would warn that there is nothing to put the saved optimizer's state into.
        opened.optimizer.build(opened.trainable_variables)
        return opened


class _LabelledInputs:
    """Makes a batch's inputs with the tokens that were hidden among them, and these again as labels."""

    # Of arrays too, other tokens are hidden in each epoch.
    draws = True

    def __init__(self, encoder: batches.Encoder) -> None:
        self._encoder = encoder

    def __call__(
        self, x: Any, y: Any = None, sample_weight: Any = None, length: int | None = None
    ) -> tuple[Any, ...]:
        inputs, labels = self._encoder(x, y, None, length)
        return {**inputs, "labels": labels}, labels


def _check_task(model: Any, task: str, what: str) -> None:
    if model.task != task:
        raise KzooError(f"The {what} is for the task '{model.task}': build it with task='{task}'.")


def _small_generator(discriminator: Any) -> Any:
    """Return a new model for masked tokens, as deep as the discriminator and a fourth as wide."""
    config = discriminator.backbone.config
    sizes = {name: getattr(config, name) for name in _NARROWED}
    if any(size % _FEWER for size in sizes.values()):
        raise KzooError(
            f"{', '.join(f'{name}={size}' for name, size in sizes.items())}: a generator of a fourth needs multiples "
            f"of {_FEWER}. Give one of your own, generator=...."
        )
    small = dataclasses.replace(config, **{name: size // _FEWER for name, size in sizes.items()})
    backbone = type(discriminator.backbone)(small, name="backbone", dtype=discriminator.dtype_policy)
    return type(discriminator)(
        backbone,
        "mlm",
        tokenizer=discriminator.tokenizer,
        max_length=discriminator.max_length,
        name="generator",
    )
