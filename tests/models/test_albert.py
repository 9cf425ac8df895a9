"""ALBERT's one block, which stands for all."""

from __future__ import annotations

import zipfile
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from kzoo.models import Albert, Bert, TransformerModel
from tests.models.tiny import make_inputs, tiny

pytestmark = pytest.mark.backend


class Unshared(Albert):
    """The same arithmetic with weights of its own for each block."""

    make_blocks = Bert.make_blocks


def step(model: TransformerModel, inputs: Any) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss)
    model.fit(inputs, [0, 1, 0], verbose=0)


def kernel(block: Any) -> np.ndarray:
    return _copy(block.attention.value.kernel)


def _copy(variable: Any) -> np.ndarray:
    # A view of it would follow what training does to it on one backend, and be taken away on another.
    return np.array(keras.ops.convert_to_numpy(variable))


def test_the_block_learns_from_each_time_it_runs():
    shared = tiny("Albert", classifier_dropout=0.0)
    apart = TransformerModel(Unshared(shared.backbone.config, name="backbone"), "classification")
    values = {variable.path.split("/", 1)[1]: _copy(variable) for variable in shared.weights}
    for variable in apart.weights:
        variable.assign(values[variable.path.split("/", 1)[1].replace("block_1", "block_0")])
    before = kernel(shared.backbone.blocks[0])
    for model in (shared, apart):
        step(model, make_inputs(model))
    first, second = (kernel(block) - before for block in apart.backbone.blocks)
    assert np.abs(first).max() > 1e-4 and np.abs(second).max() > 1e-4
    np.testing.assert_allclose(kernel(shared.backbone.blocks[0]) - before, first + second, atol=1e-5)


def test_more_layers_are_no_more_weights(tmp_path):
    deep, shallow = tiny("Albert", num_layers=5), tiny("Albert", num_layers=1)
    assert deep.count_params() == shallow.count_params()
    assert len(deep.attention_maps(make_inputs(deep))) == 5

    deep.save(tmp_path / "deep.keras")
    with zipfile.ZipFile(tmp_path / "deep.keras") as archive:
        archive.extract("model.weights.h5", tmp_path)
    sizes: list[int] = []
    with h5py.File(tmp_path / "model.weights.h5") as file:
        file.visititems(lambda name, item: sizes.append(item.size if isinstance(item, h5py.Dataset) else 0))
    state = sum(int(np.prod(variable.shape)) for variable in deep.optimizer.variables)
    assert sum(sizes) <= deep.count_params() + state
