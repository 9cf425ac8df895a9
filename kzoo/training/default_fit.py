"""What the `fit` of everything that trains has in common: an optimizer that nobody asked for, and encoded data."""

from __future__ import annotations

import weakref
from typing import Any

import keras

from kzoo.training import batches
from kzoo.training.optimizers import default_learning_rate, default_optimizer


class DefaultFit(keras.Model):
    """A Keras model that trains with kzoo's usual optimizer until it is compiled with another."""

    # What the usual learning rate follows from: the width of what trains.
    _default_width: int

    def compile_defaults(self, total_steps: int | None = None) -> None:
        """Compile with AdamW, its rate going to 0 over so many steps, and the usual loss and metrics."""
        self._compile_as_default(default_optimizer(default_learning_rate(self._default_width), total_steps))

    def _compile_as_default(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Compile with an optimizer, and remember that nobody asked for it."""
        self.compile(optimizer=optimizer, **self._default_objective())
        # A weak reference, which Keras does not take for a part of the model when it saves.
        self._default_optimizer = weakref.ref(optimizer)

    def _default_objective(self) -> dict[str, Any]:
        """Return the usual `loss` and `metrics`, for `compile`; none, where a model makes its loss itself."""
        return {}

    @property
    def _uses_default_compile(self) -> bool:
        return self.optimizer is self._default_optimizer()

    def _fit_encoded(
        self,
        data: batches.KerasData,
        *,
        batch_size: int | None,
        epochs: int,
        shuffle: bool,
        initial_epoch: int,
        steps_per_epoch: int | None = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train as `keras.Model.fit` does on what `batches.encode` returned, the usual optimizer begun anew."""
        if self._uses_default_compile and initial_epoch == 0:
            steps = steps_per_epoch or batches.count(data.x, batch_size)
            self.compile_defaults(steps * epochs if steps else None)
        return keras.Model.fit(
            self,
            x=data.x,
            y=data.y,
            sample_weight=data.sample_weight,
            batch_size=batch_size,
            epochs=epochs,
            shuffle=shuffle and not data.is_shuffled,
            initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch,
            **kwargs,
        )
