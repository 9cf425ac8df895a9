"""The optimizer that `fit` uses unless told otherwise."""

from __future__ import annotations

import keras

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
    warmup_steps = min(total_steps // 10, 1000) if total_steps else 100
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=learning_rate,
        warmup_steps=warmup_steps,
        decay_steps=max(total_steps - warmup_steps, 1) if total_steps else 1,
        alpha=0.0 if total_steps else 1.0,
    )
    if not warmup_steps:
        schedule = keras.optimizers.schedules.CosineDecay(learning_rate, max(total_steps or 1, 1))
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.01, global_clipnorm=1.0)
    exclude_from_weight_decay(optimizer)
    return optimizer


def exclude_from_weight_decay(optimizer: keras.optimizers.Optimizer) -> None:
    """Leave biases and norms out of an unbuilt optimizer's weight decay, which Keras does not save."""
    optimizer.exclude_from_weight_decay(var_names=_WITHOUT_DECAY)
