"""What the child process of an export rebuilds of a model."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from kzoo.export.handover import describe_model
from kzoo.export.signatures import signature_of

if keras.backend.backend() != "tensorflow":
    pytest.skip("the child runs on TensorFlow", allow_module_level=True)
from kzoo.export.child import rebuild


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave alone what belongs to the whole process, which a child has to itself and these tests have not."""
    monkeypatch.setattr(keras.config, "enable_unsafe_deserialization", lambda: None)
    monkeypatch.setattr(keras.utils, "clear_session", lambda: None)


def again(model: keras.Model) -> keras.Model:
    return rebuild(describe_model(model, signature_of(model), serving=False))


def valueless(model: keras.Model) -> list[str]:
    return [variable.name for variable in model.variables if variable._value is None]


def test_weights_are_declared_and_take_no_memory() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dropout(0.1), layers.Dense(2)])
    rebuilt = again(model)
    assert valueless(rebuilt) == [variable.name for variable in rebuilt.variables]
    assert [variable.shape for variable in rebuilt.weights] == [variable.shape for variable in model.weights]
    # They stay so: Keras initializes what it made without values when it next leaves a scope of that kind.
    with keras.StatelessScope():
        pass
    assert valueless(rebuilt)


def test_statistics_that_become_constants_have_their_values() -> None:
    normalization = layers.Normalization()
    normalization.adapt(np.arange(12, dtype="float32").reshape(4, 3))
    rebuilt = again(keras.Sequential([keras.Input((3,)), normalization, layers.Dense(2)]))
    np.testing.assert_allclose(rebuilt.layers[0].mean, [[4.5, 5.5, 6.5]])
    assert valueless(rebuilt) == ["kernel", "bias"]


@keras.saving.register_keras_serializable("tests")
class Counted(layers.Layer):
    """Begins with an array, which Keras takes only where a variable gets its value at once."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.numbers = keras.Variable(np.arange(shape[-1], dtype="float32"), name="numbers")

    def call(self, x: object) -> object:
        return x * self.numbers


def test_a_layer_that_begins_with_an_array_is_rebuilt_too() -> None:
    model = keras.Sequential([keras.Input((3,)), Counted(), layers.Dense(2)])
    rebuilt = again(model)
    assert [variable.name for variable in rebuilt.variables] == ["numbers", "kernel", "bias"]
    np.testing.assert_allclose(rebuilt.layers[0].numbers, [0, 1, 2])
