"""The model repository that Triton serves: read as its server reads it, by the rules of its protobuf messages."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import onnxruntime
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from typer.testing import CliRunner

import kzoo
from kzoo.cli import app
from kzoo.errors import ExportError, KzooError
from kzoo.export import weights
from kzoo.export.triton import _lines
from kzoo.models import TransformerModel
from kzoo.text import Tokenizer
from tests.bundles import write_text_classifier
from tests.models.tiny import tiny

# The part of Triton's model_config.proto that is used: each field's type and number.
MESSAGES: dict[str, dict[str, tuple[str, int]]] = {
    "ModelConfig": {
        "name": ("string", 1),
        "backend": ("string", 17),
        "version_policy": ("ModelVersionPolicy", 3),
        "max_batch_size": ("int32", 4),
        "input": ("repeated ModelInput", 5),
        "output": ("repeated ModelOutput", 6),
        "instance_group": ("repeated ModelInstanceGroup", 7),
        "default_model_filename": ("string", 8),
        "dynamic_batching": ("ModelDynamicBatching", 11),
    },
    "ModelInput": {
        "name": ("string", 1),
        "data_type": ("DataType", 2),
        "dims": ("repeated int64", 4),
        "reshape": ("ModelTensorReshape", 5),
    },
    "ModelOutput": {
        "name": ("string", 1),
        "data_type": ("DataType", 2),
        "dims": ("repeated int64", 3),
        "label_filename": ("string", 4),
        "reshape": ("ModelTensorReshape", 5),
    },
    "ModelTensorReshape": {"shape": ("repeated int64", 1)},
    "ModelInstanceGroup": {"count": ("int32", 2), "kind": ("Kind", 4)},
    "ModelVersionPolicy": {"latest": ("Latest", 1)},
    "Latest": {"num_versions": ("uint32", 1)},
    "ModelDynamicBatching": {
        "preferred_batch_size": ("repeated int32", 1),
        "max_queue_delay_microseconds": ("uint64", 2),
    },
}
NAMES = "INVALID BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 STRING BF16"
ENUMS = {
    "DataType": [f"TYPE_{name}" for name in NAMES.split()],
    "Kind": ["KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"],
}


def config_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="triton", syntax="proto3")
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (kind, number) in fields.items():
            label, _, kind = kind.rpartition(" ")
            added = message.field.add(name=field, number=number, label=3 if label else 1)
            if kind in MESSAGES or kind in ENUMS:
                added.type = added.TYPE_MESSAGE if kind in MESSAGES else added.TYPE_ENUM
                added.type_name = f".triton.{kind}"
            else:
                added.type = getattr(added, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("triton.ModelConfig"))


Config = config_class()


def read(folder: pathlib.Path) -> Any:
    """Parse a configuration strictly, and hold it against the graph, as the server's backend does."""
    config = text_format.Parse((folder / "config.pbtxt").read_text(), Config())
    assert (config.name, config.backend) == (folder.name, "onnxruntime")
    for version in folder.iterdir():
        if version.is_dir():
            check(config, onnxruntime.InferenceSession(str(version / config.default_model_filename)))
    return config


def check(config: Any, session: onnxruntime.InferenceSession) -> None:
    types = {"tensor(int64)": "TYPE_INT64", "tensor(int32)": "TYPE_INT32", "tensor(float)": "TYPE_FP32"}
    for described, tensors in (
        (config.input, session.get_inputs()),
        (config.output, session.get_outputs()),
    ):
        assert [tensor.name for tensor in described] == [tensor.name for tensor in tensors]
        for tensor, node in zip(described, tensors, strict=True):
            dims = list(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)
            shape = [-1 if isinstance(size, str) else size for size in node.shape]
            assert ([-1] if config.max_batch_size else []) + dims == shape
            assert len(tensor.dims) > 0
            assert ENUMS["DataType"][tensor.data_type] == types[node.type]


@pytest.fixture(scope="module")
def vit() -> TransformerModel:
    return tiny("ViT", labels=["dark", "light gray"])


@pytest.fixture(scope="module")
def shades(vit: TransformerModel, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("bundles") / "shades"
    vit.export(folder)
    return folder


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_classifier_with_its_labels(vit: TransformerModel, tmp_path: pathlib.Path) -> None:
    (folder,) = kzoo.export.to_triton(vit, tmp_path / "repository", name="shades", max_batch_size=8)
    assert folder == tmp_path / "repository" / "shades"
    assert sorted(contents(folder)) == ["1/model.onnx", "config.pbtxt", "labels.txt"]
    config = read(folder)
    assert config.max_batch_size == 8
    assert list(config.dynamic_batching.preferred_batch_size) == [2, 4, 8]
    assert config.dynamic_batching.max_queue_delay_microseconds > 0
    assert config.instance_group[0].kind == ENUMS["Kind"].index("KIND_AUTO")
    assert config.version_policy.latest.num_versions == 1
    assert list(config.input[0].dims) == [8, 8, 3]
    assert (list(config.output[0].dims), config.output[0].label_filename) == ([2], "labels.txt")
    assert (folder / "labels.txt").read_text() == "dark\nlight gray\n"
    assert [path.name for path in folder.parent.iterdir()] == ["shades"]


def test_a_finished_bundle(tmp_path: pathlib.Path) -> None:
    bundle = write_text_classifier(tmp_path / "topic")
    (folder,) = kzoo.export.to_triton(bundle, tmp_path / "repository")
    before = contents(bundle)
    assert sorted(contents(folder)) == ["1/model.onnx", "1/tokenizer.json", "config.pbtxt", "labels.txt"]
    assert (folder / "1" / "model.onnx").read_bytes() == before["model.onnx"]
    assert [list(tensor.dims) for tensor in read(folder).input] == [[-1], [-1]]
    (bundle / "model.onnx").write_bytes(b"changed")
    with pytest.raises(KzooError, match=r"model\.onnx has 7 bytes"):
        kzoo.export.to_triton(bundle, tmp_path / "repository", version=2)
    assert not (folder / "2").exists()


def test_an_encoder_decoder_as_two_models(bpe: Tokenizer, tmp_path: pathlib.Path) -> None:
    encoder, decoder = kzoo.export.to_triton(tiny("Transformer", tokenizer=bpe), tmp_path, name="en-de")
    assert (encoder.name, decoder.name) == ("en-de_encoder", "en-de_decoder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["en-de_decoder", "en-de_encoder"]
    assert read(encoder).max_batch_size == 32
    # Its beams and its past have axes of their own: requests cannot be joined.
    config = read(decoder)
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")


def test_any_keras_model_and_its_scalars(tmp_path: pathlib.Path) -> None:
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(10, 4)(tokens)
    score = keras.layers.Lambda(lambda x: keras.ops.mean(x, axis=(1, 2)), name="score")(x)
    model = keras.Model(tokens, score, name="mine")
    (folder,) = kzoo.export.to_triton(model, tmp_path)
    config = read(folder)
    assert (list(config.output[0].dims), list(config.output[0].reshape.shape)) == ([1], [])
    text = "\n".join(_lines({"name": 'an odd "name"\\ of grün'}))
    assert text_format.Parse(text, Config()).name == 'an odd "name"\\ of grün'


def test_versions_and_neighbours_stay(
    vit: TransformerModel, shades: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "other" / "1").mkdir(parents=True)
    (tmp_path / "other" / "1" / "model.plan").write_bytes(b"not ours")
    (folder,) = kzoo.export.to_triton(shades, tmp_path)
    (folder / "notes.txt").write_text("ours")
    before = contents(tmp_path)
    with pytest.raises(ExportError, match="has a version 1 already: give another version, or replace=True"):
        kzoo.export.to_triton(shades, tmp_path)
    with pytest.raises(ExportError, match=r"config\.pbtxt' does not say what this model needs"):
        kzoo.export.to_triton(shades, tmp_path, version=2, max_batch_size=4)
    assert contents(tmp_path) == before

    kzoo.export.to_triton(shades, tmp_path, version=2)
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"shades/2/model.onnx"}

    vit.labels = ["dark", "light"]
    kzoo.export.to_triton(vit, tmp_path, name="shades", version=2, replace=True)
    vit.labels = ["dark", "light gray"]
    assert (folder / "labels.txt").read_text() == "dark\nlight\n"
    replaced = contents(tmp_path)
    assert set(replaced) == set(after)
    assert replaced["shades/1/model.onnx"] == after["shades/1/model.onnx"]


def test_what_is_no_model_is_never_touched(shades: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("two years of work")
    (tmp_path / "notes").write_text("mine")
    before = contents(tmp_path)
    for name in ("thesis", "notes"):
        with pytest.raises(ExportError, match="not a model of a Triton repository"):
            kzoo.export.to_triton(shades, tmp_path, name=name, replace=True)
    with pytest.raises(ExportError, match="Cannot write to"):
        kzoo.export.to_triton(shades, tmp_path / "notes")
    with pytest.raises(ExportError, match="counts versions from 1"):
        kzoo.export.to_triton(shades, tmp_path, version=0)
    assert contents(tmp_path) == before


def test_weights_beside_the_graph_go_along(
    vit: TransformerModel, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "EXTERNAL_DATA_BYTES", 1000)
    (folder,) = kzoo.export.to_triton(vit, tmp_path)
    assert sorted(path.name for path in (folder / "1").iterdir()) == ["model.onnx", "model.onnx.data"]
    read(folder)
    session = onnxruntime.InferenceSession(str(folder / "1" / "model.onnx"))
    image = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(
        session.run(None, {"pixel_values": image})[0], vit.predict_on_batch(image)["logits"], atol=1e-4
    )


def test_the_command(vit: TransformerModel, tmp_path: pathlib.Path) -> None:
    vit.save(tmp_path / "shades.keras")
    command = ["export", str(tmp_path / "shades.keras"), str(tmp_path / "repository"), "--format", "triton"]
    done = CliRunner().invoke(app, [*command, "--name", "shades"])
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "repository" / "shades") in done.output.replace("\n", "")
    read(tmp_path / "repository" / "shades")
    again = CliRunner().invoke(app, [*command, "--name", "shades"])
    assert again.exit_code == 1
    vit.export(tmp_path / "bundle")
    command[1] = str(tmp_path / "bundle")
    assert CliRunner().invoke(app, [*command, "--name", "shades", "--model-version", "2"]).exit_code == 0
    assert (tmp_path / "repository" / "shades" / "2" / "model.onnx").is_file()
