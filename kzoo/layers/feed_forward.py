"""The position-wise feed-forward network, plain or gated."""

from __future__ import annotations

from typing import Any

import keras

from kzoo.layers import activations
from kzoo.layers.dense import Dense


@keras.saving.register_keras_serializable("kzoo")
class FeedForward(keras.layers.Layer):
    """Two dense layers with an activation between them, (batch, length, hidden_dim) in and out.

    Plain (Vaswani et al., 2017, section 3.3), or gated by a third dense layer (Shazeer, 2020: SwiGLU with
    `"silu"`, GeGLU with a GELU).

    Args:
        hidden_dim: width of inputs and outputs.
        intermediate_dim: width between the two.
        activation: one of `kzoo.layers.ACTIVATIONS`.
        gated: multiply what the first layer gives by the activated output of another one.
        use_bias: whether the dense layers have biases.
        dropout: rate on the activated states while training.
    """

    def __init__(
        self,
        hidden_dim: int,
        intermediate_dim: int,
        activation: str = "gelu",
        gated: bool = False,
        use_bias: bool = True,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.intermediate_dim = intermediate_dim
        self.activation = activations.activation(activation)

        def dense(name: str, width: int) -> Dense:
            return Dense(width, use_bias=use_bias, dtype=self.dtype_policy, name=name)

        self.gate = dense("gate", intermediate_dim) if gated else None
        self.expand = dense("expand", intermediate_dim)
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.contract = dense("contract", hidden_dim)

    def build(self, input_shape: Any) -> None:
        """Create the projections."""
        if self.gate is not None:
            self.gate.build((None, None, self.hidden_dim))
        self.expand.build((None, None, self.hidden_dim))
        self.contract.build((None, None, self.intermediate_dim))
        self.built = True

    def call(self, x: Any, training: bool = False) -> Any:
        """Return `contract(activation(expand(x)))`, or `contract(activation(gate(x)) * expand(x))`."""
        if self.gate is None:
            inner = self.activation(self.expand(x))
        else:
            inner = self.activation(self.gate(x)) * self.expand(x)
        return self.contract(self.dropout(inner, training=training))
