"""A lone graph says what it is."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import onnxruntime

import kzoo
from kzoo.runtime.metadata import decode_metadata, encode_metadata
from kzoo.text import Tokenizer
from tests.models.tiny import tiny


def facts(path: pathlib.Path) -> dict[str, Any]:
    return decode_metadata(onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map)


def test_a_graph_of_the_zoo_says_what_the_manifest_says(wordpiece: Tokenizer, tmp_path: pathlib.Path) -> None:
    model = tiny("Bert", task="multilabel", labels=["gut", "böse"], tokenizer=wordpiece)
    model.export(tmp_path / "bundle", name="mood")
    manifest = kzoo.load(tmp_path / "bundle").manifest
    said = facts(tmp_path / "bundle" / "model.onnx")
    assert said == {
        "version": kzoo.__version__,
        "name": "mood",
        "role": "model",
        "task": "multilabel",
        "labels": manifest.labels,
        "text": manifest.model_dump()["text"],
    }
    assert said["text"]["tokenizer"] == "tokenizer.json"


def test_a_lone_graph_knows_its_images(tmp_path: pathlib.Path) -> None:
    model = tiny("ViT", labels=["dark", "bright"])
    model.export(tmp_path / "model.onnx")
    said = facts(tmp_path / "model.onnx")
    assert (said["task"], said["labels"]) == ("image_classification", ["dark", "bright"])
    assert type(model.image_preprocessing).model_validate(said["image"]) == model.image_preprocessing


def test_a_users_model_says_what_is_known(tmp_path: pathlib.Path) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)], name="mine")
    kzoo.export.to_onnx(model, tmp_path / "model.onnx")
    assert facts(tmp_path / "model.onnx") == {"version": kzoo.__version__, "name": "mine", "role": "model"}


def test_what_is_too_long_or_not_ours_is_left_out() -> None:
    assert encode_metadata({"labels": ["x" * 1000] * 1000, "task": "qa"}) == {"kzoo.task": '"qa"'}
    assert decode_metadata(
        {"kzoo.task": '"qa"', "kzoo.text": "{", "task": '"x"', "kzoo.image": "[" * 9999}
    ) == {"task": "qa"}
