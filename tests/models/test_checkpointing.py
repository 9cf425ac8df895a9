"""Gradient checkpointing: the same training in less memory."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from tests.models.tiny import make_inputs, tiny


def trained(on: bool) -> tuple[list[float], list[np.ndarray]]:
    """Return the losses of three steps and the weights after them; every random draw is the seed's."""
    keras.utils.set_random_seed(5)
    rates = {"dropout": 0.2, "attention_dropout": 0.2, "drop_path": 0.4}
    model = tiny("ViT", num_classes=2, layer_scale=0.5, gradient_checkpointing=on, **rates)
    model.compile(keras.optimizers.SGD(0.5), loss=model.loss)
    inputs = make_inputs(model, batch=4)
    steps = [model.train_on_batch(inputs, np.array([0, 1, 1, 0]), return_dict=True) for _ in range(3)]
    weights = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    return [float(step["loss"]) for step in steps], weights


@pytest.mark.backend
def test_training_is_the_same_random_draws_and_all() -> None:
    losses, weights = trained(False)
    again, other = trained(True)
    assert len(set(losses)) == 3
    np.testing.assert_allclose(again, losses, rtol=1e-5)
    for one, two in zip(weights, other, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5)


@pytest.mark.backend
def test_gradients_reach_what_all_blocks_share() -> None:
    def bias_after_a_step(on: bool) -> np.ndarray:
        keras.utils.set_random_seed(5)
        model = tiny("T5", task="features", num_layers=1, dropout=0.2, gradient_checkpointing=on)
        model.compile(keras.optimizers.SGD(1.0), loss="mean_squared_error")
        inputs = make_inputs(model)
        halves = {name: np.full(value.shape, 0.5, "float32") for name, value in model(inputs).items()}
        model.train_on_batch(inputs, halves)
        return keras.ops.convert_to_numpy(model.backbone.relative_biases["encoder"].embeddings)

    np.testing.assert_allclose(bias_after_a_step(True), bias_after_a_step(False), atol=1e-5)


def test_it_is_saved_with_the_model(tmp_path: Any) -> None:
    model = tiny("Bert", gradient_checkpointing=True)
    model.save(tmp_path / "model.keras")
    again = kzoo.models.load(tmp_path / "model.keras")
    assert again.gradient_checkpointing
    assert all(block.gradient_checkpointing for block in again.backbone.all_blocks())


# What autograd keeps can be weighed exactly on torch, where it is a list of tensors.
if keras.backend.backend() == "torch":

    @pytest.mark.backend
    def test_less_is_kept_for_the_backward_pass() -> None:
        import torch

        def kept(on: bool) -> int:
            model = tiny("Bert", num_layers=4, gradient_checkpointing=on)
            inputs = {
                name: keras.ops.convert_to_tensor(value)
                for name, value in make_inputs(model, batch=8, length=32).items()
            }
            weights = {weight.value.data_ptr() for weight in model.weights}
            sizes: dict[int, int] = {}

            def weigh(tensor: Any) -> Any:
                if tensor.untyped_storage().data_ptr() not in weights:
                    sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(weigh, lambda tensor: tensor):
                loss = model(inputs, training=True)["logits"].sum()
            del loss
            return sum(sizes.values())

        assert kept(True) < 0.3 * kept(False)
