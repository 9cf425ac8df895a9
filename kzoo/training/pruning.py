"""Magnitude pruning: the smallest weights become zeros, at once or little by little while the model trains."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kzoo.errors import KzooError, did_you_mean

_PRUNED = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_SCOPES = ("global", "layer")


def prune(model: keras.Model, sparsity: float, scope: str = "global") -> dict[str, float]:
    """Set the smallest weights of a model's dense and convolution kernels to zero.

    Embeddings, normalizations and biases stay: they are few, or each of their numbers counts.

    Args:
        model: a built model, changed in place.
        sparsity: share of the kernels' weights that become zeros, from 0 to less than 1.
        scope: `"global"` takes the smallest weights wherever they are, `"layer"` as many in every kernel.

    Returns:
        The share of zeros in each kernel, by its path.

    Raises:
        KzooError: the sparsity or scope is none, or the model has no kernels.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> [round(share, 2) for share in prune(model, 0.75).values()]
        [0.75]
    """
    _check(sparsity, scope)
    kernels = _kernels(model)
    masks = _masks(kernels, sparsity, scope)
    _apply(kernels, masks)
    return {kernel.path: 1 - float(mask.mean()) for kernel, mask in zip(kernels, masks, strict=True)}


class Pruning(keras.callbacks.Callback):
    """Prunes while a model trains: more and more up to `end_step` (Zhu and Gupta, 2017), and keeps the zeros then.

    At step t the sparsity is `sparsity * (1 - (1 - (t - begin_step) / (end_step - begin_step)) ** 3)`: fast at first,
    while many weights are idle, and slowly at the end. What was pruned on the way may grow back until then.

    Args:
        sparsity: as for `prune`, at the end.
        end_step: the training step, over all epochs of a `fit`, at which it is reached.
        begin_step: the step after which pruning begins.
        every: how many steps apart the weights are chosen anew.
        scope: as for `prune`.

    Raises:
        KzooError: a number that makes no sense.
    """

    def __init__(
        self, sparsity: float, end_step: int, begin_step: int = 0, every: int = 100, scope: str = "global"
    ) -> None:
        super().__init__()
        _check(sparsity, scope)
        if not 0 <= begin_step <= end_step or every < 1:
            raise KzooError(
                f"begin_step={begin_step}, end_step={end_step}, every={every}: pruning goes on from begin_step to "
                "end_step, and the weights are chosen anew every 1 or more steps."
            )
        self.sparsity, self.scope = sparsity, scope
        self.begin_step, self.end_step, self.every = begin_step, end_step, every
        self.step = 0
        self._kernels: list[Any] = []
        self._masks: list[np.ndarray] = []

    def sparsity_at(self, step: int) -> float:
        """Return the sparsity that a step asks for."""
        if step >= self.end_step:
            return self.sparsity
        if step <= self.begin_step:
            return 0.0
        done = (step - self.begin_step) / (self.end_step - self.begin_step)
        return self.sparsity * (1 - (1 - done) ** 3)

    def on_train_begin(self, logs: Any = None) -> None:
        """Find the kernels."""
        self._kernels, self._masks, self.step = _kernels(self.model), [], 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Choose weights, where it is time to, and set those chosen to zero again."""
        self.step += 1
        since = self.step - self.begin_step
        chooses = self.begin_step < self.step <= self.end_step and since % self.every == 0
        if not (chooses or self.step == self.end_step or self._masks):
            return
        if keras.backend.backend() == "jax":
            # There the weights live outside their variables during an epoch.
            self.model.jax_state_sync()
        if chooses or self.step == self.end_step:
            self._masks = _masks(self._kernels, self.sparsity_at(self.step), self.scope)
        _apply(self._kernels, self._masks)

    def on_train_end(self, logs: Any = None) -> None:
        """Reach the sparsity, even if training ended before its time."""
        if self.step < self.end_step:
            self._masks = _masks(self._kernels, self.sparsity, self.scope)
            _apply(self._kernels, self._masks)


def _check(sparsity: float, scope: str) -> None:
    if not 0 <= sparsity < 1:
        raise KzooError(f"sparsity={sparsity}: the share of zeros is from 0 to less than 1.")
    if scope not in _SCOPES:
        raise KzooError(f"Unknown scope '{scope}'.{did_you_mean(scope, _SCOPES)}")


def _kernels(model: keras.Model) -> list[Any]:
    """Return the kernels to prune, each once."""
    found = {
        id(layer.kernel): layer.kernel
        for layer in model._flatten_layers()
        if isinstance(layer, _PRUNED) and layer.built and isinstance(layer.kernel, keras.Variable)
    }
    if not found:
        raise KzooError(
            f"The model '{model.name}' has no built dense or convolution layer to prune: call it on a batch first."
        )
    return list(found.values())


def _masks(kernels: list[Any], sparsity: float, scope: str) -> list[np.ndarray]:
    """Return which weights stay, kernel by kernel."""
    sizes = [np.abs(keras.ops.convert_to_numpy(kernel.value).astype("float32")) for kernel in kernels]
    if scope == "layer":
        return [_largest(each.ravel(), sparsity).reshape(each.shape) for each in sizes]
    flat = _largest(np.concatenate([each.ravel() for each in sizes]), sparsity)
    parts = np.split(flat, np.cumsum([each.size for each in sizes])[:-1])
    return [part.reshape(each.shape) for part, each in zip(parts, sizes, strict=True)]


def _largest(sizes: np.ndarray, sparsity: float) -> np.ndarray:
    kept = np.ones(sizes.shape, bool)
    count = round(sparsity * sizes.size)
    if count:
        kept[np.argpartition(sizes, count - 1)[:count]] = False
    return kept


def _apply(kernels: list[Any], masks: list[np.ndarray]) -> None:
    for kernel, mask in zip(kernels, masks, strict=True):
        kernel.assign(keras.ops.where(mask, kernel.value, 0))
