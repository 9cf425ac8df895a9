"""Keras models written with nothing of kzoo, on whichever backend KERAS_BACKEND names."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import textwrap

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers

import kzoo
from kzoo.errors import ExportError

pytestmark = pytest.mark.backend


def run(path: pathlib.Path, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def shapes(values: list[onnxruntime.NodeArg]) -> dict[str, list[int | str]]:
    return {value.name: value.shape for value in values}


def text_model() -> keras.Model:
    tokens = keras.Input((None, 16), name="tokens")
    x = layers.Dense(32, activation="gelu")(tokens)
    x = layers.LayerNormalization()(x)
    x = layers.MultiHeadAttention(4, 8)(x, x)
    return keras.Model(tokens, layers.Dense(3, name="scores")(x))


def test_a_functional_model_agrees_at_any_batch_and_length(tmp_path: pathlib.Path) -> None:
    model, path = text_model(), tmp_path / "model.onnx"
    report = kzoo.export.to_onnx(model, path)
    assert report.largest_difference < 1e-4
    onnx.checker.check_model(str(path), full_check=True)
    for batch, length in [(1, 1), (2, 7), (5, 40)]:
        x = np.random.default_rng(0).standard_normal((batch, length, 16)).astype("float32")
        expected = keras.ops.convert_to_numpy(model(x))
        np.testing.assert_allclose(run(path, tokens=x)["scores"], expected, rtol=1e-4, atol=1e-4)


def test_names_of_inputs_outputs_axes_and_weights(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "model.onnx"
    model = text_model()
    kzoo.export.to_onnx(model, path)
    session = onnxruntime.InferenceSession(str(path))
    assert shapes(session.get_inputs()) == {"tokens": ["batch", "sequence", 16]}
    assert shapes(session.get_outputs()) == {"scores": ["batch", "sequence", 3]}
    names = {tensor.name for tensor in onnx.load(str(path)).graph.initializer}
    for variable in model.trainable_variables:
        layer, _, rest = variable.path.partition("/")
        # One matrix makes all three, so it is named after the layer that they share.
        if rest.split("/")[0] in ("query", "key", "value"):
            assert f"{layer}/{variable.name}" in names
        else:
            assert variable.path in names


def test_several_inputs_and_outputs_keep_their_keys(tmp_path: pathlib.Path) -> None:
    ids = keras.Input((None,), dtype="int32", name="ids")
    image = keras.Input((8, 8, 3), name="image")
    words = layers.GlobalAveragePooling1D()(layers.Embedding(100, 8)(ids))
    picture = layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(image))
    joined = layers.Concatenate()([words, picture])
    model = keras.Model({"ids": ids, "image": image}, {"label": layers.Dense(2)(joined), "words": words})
    path = tmp_path / "model.onnx"
    kzoo.export.to_onnx(model, path)
    inputs = {"ids": np.arange(12, dtype="int32").reshape(3, 4), "image": np.ones((3, 8, 8, 3), "float32")}
    outputs, expected = run(path, **inputs), model(inputs)
    assert set(outputs) == {"label", "words"}
    for name, array in outputs.items():
        np.testing.assert_allclose(array, keras.ops.convert_to_numpy(expected[name]), rtol=1e-4, atol=1e-4)


def test_adapted_statistics_and_recurrent_layers_travel(tmp_path: pathlib.Path) -> None:
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(0).standard_normal((50, 3)).astype("float32") * 4 + 9)
    model = keras.Sequential([keras.Input((None, 3)), normalization, layers.Bidirectional(layers.GRU(4))])
    path = tmp_path / "model.onnx"
    assert kzoo.export.to_onnx(model, path).largest_difference < 1e-4


def test_half_precision_is_exported_in_float32(tmp_path: pathlib.Path) -> None:
    x = inputs = keras.Input((6,))
    for policy in ("float32", "mixed_float16", "mixed_bfloat16", "bfloat16", "float16"):
        x = layers.Dense(6, activation="tanh", dtype=policy)(x)
    path = tmp_path / "model.onnx"
    kzoo.export.to_onnx(keras.Model(inputs, x), path)
    graph = onnx.load(str(path)).graph
    assert {tensor.data_type for tensor in graph.initializer if tensor.dims} <= {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.INT64,
        onnx.TensorProto.INT32,
    }
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


class Small(keras.regularizers.Regularizer):
    def __call__(self, x: object) -> object:
        return keras.ops.sum(keras.ops.abs(x))

    def get_config(self) -> dict[str, object]:
        return {}


def test_nested_models_tuples_shared_weights_and_free_image_sizes(tmp_path: pathlib.Path) -> None:
    image = keras.Input((None, None, 3), name="image")
    eye = keras.Sequential(
        [layers.Conv2D(4, 3, padding="same", activation="relu"), layers.GlobalMaxPooling2D()], name="eye"
    )
    first, second = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    words = layers.Embedding(30, 8, name="words")
    encoder = keras.Sequential(
        [keras.Input((None,)), words, layers.GlobalAveragePooling1D(), layers.Dense(4)], name="encoder"
    )
    left, right = encoder(first), encoder(second)
    product = layers.Dot(1)([left, right])
    seen = layers.Dense(2, kernel_regularizer=Small(), name="seen")(layers.Add()([eye(image), left]))
    model = keras.Model((image, [first, second]), (seen, [product, right]))
    path = tmp_path / "model.onnx"
    # The regularizer cannot be found on the model, and is not registered.
    kzoo.export.to_onnx(model, path, custom_objects={"Small": Small})
    session = onnxruntime.InferenceSession(str(path))
    assert shapes(session.get_inputs())["image"] == ["batch", "height", "width", 3]
    generator = np.random.default_rng(0)
    given = (
        generator.standard_normal((2, 11, 6, 3)).astype("float32"),
        [generator.integers(0, 30, (2, length), "int32") for length in (4, 4)],
    )
    names = [value.name for value in session.get_inputs()]
    outputs = session.run(None, dict(zip(names, keras.tree.flatten(given), strict=True)))
    expected = keras.tree.flatten(model(given))
    assert len(outputs) == 3
    for array in expected:
        # Outputs are named by layers here, which two models made for one test do not share.
        reference = keras.ops.convert_to_numpy(array)
        assert any(
            output.shape == reference.shape and np.allclose(output, reference, atol=1e-4)
            for output in outputs
        )
    stored = [tensor for tensor in onnx.load(str(path)).graph.initializer if list(tensor.dims) == [30, 8]]
    assert len(stored) == 1


@keras.saving.register_keras_serializable("tests")
class Gain(layers.Layer):
    def build(self, shape: tuple[int | None, ...]) -> None:
        self.gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="gain")

    def call(self, x: object) -> object:
        return x * self.gain


class Tagger(keras.Model):
    def __init__(self, width: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.embedding = layers.Embedding(50, width)
        self.gain = Gain()
        self.head = layers.Dense(3)

    def call(self, ids: object) -> dict[str, object]:
        return {"tags": self.head(self.gain(self.embedding(ids)))}

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "width": self.width}


def test_a_subclassed_model_with_its_own_layers(tmp_path: pathlib.Path) -> None:
    model, path = Tagger(8), tmp_path / "model.onnx"
    ids = np.arange(10, dtype="int32").reshape(2, 5)
    expected = keras.ops.convert_to_numpy(model(ids)["tags"])
    kzoo.export.to_onnx(model, path, inputs=ids)
    session = onnxruntime.InferenceSession(str(path))
    assert shapes(session.get_inputs()) == {"inputs": ["batch", "sequence"]}
    np.testing.assert_allclose(run(path, inputs=ids)["tags"], expected, rtol=1e-4, atol=1e-4)
    # The guess from outside takes an embedding's input for tokens.
    kzoo.export.to_onnx(model, path)
    np.testing.assert_allclose(run(path, inputs=ids)["tags"], expected, rtol=1e-4, atol=1e-4)


class Table(layers.Layer):
    def __init__(self, table: np.ndarray, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.table = table

    def call(self, x: object) -> object:
        return x * keras.ops.convert_to_tensor(self.table)


def test_an_argument_that_cannot_be_serialised_is_refused_by_name(tmp_path: pathlib.Path) -> None:
    model = keras.Sequential([keras.Input((3,)), Table(np.ones(3, "float32"), name="lookup")])
    path = tmp_path / "model.onnx"
    if keras.backend.backend() == "tensorflow":
        assert kzoo.export.to_onnx(model, path).largest_difference < 1e-4
    else:
        with pytest.raises(ExportError, match=r"'lookup' \(Table\).*'table'.*get_config"):
            kzoo.export.to_onnx(model, path)
        assert not path.exists()


class Forgetful(layers.Layer):
    def __init__(self, units: int = 4, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.scales = self.add_weight(shape=(self.units,), initializer="ones", name="scales")

    def call(self, x: object) -> object:
        return x * keras.ops.sum(self.scales)

    def get_config(self) -> dict[str, object]:
        return {"name": self.name}


def test_a_config_that_forgets_an_argument_is_refused(tmp_path: pathlib.Path) -> None:
    if keras.backend.backend() == "tensorflow":
        pytest.skip("nothing is rebuilt on TensorFlow")
    model = keras.Sequential([keras.Input((3,)), Forgetful(6, name="forgetful")])
    with pytest.raises(ExportError, match=r"other weights.*forgetful/scales.*get_config"):
        kzoo.export.to_onnx(model, tmp_path / "model.onnx")
    assert not any(tmp_path.iterdir())


def test_classes_of_a_script_travel_by_value(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        textwrap.dedent("""
        import keras, numpy as np, kzoo

        def twice(x):
            return keras.ops.tanh(x) * 2

        class Mine(keras.Model):
            def __init__(self, width, **kwargs):
                super().__init__(**kwargs)
                self.width = width
                self.dense = keras.layers.Dense(width, activation=twice)

            def call(self, x):
                return self.dense(x)

            def get_config(self):
                return {**super().get_config(), "width": self.width}

        model = Mine(4)
        x = np.ones((2, 3), "float32")
        model(x)
        print(kzoo.export.to_onnx(model, "mine.onnx", inputs=x).largest_difference < 1e-4)
        """)
    )
    result = subprocess.run(
        [sys.executable, script.name],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.strip() == "True", result.stderr
    assert run(tmp_path / "mine.onnx", inputs=np.ones((2, 3), "float32"))["output"].shape == (2, 4)


def test_a_model_never_built_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ExportError, match="never built: call it on a batch"):
        kzoo.export.to_onnx(keras.Sequential([layers.Dense(2)]), tmp_path / "model.onnx")
    assert not any(tmp_path.iterdir())


def test_an_operation_that_onnx_lacks_is_named(tmp_path: pathlib.Path) -> None:
    model = keras.Sequential(
        [
            keras.Input((4, 4)),
            layers.Lambda(lambda x: keras.ops.real(keras.ops.fft2((x, x * 0))[0]), name="spectrum"),
        ]
    )
    with pytest.raises(ExportError, match="spectrum"):
        kzoo.export.to_onnx(model, tmp_path / "model.onnx")
    assert not any(tmp_path.iterdir())
