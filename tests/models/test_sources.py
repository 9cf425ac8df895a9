"""Where checkpoints come from: folders, sentence-transformers folders, packages, and the hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kzoo.errors import KzooError
from kzoo.models import from_pretrained
from kzoo.models.sources import find_checkpoint
from tests.models.tiny import make_inputs, outputs, shaken, tiny
from tests.optional import require


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that has one model, `owner/model`."""
    huggingface_hub = require("huggingface_hub")
    monkeypatch.chdir(tmp_path)
    tiny("Bert").save_pretrained(tmp_path / "stored")
    asked: list[dict[str, Any]] = []

    def snapshot_download(name: str, **options: Any) -> str:
        asked.append({"name": name, **options})
        if name != "owner/model":
            raise huggingface_hub.errors.LocalEntryNotFoundError("Got: no network\nTry again.")
        return str(tmp_path / "stored")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_a_name_on_the_hub(hub):
    assert from_pretrained("owner/model", revision="abc123").task == "classification"
    (asked,) = hub
    assert (asked["name"], asked["revision"]) == ("owner/model", "abc123")
    assert "config.json" in asked["allow_patterns"]
    assert not [pattern for pattern in asked["allow_patterns"] if pattern.endswith((".bin", ".pt", "*"))]


def test_a_hub_out_of_reach(hub):
    with pytest.raises(KzooError, match=r"no folder 'bert'.*no network\).*hf download bert --local-dir"):
        from_pretrained("bert")


@pytest.mark.parametrize("source", ["./model", "stored/model", "a/b/c", "model/", "../model", Path("model")])
def test_what_looks_like_a_folder_is_not_asked_for(hub, source):
    with pytest.raises(KzooError, match="There is no folder"):
        from_pretrained(source)
    assert hub == []


def test_a_file_is_no_folder(hub, tmp_path):
    with pytest.raises(KzooError, match="is a file; a checkpoint is a folder"):
        from_pretrained(tmp_path / "stored" / "config.json")


def test_a_package_carries_a_checkpoint_that_is_found_without_running_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "carrier_of_weights"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('was run')")
    with pytest.raises(KzooError, match="holds 0 folders"):
        find_checkpoint("package:carrier_of_weights")
    for folder in ("model", "other"):
        (package / folder).mkdir(exist_ok=True)
        (package / folder / "model.safetensors").touch()
        (package / folder / "config.json").touch()
        if folder == "model":
            assert find_checkpoint("package:carrier_of_weights") == package / "model"
    with pytest.raises(KzooError, match=r"holds 2 folders.*give its path"):
        find_checkpoint("package:carrier_of_weights")
    with pytest.raises(KzooError, match="revision='main' is for a name on the hub"):
        find_checkpoint("package:carrier_of_weights", "main")


@pytest.fixture
def sentence_model(tmp_path, wordpiece) -> Path:
    model = tiny("Bert", task="embedding", tokenizer=wordpiece, vocab_size=400)
    shaken(model).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edit(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_an_encoder_in_a_folder_of_its_own(sentence_model):
    whole = from_pretrained(sentence_model)
    modules = json.loads((sentence_model / "modules.json").read_text())
    inner = sentence_model / "0_Transformer"
    inner.mkdir()
    for file in sentence_model.iterdir():
        if file.is_file() and file.name != "modules.json":
            shutil.move(file, inner / file.name)
    modules[0]["path"] = "0_Transformer"
    (sentence_model / "modules.json").write_text(json.dumps(modules))
    inputs = make_inputs(whole)
    np.testing.assert_array_equal(
        outputs(from_pretrained(sentence_model), inputs)["embedding"], outputs(whole, inputs)["embedding"]
    )


def test_the_encoder_alone(sentence_model):
    assert from_pretrained(sentence_model, task="features").head is None


@pytest.mark.parametrize(
    ("kind", "message"),
    [("Dense", "a module 'Dense', which kzoo lacks"), ("WeightedLayerPooling", "'WeightedLayerPooling'")],
)
def test_modules_that_kzoo_lacks(sentence_model, kind, message):
    file = sentence_model / "modules.json"
    modules = json.loads(file.read_text())
    modules[2]["type"] = f"sentence_transformers.models.{kind}"
    file.write_text(json.dumps(modules))
    with pytest.raises(KzooError, match=message):
        from_pretrained(sentence_model)


@pytest.mark.parametrize(
    "fields",
    [
        {"pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True},
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_mean_tokens": False},
    ],
    ids=["last", "two", "none"],
)
def test_ways_of_pooling_that_kzoo_lacks(sentence_model, fields):
    edit(sentence_model / "1_Pooling" / "config.json", **fields)
    with pytest.raises(KzooError, match="kzoo pools by one of"):
        from_pretrained(sentence_model)


def test_a_prompt_before_every_text(sentence_model):
    (sentence_model / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "query: "}, "default_prompt_name": "query"})
    )
    with pytest.raises(KzooError, match="the prompt 'query' before every text"):
        from_pretrained(sentence_model)


def test_lower_casing_that_the_tokenizer_does_not_do(sentence_model, bpe):
    edit(sentence_model / "sentence_bert_config.json", do_lower_case=True)
    assert from_pretrained(sentence_model).task == "embedding"
    bpe.save(sentence_model / "tokenizer.json")
    with pytest.raises(KzooError, match="do_lower_case=true"):
        from_pretrained(sentence_model)


@pytest.mark.parametrize("path", ["../other", "/etc"])
def test_modules_that_leave_the_folder(sentence_model, path):
    file = sentence_model / "modules.json"
    modules = json.loads(file.read_text())
    modules[1]["path"] = path
    file.write_text(json.dumps(modules))
    with pytest.raises(KzooError, match="leaves the folder"):
        from_pretrained(sentence_model)
