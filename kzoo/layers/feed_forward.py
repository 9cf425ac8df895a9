"""The position-wise feed-forward network (Vaswani et al., 2017, section 3.3)."""

from __future__ import annotations

from typing import Any

import keras

from kzoo.layers import activations


@keras.saving.register_keras_serializable("kzoo")
class FeedForward(keras.layers.Layer):
    """Two dense layers with an activation between them, (batch, length, hidden_dim) in and out.

    Args:
        hidden_dim: width of inputs and outputs.
        intermediate_dim: width between the two.
        activation: one of `kzoo.layers.ACTIVATIONS`.
    """

    def __init__(
        self, hidden_dim: int, intermediate_dim: int, activation: str = "gelu", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.intermediate_dim = intermediate_dim
        self.expand = keras.layers.Dense(intermediate_dim, dtype=self.dtype_policy, name="expand")
        self.activation = activations.activation(activation)
        self.contract = keras.layers.Dense(hidden_dim, dtype=self.dtype_policy, name="contract")

    def build(self, input_shape: Any) -> None:
        """Create the two projections."""
        self.expand.build((None, None, self.hidden_dim))
        self.contract.build((None, None, self.intermediate_dim))
        self.built = True

    def call(self, x: Any) -> Any:
        """Return `contract(activation(expand(x)))`."""
        return self.contract(self.activation(self.expand(x)))
