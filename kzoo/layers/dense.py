"""The dense projection, plain or with a low-rank adapter."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("kzoo")
class Dense(keras.layers.Dense):
    """`keras.layers.Dense`, with the bias added inside torch's product, and adapters that are kept as they are.

    Takes and returns what its parent does: `activation(x @ kernel + bias)`. Once `enable_lora` was called, the kernel
    stands still and `alpha / rank * x @ A @ B` is added (Hu et al., 2021, section 4.1).
    """

    # The parent sets them.
    lora_rank: Any
    lora_alpha: Any
    lora_kernel_a: Any
    lora_kernel_b: Any

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the projection (..., units) of `inputs` (..., width)."""
        # Compilers fuse the sum of the generic way; torch runs it as it stands, and a pass over a wide result to add
        # the bias takes a tenth of a ViT's forward pass.
        has_kernel_of_its_own = keras.backend.backend() == "torch" and self.bias is not None
        if not has_kernel_of_its_own and not self.lora_enabled:
            return super().call(inputs, training=training)
        if has_kernel_of_its_own:
            import torch

            kernel, bias = ops.convert_to_tensor(self._kernel), ops.convert_to_tensor(self.bias)
            x = torch.nn.functional.linear(ops.convert_to_tensor(inputs), kernel.T, bias)
        else:
            x = ops.matmul(inputs, self._kernel)
            x = x if self.bias is None else x + self.bias
        if self.lora_enabled:
            # Not through a sum of the kernels, as the parent has it: half precision would round small changes away,
            # and the backward pass would find the gradient of a whole kernel that stands still.
            inner = ops.matmul(inputs, self.lora_kernel_a)
            x = x + ops.matmul(inner, self.lora_kernel_b) * (self.lora_alpha / self.lora_rank)
        return x if self.activation is None else self.activation(x)

    def merge_lora(self) -> None:
        """Fold the adapter into the kernel, and be plain again."""
        change = ops.matmul(self.lora_kernel_a, self.lora_kernel_b) * (self.lora_alpha / self.lora_rank)
        self._kernel.assign(ops.cast(self._kernel, "float32") + change)
        self._kernel.trainable = True
        # What was compiled before still holds it.
        self.lora_kernel_b.assign(ops.zeros(self.lora_kernel_b.shape))
        for variable in (self.lora_kernel_a, self.lora_kernel_b):
            self._untrack_variable(variable)
        self.lora_kernel_a = self.lora_kernel_b = None
        self.lora_rank = self.lora_alpha = None
        self.lora_enabled = False

    def save_own_variables(self, store: Any) -> None:
        """Save what the layer has, the adapter as it is, which the parent would fold into the kernel and forget."""
        if not self.lora_enabled:
            super().save_own_variables(store)
            return
        for name, variable in self._parts():
            store[name] = variable

    def load_own_variables(self, store: Any) -> None:
        """Load what was saved; an adapter that the file knows nothing of changes nothing then."""
        if not self.lora_enabled:
            super().load_own_variables(store)
            return
        for name, variable in self._parts():
            if name in store.keys():  # noqa: SIM118  (stores of Keras have no `in` of their own)
                variable.assign(store[name])
            else:
                self.lora_kernel_b.assign(ops.zeros(self.lora_kernel_b.shape))

    def _parts(self) -> list[tuple[str, Any]]:
        """Return the variables by the names that files have for them; the first two are the parent's."""
        named = [("0", self._kernel), ("1", self.bias)]
        named += [("lora_kernel_a", self.lora_kernel_a), ("lora_kernel_b", self.lora_kernel_b)]
        return [(name, variable) for name, variable in named if variable is not None]
