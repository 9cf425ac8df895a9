"""Optimizers and learning rates: those that `fit` uses unless told otherwise, and those that recipes ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kzoo.errors import KzooError
from kzoo.training.fused_adamw import FusedAdamW


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
    depths: Mapping[str, int] | None = None,
    layer_decay: float = 1.0,
    gradual: bool = False,
) -> keras.optimizers.Optimizer:
    """Return AdamW, whose weight decay leaves biases and norms alone; Adam, if there is none.

    Args:
        schedule: the learning rate at each batch.
        betas: how slowly the running means of gradients and of their squares change.
        weight_decay: share of the learning rate by which weights shrink at each update.
        clip_norm: what the gradients' global norm is cut to; None leaves it.
        accumulate: batches whose mean gradient makes an update.
        depths: how deep each weight is, by `kzoo.training.layer_depths`; needed for the two that follow.
        layer_decay: factor on the learning rate from one depth to the next below; see `LayeredAdamW`.
        gradual: whether `kzoo.training.GradualUnfreezing` is to say which depths train.

    Raises:
        KzooError: the factor is none, or the depths are missing.
    """
    numbers: dict[str, Any] = {
        "weight_decay": weight_decay,
        "beta_1": betas[0],
        "beta_2": betas[1],
        "global_clipnorm": clip_norm,
        "gradient_accumulation_steps": accumulate if accumulate > 1 else None,
    }
    if layer_decay != 1.0 or gradual:
        return LayeredAdamW(
            schedule, depths=depths or {}, layer_decay=layer_decay, gradual=gradual, **numbers
        )
    return FusedAdamW(schedule, **numbers)


# The step at which a depth begins that is held still.
_NEVER = np.iinfo(np.int32).max


@keras.saving.register_keras_serializable("kzoo")
class LayeredAdamW(FusedAdamW):
    """AdamW that trains a model's depths at rates of their own, or not yet.

    A weight at depth d learns, and decays, at `layer_decay ** d` times the learning rate (Clark et al., 2020,
    appendix A): the head at the full rate, embeddings at the least. With `gradual`, depths can be held still, to the
    bit: their gradients count for nothing, not in the clipping either, and once let go they train as with an
    optimizer that is new.

    Args:
        learning_rate: a number or schedule, at depth 0.
        depths: the depth of each variable, by its path in the model; 0 unless given.
        layer_decay: above 0, at most 1.
        gradual: whether depths can be held.
        **kwargs: as in `keras.optimizers.AdamW`.

    Raises:
        KzooError: the factor is none, or there are no depths.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        *,
        depths: Mapping[str, int],
        layer_decay: float = 1.0,
        gradual: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        if not 0.0 < layer_decay <= 1.0:
            raise KzooError(f"layer_decay={layer_decay}: give a factor above 0, at most 1.")
        if not depths:
            raise KzooError("The depths of the weights are missing: give depths=layer_depths(model).")
        # A tuple, since Keras would look for variables in a dict.
        self.depths = tuple(depths.items())
        self.layer_decay, self.gradual = layer_decay, gradual

    def build(self, variables: list[Any]) -> None:
        """Create the state for these variables, and one number a depth: the step at which it began."""
        if self.built:
            return
        super().build(variables)
        depths = dict(self.depths)
        # Keras puts the model's name before most paths, but not in a model that it loads.
        self._depths = tuple(
            depths.get(variable.path, depths.get(variable.path.partition("/")[2], 0))
            for variable in variables
        )
        if self.gradual:
            self._starts = self.add_variable((max(self._depths) + 1,), dtype="int32", name="starts")
            # Each depth counts steps of its own, which a fused update does not.
            self._fuses = False

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Update the variables, with gradients of 0 for those that are held."""
        if self.gradual:
            if not self.built:
                self.build(list(trainable_variables))
            variables = (
                self._trainable_variables if trainable_variables is None else list(trainable_variables)
            )
            grads = [
                grad if grad is None else ops.multiply(grad, ops.cast(self._is_free(variable), grad.dtype))
                for grad, variable in zip(grads, variables, strict=True)
            ]
        super().apply(grads, trainable_variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        rate = ops.cast(learning_rate, variable.dtype) * self._rate_factor(variable)
        if self.gradual:
            rate = rate * ops.cast(self._is_free(variable), variable.dtype)
        if self._use_weight_decay(variable):
            self.assign_sub(variable, ops.multiply(variable, rate * self.weight_decay))
        if self.gradual:
            # The parent corrects its means for the steps of all, not for those since this depth began.
            done = self.iterations + 1
            own = ops.maximum(done - self._start(variable), 1)
            rate = rate * self._correction(own, variable) / self._correction(done, variable)
        super().update_step(gradient, variable, rate)

    def _apply_weight_decay(self, variables: Any) -> None:
        """Leave it to `update_step`, which knows each variable's rate."""

    def train_depths(self, count: int) -> None:
        """Train the first `count` of the depths that have variables, from the top, and hold the rest."""
        starts = np.array(ops.convert_to_numpy(self._starts))
        for number, depth in enumerate(sorted(set(self._depths))):
            if number >= count:
                starts[depth] = _NEVER
            elif starts[depth] == _NEVER:
                starts[depth] = int(ops.convert_to_numpy(self.iterations))
                self._forget(depth)
        self._starts.assign(starts)

    def _forget(self, depth: int) -> None:
        for index, its_depth in enumerate(self._depths):
            for mean in (self._momentums[index], self._velocities[index]) if its_depth == depth else ():
                mean.assign(ops.zeros(mean.shape, mean.dtype))

    def _rate_factor(self, variable: Any) -> float:
        return self.layer_decay ** self._depth(variable)

    def _depth(self, variable: Any) -> int:
        return self._depths[self._get_variable_index(variable)]

    def _start(self, variable: Any) -> Any:
        return ops.cast(self._starts[self._depth(variable)], self.iterations.dtype)

    def _is_free(self, variable: Any) -> Any:
        return self.iterations >= self._start(variable)

    def _correction(self, steps: Any, variable: Any) -> Any:
        steps = ops.cast(steps, variable.dtype)
        return ops.sqrt(1.0 - ops.power(self.beta_2, steps)) / (1.0 - ops.power(self.beta_1, steps))

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        own = {"depths": dict(self.depths), "layer_decay": self.layer_decay, "gradual": self.gradual}
        return {**super().get_config(), **own}


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
