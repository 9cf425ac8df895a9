"""Reading a checkpoint's folder, whole, in pieces, and damaged."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from kzoo.errors import KzooError
from kzoo.weights import Checkpoint
from tests.optional import require

TENSORS = {
    "a": np.arange(6, dtype="float32").reshape(2, 3),
    "b": np.array([1.5, -2.0], "float16"),
    "c": np.array(7.25, "float64"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    require("safetensors.numpy").save_file(TENSORS, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    return tmp_path


def split(folder: Path) -> Path:
    """Put each tensor into a file of its own, and write the index."""
    save_file = require("safetensors.numpy").save_file
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for index, (name, array) in enumerate(TENSORS.items(), start=1):
        weight_map[name] = f"model-0000{index}-of-00003.safetensors"
        save_file({name: array}, folder / weight_map[name])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def test_reads_every_tensor(folder):
    checkpoint = Checkpoint(folder)
    assert checkpoint.config == {"model_type": "bert"}
    assert sorted(checkpoint.names) == ["a", "b", "c"]
    for name, array in TENSORS.items():
        assert checkpoint.read(name).dtype == array.dtype
        np.testing.assert_array_equal(checkpoint.read(name), array)


def test_reads_tensors_from_several_files(folder):
    checkpoint = Checkpoint(split(folder))
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(checkpoint.read(name), array)


def test_reads_bfloat16(folder):
    torch = require("torch")
    values = torch.tensor([[1.0, -2.5, 3e38], [0.0, 1e-30, float("inf")]])
    require("safetensors.torch").save_file(
        {"first": torch.zeros(3), "half": values.bfloat16()}, folder / "model.safetensors"
    )
    np.testing.assert_array_equal(Checkpoint(folder).read("half"), values.bfloat16().float().numpy())


def test_refuses_quantized_tensors(folder):
    require("safetensors.numpy").save_file({"a": np.ones(3, "int8")}, folder / "model.safetensors")
    with pytest.raises(KzooError, match="'a' is stored as I8; kzoo reads F16, BF16, F32 and F64"):
        Checkpoint(folder).read("a")


def test_refuses_what_is_no_folder():
    with pytest.raises(KzooError, match="'bert-base-uncased' is not a folder"):
        Checkpoint("bert-base-uncased")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, r"has no config\.json"), ("{", r"config\.json cannot be read"), ("[]", "holds no JSON object")],
    ids=["absent", "cut short", "a list"],
)
def test_refuses_a_bad_config(folder, content, message):
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_text(content)
    with pytest.raises(KzooError, match=message):
        Checkpoint(folder)


def test_never_opens_a_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(KzooError, match=r"only pytorch_model\.bin\. Such files are pickles"):
        Checkpoint(folder)


def test_says_that_there_are_no_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(KzooError, match=r"has no model\.safetensors: fetch it"):
        Checkpoint(folder)


def test_refuses_a_file_that_is_cut_short(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(KzooError, match="damaged or cut short"):
        Checkpoint(folder)


def test_refuses_a_header_that_lies(folder):
    file = folder / "model.safetensors"
    file.write_bytes(struct.pack("<Q", 1 << 40) + file.read_bytes()[8:])
    with pytest.raises(KzooError, match="damaged or cut short"):
        Checkpoint(folder)


def test_refuses_a_missing_piece(folder):
    (split(folder) / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(KzooError, match=r"has no model-00002-of-00003\.safetensors"):
        Checkpoint(folder)


def test_refuses_an_index_that_names_more_than_there_is(folder):
    index = split(folder) / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["d"] = content["weight_map"]["a"]
    index.write_text(json.dumps(content))
    with pytest.raises(KzooError, match="1 tensors that its files do not hold, the first 'd'"):
        Checkpoint(folder)


@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "model.bin"])
def test_refuses_an_index_that_leaves_the_folder(folder, shard):
    index = split(folder) / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(KzooError, match="is no safetensors file of its own folder"):
        Checkpoint(folder)


def test_refuses_an_empty_index(folder):
    index = split(folder) / "model.safetensors.index.json"
    index.write_text("{}")
    with pytest.raises(KzooError, match="has no weight_map"):
        Checkpoint(folder)
