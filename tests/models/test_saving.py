"""`.keras` files: what went in comes out, in this process and in a fresh one."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo.errors import KzooError
from kzoo.models import TransformerModel
from kzoo.vision import ImagePreprocessing
from tests.models.tiny import FAMILIES, make_inputs, outputs, shaken, tiny


def saved(model: TransformerModel, folder: Path, name: str = "model") -> Path:
    path = folder / f"{name}.keras"
    model.save(path)
    return path


def assert_same_outputs(model: TransformerModel, again: TransformerModel, inputs: Any) -> None:
    expected, got = outputs(model, inputs), outputs(again, inputs)
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, atol=1e-6)


@pytest.mark.backend
@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_comes_back(tmp_path, family):
    model = shaken(tiny(family, dropout=0.25))
    again = kzoo.models.load(saved(model, tmp_path))
    assert again.get_config() == model.get_config()
    assert again.backbone.config == model.backbone.config
    assert_same_outputs(model, again, make_inputs(model))


_LOAD_ALL = """
import sys, pathlib, numpy as np, keras, kzoo
folder = pathlib.Path(sys.argv[1])
for path in sorted(folder.glob("*.keras")):
    model = kzoo.models.load(path)
    inputs = dict(np.load(path.with_suffix(".inputs.npz")))
    outputs = {name: keras.ops.convert_to_numpy(value) for name, value in model(inputs).items()}
    np.savez(path.with_suffix(".outputs.npz"), **outputs)
"""


@pytest.mark.slow
@pytest.mark.backend
def test_a_fresh_process_gives_the_same_outputs(tmp_path):
    models = {family: shaken(tiny(family)) for family in FAMILIES}
    for family, model in models.items():
        saved(model, tmp_path, family)
        np.savez(tmp_path / f"{family}.inputs.npz", **make_inputs(model))
    subprocess.run([sys.executable, "-c", _LOAD_ALL, str(tmp_path)], check=True, capture_output=True)
    for family, model in models.items():
        got = np.load(tmp_path / f"{family}.outputs.npz")
        for name, value in outputs(model, make_inputs(model)).items():
            np.testing.assert_allclose(got[name], value, atol=1e-6)


def test_all_options_come_back(tmp_path, wordpiece):
    model = tiny(
        "Bert",
        labels=["Business", "Sports"],
        tokenizer=wordpiece,
        max_length=12,
        name="topic",
        dtype="mixed_bfloat16",
        activation="relu",
    )
    again = kzoo.models.load(saved(model, tmp_path))
    assert (again.labels, again.max_length, again.name) == (["Business", "Sports"], 12, "topic")
    assert again.backbone.dtype_policy.name == "mixed_bfloat16"
    assert again.tokenizer.to_json() == wordpiece.to_json()
    texts = ["The dog runs", "shares"]
    np.testing.assert_array_equal(
        again.predict(texts, verbose=0)["logits"], model.predict(texts, verbose=0)["logits"]
    )


def test_embedding_options_come_back(tmp_path):
    model = shaken(tiny("Bert", task="embedding", pooling="max", layer=1, normalize=False))
    again = kzoo.models.load(saved(model, tmp_path))
    assert (again.pooling, again.layer, again.normalize) == ("max", 1, False)
    assert_same_outputs(model, again, make_inputs(model))


def test_a_tasks_own_classes_come_back(tmp_path):
    again = kzoo.models.load(saved(tiny("Bert", task="next_sentence"), tmp_path))
    assert again.labels == ["next", "random"]


def test_image_preprocessing_comes_back(tmp_path):
    settings = ImagePreprocessing(height=8, width=8, mean=[0.4, 0.5, 0.6], std=[0.1, 0.2, 0.3])
    model = tiny("ViT", image_preprocessing=settings)
    assert kzoo.models.load(saved(model, tmp_path)).image_preprocessing == settings


def test_the_users_own_compile_comes_back(tmp_path):
    model = tiny("Bert", num_layers=1)
    model.compile(optimizer=keras.optimizers.SGD(0.25), loss="sparse_categorical_crossentropy")
    again = kzoo.models.load(saved(model, tmp_path))
    assert isinstance(again.optimizer, keras.optimizers.SGD)
    again.fit(make_inputs(model), [0, 1, 0], verbose=0)
    assert isinstance(again.optimizer, keras.optimizers.SGD)


@pytest.mark.backend
def test_training_state_comes_back(tmp_path):
    model = tiny("Bert", num_layers=1)
    model.fit(make_inputs(model), [0, 1, 0], epochs=2, verbose=0)
    again = kzoo.models.load(saved(model, tmp_path))
    assert int(again.optimizer.iterations) == 2
    for one, other in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(one.value), keras.ops.convert_to_numpy(other.value)
        )


def test_weights_alone(tmp_path):
    model, other = shaken(tiny("Transformer")), tiny("Transformer")
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    assert_same_outputs(model, other, make_inputs(model))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(KzooError, match=r"There is no file 'nowhere\.keras'"):
        kzoo.models.load("nowhere.keras")
    with pytest.raises(KzooError, match="There is no file"):
        kzoo.models.load(tmp_path)


def test_a_file_that_is_cut_short(tmp_path):
    path = saved(tiny("ViT"), tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(KzooError, match=r"is not a whole \.keras file"):
        kzoo.models.load(path)


def test_a_file_with_a_program_in_it_is_refused(tmp_path):
    ran = tmp_path / "ran"
    name = str(ran)
    program = keras.layers.Lambda(lambda x: (pathlib.Path(name).touch(), x)[1])
    model = keras.Sequential([keras.Input((2,)), program])
    model.save(tmp_path / "evil.keras")
    ran.unlink(missing_ok=True)
    with pytest.raises(ValueError, match="Lambda"):
        kzoo.models.load(tmp_path / "evil.keras")
    assert not ran.exists()
