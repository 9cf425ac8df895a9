"""The dense projection."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("kzoo")
class Dense(keras.layers.Dense):
    """`keras.layers.Dense`, with the bias added inside torch's product.

    Takes and returns what its parent does: `activation(x @ kernel + bias)`.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the projection (..., units) of `inputs` (..., width)."""
        # Compilers fuse the sum of the generic way; torch runs it as it stands, and a pass over a wide result to add
        # the bias takes a tenth of a ViT's forward pass.
        if keras.backend.backend() != "torch" or self.bias is None or self.lora_enabled:
            return super().call(inputs, training=training)
        import torch

        kernel, bias = ops.convert_to_tensor(self.kernel), ops.convert_to_tensor(self.bias)
        x = torch.nn.functional.linear(ops.convert_to_tensor(inputs), kernel.T, bias)
        return x if self.activation is None else self.activation(x)
