"""The default optimizer: its schedule, and what it decays."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import kzoo
from kzoo.training import default_learning_rate, default_optimizer
from tests.models.tiny import shaken, tiny


def rates(total_steps, steps):
    schedule = default_optimizer(0.5, total_steps)._learning_rate
    return [float(schedule(step)) for step in steps]


def test_the_rate_warms_up_and_decays_to_zero():
    start, middle, peak, later, end = rates(1000, [0, 50, 100, 550, 1000])
    assert (start, middle, peak) == pytest.approx((0.0, 0.25, 0.5))
    assert later == pytest.approx(0.25)
    assert end == pytest.approx(0.0, abs=1e-6)


def test_long_runs_warm_up_for_a_thousand_steps():
    assert rates(100_000, [999, 1000])[1] == pytest.approx(0.5)
    assert rates(100_000, [500])[0] == pytest.approx(0.25)


@pytest.mark.parametrize("total_steps", [1, 5, 9])
def test_runs_too_short_to_warm_up_start_at_the_peak(total_steps):
    values = rates(total_steps, range(total_steps + 1))
    assert values[0] == pytest.approx(0.5)
    assert values[-1] == pytest.approx(0.0, abs=1e-6)
    assert all(np.diff(values) <= 0)


def test_runs_of_unknown_length_stay_at_the_peak():
    assert rates(None, [100, 10_000, 1_000_000]) == pytest.approx([0.5] * 3)


def test_wider_models_learn_more_slowly():
    assert default_learning_rate(64) == pytest.approx(1e-3)
    assert default_learning_rate(768) == pytest.approx(8.3e-5, rel=0.01)


def moved_by_decay(model):
    """Take one step with gradients of 0, and return the paths of the weights that moved."""
    model.optimizer.learning_rate = keras.optimizers.schedules.CosineDecay(1.0, 1_000_000)
    variables = model.trainable_variables
    before = [keras.ops.convert_to_numpy(variable.value).copy() for variable in variables]
    model.optimizer.apply([keras.ops.zeros(variable.shape) for variable in variables], variables)
    return {
        variable.path
        for variable, value in zip(variables, before, strict=True)
        if not np.array_equal(value, keras.ops.convert_to_numpy(variable.value))
    }


@pytest.mark.backend
def test_weight_decay_leaves_biases_and_norms_alone(tmp_path):
    model = shaken(tiny("Bert", num_layers=1))
    model.save(tmp_path / "model.keras")
    for each in (model, kzoo.models.load(tmp_path / "model.keras")):
        decayed = {path.rsplit("/", 1)[1] for path in moved_by_decay(each)}
        assert decayed == {"kernel", "embeddings"}


def test_a_models_name_does_not_decide_what_decays():
    model = shaken(tiny("Bert", num_layers=1, name="beta_bias"))
    assert "beta_bias/backbone/pooler/kernel" in moved_by_decay(model)
