"""Optimizers and learning rates: those that `fit` uses unless told otherwise, and those that recipes ask for."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

# The last part of a variable's name, which on TensorFlow is its whole path, the model's name first.
_WITHOUT_DECAY = [r"(^|/)(bias|gamma|beta)(:0)?$"]


def default_learning_rate(hidden_dim: int) -> float:
    """Return the peak learning rate for a model of this width.

    1e-3 at width 64 and inversely proportional to the width, as Adam's best rate is (Yang et al., 2022,
    table 3): 8.3e-5 for BERT-base.

    Example:
        >>> default_learning_rate(128)
        0.0005
    """
    return 1e-3 * 64 / hidden_dim


def default_optimizer(learning_rate: float, total_steps: int | None) -> keras.optimizers.Optimizer:
    """Return AdamW with linear warm-up, cosine decay to 0, and gradients clipped to a global norm of 1.

    Weight decay (0.01) leaves biases and norms alone.

    Args:
        learning_rate: the peak, reached after a tenth of the steps, or 1,000 of them if that is fewer.
        total_steps: steps until the rate is 0; if unknown, it stays at the peak.
    """
    return make_optimizer(cosine_schedule(learning_rate, total_steps))


def make_optimizer(
    schedule: keras.optimizers.schedules.LearningRateSchedule,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.01,
    clip_norm: float | None = 1.0,
    accumulate: int = 1,
) -> keras.optimizers.Optimizer:
    """Return AdamW, whose weight decay leaves biases and norms alone; Adam, if there is none.

    Args:
        schedule: the learning rate at each batch.
        betas: how slowly the running means of gradients and of their squares change.
        weight_decay: share of the learning rate by which weights shrink at each update.
        clip_norm: what the gradients' global norm is cut to; None leaves it.
        accumulate: batches whose mean gradient makes an update.
    """
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=weight_decay,
        beta_1=betas[0],
        beta_2=betas[1],
        global_clipnorm=clip_norm,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
    )
    exclude_from_weight_decay(optimizer)
    return optimizer


def cosine_schedule(
    learning_rate: float, total_steps: int | None, warmup_steps: int | None = None
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return a linear warm-up to `learning_rate` and a cosine's way down to 0.

    Args:
        learning_rate: the peak.
        total_steps: steps until the rate is 0; if unknown, it stays at the peak.
        warmup_steps: steps to the peak; a tenth of all unless given, 1,000 at most.
    """
    if warmup_steps is None:
        warmup_steps = min(total_steps // 10, 1000) if total_steps else 100
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(learning_rate, max(total_steps or 1, 1))
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=learning_rate,
        warmup_steps=warmup_steps,
        decay_steps=max(total_steps - warmup_steps, 1) if total_steps else 1,
        alpha=0.0 if total_steps else 1.0,
    )


@keras.saving.register_keras_serializable("kzoo")
class InverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then down with the square root of the steps (Vaswani et al., 2017, section 5.3).

    Args:
        learning_rate: the peak.
        warmup_steps: steps to the peak; at least 1.

    Example:
        >>> schedule = InverseSquareRoot(1.0, warmup_steps=100)
        >>> [round(float(schedule(step)), 3) for step in (0, 49, 99, 399)]
        [0.01, 0.5, 1.0, 0.5]
    """

    def __init__(self, learning_rate: float, warmup_steps: int) -> None:
        self.learning_rate, self.warmup_steps = learning_rate, warmup_steps

    def __call__(self, step: Any) -> Any:
        """Return the rate of a step, counted from 0."""
        done = (ops.cast(step, "float32") + 1.0) / self.warmup_steps
        return self.learning_rate * ops.minimum(done, ops.rsqrt(done))

    def get_config(self) -> dict[str, Any]:
        """Return the peak and the steps to it."""
        return {"learning_rate": self.learning_rate, "warmup_steps": self.warmup_steps}


def exclude_from_weight_decay(optimizer: keras.optimizers.Optimizer) -> None:
    """Leave biases and norms out of an unbuilt optimizer's weight decay, which Keras does not save."""
    optimizer.exclude_from_weight_decay(var_names=_WITHOUT_DECAY)
