"""Pruning: which weights become zeros, and that they stay so while a model trains."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kzoo import KzooError
from kzoo.training import Pruning, prune


def build() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(20, 8)(inputs)
    x = keras.layers.EinsumDense("abc,cd->abd", (None, 16), bias_axes="d")(x)
    x = keras.layers.LayerNormalization()(x)
    x = keras.layers.Conv1D(8, 3)(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def value(variable: keras.Variable) -> np.ndarray:
    # A copy: what torch gives would change with the variable.
    return np.array(keras.ops.convert_to_numpy(variable.value))


def kernels(model: keras.Model) -> dict[str, np.ndarray]:
    return {each.path: value(each) for each in model.weights if each.path.endswith("kernel")}


def share_of_zeros(arrays: list[np.ndarray]) -> float:
    return sum((array == 0).sum() for array in arrays) / sum(array.size for array in arrays)


def test_the_smallest_weights_of_all_kernels_become_zeros() -> None:
    model = build()
    before = kernels(model)
    others = {each.path: value(each) for each in model.weights if each.path not in before}
    shares = prune(model, 0.6)
    after = kernels(model)
    assert shares.keys() == after.keys() and len(after) == 3
    assert share_of_zeros(list(after.values())) == pytest.approx(0.6, abs=0.01)
    for path, share in shares.items():
        assert share == pytest.approx(share_of_zeros([after[path]]), abs=1e-6)
    # One bound on the size holds everywhere, and what is above it is as it was.
    bound = max(np.abs(before[path][after[path] == 0]).max() for path in after)
    for path, array in after.items():
        stays = array != 0
        assert (np.abs(array[stays]) >= bound).all()
        np.testing.assert_array_equal(array[stays], before[path][stays])
    for each in model.weights:
        if each.path in others:
            np.testing.assert_array_equal(value(each), others[each.path])


def test_as_many_in_every_layer() -> None:
    shares = prune(build(), 0.5, scope="layer")
    assert list(shares.values()) == pytest.approx([0.5] * 3, abs=0.01)


@pytest.mark.backend
def test_zeros_ramp_up_and_stay_while_training() -> None:
    model = build()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    seen: list[float] = []
    pruning = Pruning(0.8, end_step=12, begin_step=2, every=2)

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            seen.append(share_of_zeros(list(kernels(self.model).values())))

    ids, labels = np.random.default_rng(0).integers(0, 20, (64, 6)), np.arange(64) % 2
    model.fit(ids, labels, batch_size=8, epochs=2, verbose=0, callbacks=[pruning, Watch()])
    wanted = [pruning.sparsity_at(step) for step in (4, 6, 8, 10, 12)]
    assert seen[:2] == [0, 0]
    assert [seen[step - 1] for step in (4, 6, 8, 10, 12)] == pytest.approx(wanted, abs=0.01)
    assert wanted == sorted(wanted) and wanted[1] - wanted[0] > wanted[4] - wanted[3]
    assert seen[12:] == pytest.approx([0.8] * 4, abs=0.01)
    assert share_of_zeros(list(kernels(model).values())) == pytest.approx(0.8, abs=0.01)


def test_training_that_ends_early_is_pruned_all_the_same() -> None:
    model = build()
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 6), "int32"), np.ones((4, 2)), verbose=0, callbacks=[Pruning(0.5, end_step=1000)])
    assert share_of_zeros(list(kernels(model).values())) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 1.0}, "from 0 to less than 1"),
        ({"sparsity": 0.5, "scope": "globl"}, "Did you mean 'global'"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(KzooError, match=message):
        prune(build(), **arguments)
    with pytest.raises(KzooError, match=message):
        Pruning(**arguments, end_step=10)


def test_a_ramp_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(KzooError, match="from begin_step to end_step"):
        Pruning(0.5, end_step=10, begin_step=20)


def test_a_model_without_kernels_is_refused() -> None:
    with pytest.raises(KzooError, match="call it on a batch first"):
        prune(keras.Sequential([keras.layers.Dense(3)]), 0.5)
