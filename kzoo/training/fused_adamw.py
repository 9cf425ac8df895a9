"""AdamW in one pass over the weights, where the backend has such a pass and Keras does not use it."""

from __future__ import annotations

import math
from typing import Any

import keras

# The last part of a variable's name, which on TensorFlow is its whole path, the model's name first.
_WITHOUT_DECAY = [r"(^|/)(bias|gamma|beta)(:0)?$"]


def exclude_from_weight_decay(optimizer: keras.optimizers.Optimizer) -> None:
    """Leave biases and norms out of an unbuilt optimizer's weight decay, which Keras does not save."""
    optimizer.exclude_from_weight_decay(var_names=_WITHOUT_DECAY)


@keras.saving.register_keras_serializable("kzoo")
class FusedAdamW(keras.optimizers.AdamW):
    """AdamW whose weight decay leaves biases and norms alone.

    On torch, weights on the CPU are updated by torch's fused AdamW, which reads and writes each number once; Keras'
    own goes over them ten times, which memory takes longer for. Everywhere else it is Keras' own. The arithmetic is
    Keras' in both (Loshchilov and Hutter, 2017, algorithm 2, the epsilon added before the correction for bias).

    Args:
        learning_rate: a number or schedule.
        **kwargs: as in `keras.optimizers.AdamW`.

    Example:
        >>> optimizer = FusedAdamW(1e-3, global_clipnorm=1.0)
        >>> weight = keras.Variable([1.0, 2.0])
        >>> optimizer.apply([keras.ops.ones(2)], [weight])
        >>> keras.ops.convert_to_numpy(weight).round(3)
        array([0.999, 1.999], dtype=float32)
    """

    def __init__(self, learning_rate: Any = 0.001, **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        exclude_from_weight_decay(self)

    def build(self, variables: list[Any]) -> None:
        """Create the state for these variables."""
        super().build(variables)
        on_torch = keras.backend.backend() == "torch" and not self.amsgrad
        self._fuses = on_torch and all(variable.value.device.type == "cpu" for variable in variables)

    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        """Cut the gradients down; in place, where a copy of them all would take as long as the update."""
        if not self._fuses or not self.global_clipnorm or any(grad is None for grad in grads):
            return super()._clip_gradients(grads)
        import torch

        with torch.no_grad():
            norm = torch.nn.utils.get_total_norm(grads)
            scale = (self.global_clipnorm / norm).clamp(max=1.0)
            # As in Keras, one gradient that is no number makes none of the weights one.
            torch._foreach_mul_(grads, scale + (norm - norm))
        return grads

    def _apply_weight_decay(self, variables: list[Any]) -> None:
        """Leave it to the update, where that is fused."""
        if not self._fuses:
            super()._apply_weight_decay(variables)

    def _backend_update_step(
        self, grads: list[Any], trainable_variables: list[Any], learning_rate: Any
    ) -> None:
        if not self._fuses:
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        groups: dict[tuple[float, float], list[tuple[Any, Any]]] = {}
        for grad, variable in zip(grads, trainable_variables, strict=True):
            decay = (self.weight_decay or 0.0) if self._use_weight_decay(variable) else 0.0
            groups.setdefault((self._rate_factor(variable), decay), []).append((grad, variable))
        for (factor, decay), pairs in groups.items():
            self._update(pairs, factor * float(learning_rate), decay)

    def _rate_factor(self, variable: Any) -> float:
        """Return what the learning rate is multiplied by for a variable."""
        return 1.0

    def _update(self, pairs: list[tuple[Any, Any]], learning_rate: float, decay: float) -> None:
        """Update variables by their gradients, all with one rate and one weight decay."""
        import torch
        from torch.optim.adamw import adamw

        places = [self._get_variable_index(variable) for _, variable in pairs]
        done = int(self.iterations)
        with torch.no_grad():
            adamw(
                [variable.value for _, variable in pairs],
                [grad for grad, _ in pairs],
                [self._momentums[place].value for place in places],
                [self._velocities[place].value for place in places],
                [],
                # A number for each, which torch counts up.
                list(torch.full((len(pairs),), float(done)).unbind()),
                fused=True,
                amsgrad=False,
                beta1=self.beta_1,
                beta2=self.beta_2,
                lr=learning_rate,
                weight_decay=decay,
                # torch corrects the second mean for its bias before it adds this, Keras after.
                eps=self.epsilon / math.sqrt(1.0 - self.beta_2 ** (done + 1)),
                maximize=False,
            )
