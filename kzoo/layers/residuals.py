"""What may stand between a sub-layer and the residual stream."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable("kzoo")
class LayerScale(keras.layers.Layer):
    """A learned factor for each channel (Touvron et al., 2021, section 2).

    Args:
        hidden_dim: number of channels.
        initial: what every factor starts as.
    """

    def __init__(self, hidden_dim: int, initial: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.initial = initial

    def build(self, input_shape: Any) -> None:
        """Create the factors (hidden_dim,)."""
        initializer = keras.initializers.Constant(self.initial)
        self.scale = self.add_weight(name="scale", shape=(self.hidden_dim,), initializer=initializer)
        self.built = True

    def call(self, x: Any) -> Any:
        """Return `x` (batch, length, hidden_dim), channel by channel scaled."""
        return x * self.scale


@keras.saving.register_keras_serializable("kzoo")
class StochasticDepth(keras.layers.Dropout):
    """Drop a sub-layer's whole output for some of a batch's examples (Huang et al., 2016, section 3).

    What is kept is scaled up, so that its mean over many steps stays.

    Args:
        rate: share of examples dropped while training.
    """

    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(rate, noise_shape=(None, 1, 1), **kwargs)
