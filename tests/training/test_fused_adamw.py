"""AdamW in one pass: the arithmetic of Keras' own, on every backend."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from kzoo.training import cosine_schedule, exclude_from_weight_decay, make_optimizer
from kzoo.training.fused_adamw import FusedAdamW

SHAPES = {"kernel": (4, 3), "bias": (3,), "embeddings": (5, 2)}


def weights() -> list[Any]:
    random = np.random.default_rng(0)
    return [
        keras.Variable(random.normal(size=shape).astype("float32"), name=name)
        for name, shape in SHAPES.items()
    ]


def gradients(step: int, scale: float = 1.0) -> list[Any]:
    random = np.random.default_rng(step + 1)
    return [
        ops.convert_to_tensor(scale * random.normal(size=shape).astype("float32"))
        for shape in SHAPES.values()
    ]


def after(
    optimizer: Any, steps: range, start: list[Any] | None = None, scale: float = 1.0
) -> list[np.ndarray]:
    variables = start or weights()
    for step in steps:
        optimizer.apply(gradients(step, scale), variables)
    return [ops.convert_to_numpy(variable) for variable in variables]


@pytest.mark.backend
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.5},
        {"weight_decay": 0.0},
        {"global_clipnorm": 0.1, "weight_decay": 0.1},
        {"gradient_accumulation_steps": 2},
        {"clipnorm": 0.1, "beta_1": 0.8, "beta_2": 0.95},
        {"epsilon": 0.1},
        {"amsgrad": True},
    ],
    ids=str,
)
def test_weights_go_where_keras_own_takes_them(options: dict[str, Any]) -> None:
    plain = keras.optimizers.AdamW(cosine_schedule(0.1, 20), **options)
    exclude_from_weight_decay(plain)
    expected = after(plain, range(6))
    found = after(FusedAdamW(cosine_schedule(0.1, 20), **options), range(6))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert any(
        (one != ops.convert_to_numpy(other)).any() for one, other in zip(found, weights(), strict=True)
    )


@pytest.mark.backend
def test_what_is_no_number_is_not_hidden() -> None:
    for bad in (np.nan, np.inf):
        optimizer, variables = FusedAdamW(0.1, global_clipnorm=1.0), weights()
        broken = gradients(0)
        broken[1] = ops.convert_to_tensor(np.array([1.0, bad, 1.0], "float32"))
        optimizer.apply(broken, variables)
        assert all(np.isnan(ops.convert_to_numpy(variable)).all() for variable in variables)


@pytest.mark.backend
def test_a_saved_one_goes_on(tmp_path) -> None:
    def model() -> keras.Model:
        keras.utils.set_random_seed(0)
        made = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)])
        made.compile(optimizer=make_optimizer(cosine_schedule(0.1, 20), weight_decay=0.1), loss="mse")
        return made

    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 3)), random.normal(size=(40, 1))
    whole, first = model(), model()
    whole.fit(x, y, batch_size=10, epochs=4, shuffle=False, verbose=0)
    first.fit(x, y, batch_size=10, epochs=2, shuffle=False, verbose=0)
    first.save(tmp_path / "model.keras")
    later = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(later.optimizer, FusedAdamW)
    later.fit(x, y, batch_size=10, epochs=2, shuffle=False, verbose=0)
    for one, other in zip(later.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
