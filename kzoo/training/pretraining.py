"""What trainings without labels have in common: `fit` on texts or images alone."""

from __future__ import annotations

from typing import Any

import keras

from kzoo.errors import KzooError
from kzoo.training import batches
from kzoo.training.default_fit import DefaultFit

# Where chance begins when nothing is learnt, so that losses on the same data can be compared.
_MEASURING = 20_001


class Pretraining(DefaultFit):
    """Trains models of the zoo in place, on what there are no labels for.

    A subclass says what a batch becomes with `encoder`, makes outputs in `call` and the loss of them in
    `compute_loss`. Until `compile` is called, each `fit` trains with the optimizer that a model's own `fit` does.

    Args:
        width: of the model, which its usual learning rate follows from.
        name: of this object.
    """

    def __init__(self, width: int, name: str | None) -> None:
        super().__init__(name=name)
        self._default_width = width
        self.seeds = keras.random.SeedGenerator(0)
        self.compile_defaults()

    @property
    def encoder(self) -> batches.Encoder:
        """What makes inputs and targets of a batch."""
        raise KzooError(f"{type(self).__name__} does not say what batches become: write its `encoder`.")

    def chance(self, training: bool) -> Any:
        """Return the seed of what is drawn: always the same when nothing is learnt."""
        return self.seeds if training else _MEASURING

    def get_compile_config(self) -> dict[str, Any]:
        """Return nothing: its optimizer's state is for going on in the process that compiled it."""
        return {}

    def fit(
        self,
        x: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        *,
        validation_data: Any = None,
        validation_batch_size: int | None = None,
        shuffle: bool = True,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train on inputs alone.

        Args:
            x: what the model's own `fit` takes as inputs: texts, arrays, a dataset, or a stream of batches.
            batch_size: examples a step; 32 unless given.
            epochs: passes over the data.
            validation_data: `(x,)`, or a dataset.
            validation_batch_size: as `batch_size`, while validating.
            shuffle: whether examples are shuffled before each epoch.
            initial_epoch: epoch to go on from; unless 0, the optimizer goes on too.
            steps_per_epoch: batches an epoch, for endless datasets.
            **kwargs: as in `keras.Model.fit`.

        Raises:
            KzooError: what the model cannot read.
        """
        if validation_data is not None:
            validation_data = batches.encode_validation(
                validation_data, self.encoder, validation_batch_size or batch_size
            )
        data = batches.encode(x, None, None, self.encoder, batch_size=batch_size, shuffle=shuffle)
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
