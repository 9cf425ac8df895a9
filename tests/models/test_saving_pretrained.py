"""What `save_pretrained` writes: whole folders that the original library opens, and refusals by name."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

import kzoo
from kzoo.errors import KzooError
from kzoo.models import from_pretrained
from kzoo.text import Tokenizer
from kzoo.weights import FAMILIES
from kzoo.weights.safetensors_file import Checkpoint, Pending, write_tensors
from tests.models.tiny import make_inputs, outputs, shaken, tiny
from tests.optional import require
from tests.text import vocabularies


def test_a_trained_classifier_with_its_tokenizer(tmp_path, wordpiece):
    model = tiny("Bert", labels=["bird", "dog", "cat"], tokenizer=wordpiece)
    texts = ["the dog", "a cat", "two birds", "The old dog sings."]
    model.fit(texts, ["dog", "cat", "bird", "dog"], epochs=1, verbose=0)
    model.save_pretrained(tmp_path / "model")

    again = from_pretrained(tmp_path / "model")
    assert (again.task, again.labels, again.max_length) == ("classification", ["bird", "dog", "cat"], 32)
    expected = model.predict(texts, verbose=0)["logits"]
    np.testing.assert_allclose(again.predict(texts, verbose=0)["logits"], expected, atol=1e-6)

    transformers, torch = require("transformers"), require("torch")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    assert encoded["input_ids"].tolist() == model.tokenizer.encode(texts, max_length=32).input_ids.tolist()
    with torch.no_grad():
        np.testing.assert_allclose(theirs(**encoded).logits.numpy(), expected, atol=1e-4)
    assert theirs.config.id2label == {0: "bird", 1: "dog", 2: "cat"}
    assert theirs.config.problem_type == "single_label_classification"


def test_a_tokenizer_of_bytes(tmp_path, bpe):
    tiny("GPT2", tokenizer=bpe).save_pretrained(tmp_path / "model")
    tokenizer = require("transformers").AutoTokenizer.from_pretrained(tmp_path / "model")
    text = "The dog's café 🐕"
    assert tokenizer(text)["input_ids"] == bpe.encode([text], max_length=32).input_ids[0].tolist()
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (bpe.pad_id, bpe.end_id)


def test_the_two_vocabularies_of_a_translator(tmp_path):
    source = vocabularies.write(tmp_path, "marian")
    tokenizer = Tokenizer.from_file(source)
    model = tiny("Marian", tokenizer=tokenizer, vocab_size=tokenizer.vocab_size)
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").unlink()

    again = from_pretrained(tmp_path / "model")
    texts = vocabularies.CORPUS[:3]
    original = require("transformers").AutoTokenizer.from_pretrained(tmp_path / "model")
    for tokenized, target in ((original(texts), False), (original(text_target=texts), True)):
        ids = again.tokenizer.encode(texts, max_length=256, target=target)
        assert [
            row[mask > 0].tolist() for row, mask in zip(ids.input_ids, ids.attention_mask, strict=True)
        ] == (tokenized["input_ids"])
    assert again.tokenizer.start_id == tokenizer.start_id == tokenizer.pad_id


def test_what_a_translator_learns_to_write_is_split_by_its_second_vocabulary(tmp_path):
    tokenizer = Tokenizer.from_file(vocabularies.write(tmp_path, "marian"))
    model = tiny("Marian", tokenizer=tokenizer, vocab_size=tokenizer.vocab_size, max_positions=64)
    text = vocabularies.CORPUS[2]
    _, labels = model._encoder([text], [text])
    written = tokenizer.encode([text], max_length=64, target=True)
    assert labels[0].tolist()[: written.attention_mask.sum()] == written.input_ids[0].tolist()
    assert written.input_ids.tolist() != tokenizer.encode([text], max_length=64).input_ids.tolist()


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
@pytest.mark.parametrize("normalize", [True, False])
def test_an_embedding_model(tmp_path, wordpiece, pooling, normalize):
    model = tiny(
        "Bert", task="embedding", pooling=pooling, normalize=normalize, max_length=20, tokenizer=wordpiece
    )
    shaken(model).save_pretrained(tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    assert (again.task, again.pooling, again.normalize, again.max_length) == (
        "embedding",
        pooling,
        normalize,
        20,
    )
    inputs = make_inputs(model)
    np.testing.assert_array_equal(outputs(again, inputs)["embedding"], outputs(model, inputs)["embedding"])


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_config_is_written_as_it_was_read(model_type):
    family = FAMILIES[model_type]
    config_class = getattr(kzoo.models, family.backbone).Config
    config = config_class(**family.knobs({}))
    assert config_class(**family.knobs(family.config(config.knobs()))) == config


def test_an_embedding_of_an_inner_layer_has_no_module(tmp_path):
    with pytest.raises(KzooError, match="pools layer 1, and no module"):
        tiny("Bert", task="embedding", layer=1).save_pretrained(tmp_path / "model")
    assert not any(tmp_path.iterdir())


def test_a_family_without_published_checkpoints(tmp_path):
    with pytest.raises(KzooError, match=r"no published checkpoints of kzoo's Transformer.*model\.save"):
        tiny("Transformer").save_pretrained(tmp_path / "model")


def test_narrower_embeddings_are_in_no_published_form_of_bert(tmp_path):
    with pytest.raises(KzooError, match=r"embedding_dim=8, .*model_type='bert' can only say 16"):
        tiny("Bert", embedding_dim=8).save_pretrained(tmp_path / "model")
    assert not any(tmp_path.iterdir())


def test_an_earlier_checkpoint_is_replaced_and_nothing_else_is(tmp_path):
    model = tiny("Bert")
    model.save_pretrained(tmp_path / "model")
    shaken(model).save_pretrained(tmp_path / "model")
    inputs = make_inputs(model)
    np.testing.assert_array_equal(
        outputs(from_pretrained(tmp_path / "model"), inputs)["logits"], outputs(model, inputs)["logits"]
    )
    (tmp_path / "model" / "notes.md").write_text("mine")
    with pytest.raises(KzooError, match=r"holds 'notes\.md', which is no part of a checkpoint"):
        model.save_pretrained(tmp_path / "model")
    with pytest.raises(KzooError, match="is a file; a checkpoint is a folder"):
        model.save_pretrained(tmp_path / "model" / "notes.md")


def test_a_folder_with_a_dot_in_its_name(tmp_path):
    tiny("Bert").save_pretrained(tmp_path / "model-v1.2")
    assert (tmp_path / "model-v1.2" / "config.json").is_file()


def test_half_precision(tmp_path):
    model = shaken(tiny("Bert", task="features", dtype="bfloat16"))
    model.save_pretrained(tmp_path / "model")
    torch = require("torch")
    theirs = require("transformers").BertModel.from_pretrained(tmp_path / "model", dtype="auto")
    assert theirs.dtype == torch.bfloat16
    (kernel,) = (v for v in model.weights if v.path.endswith("block_1/attention/query/kernel"))
    expected = keras.ops.convert_to_numpy(keras.ops.cast(kernel.value, "float32"))
    got = theirs.encoder.layer[1].attention.self.query.weight.detach().float().numpy()
    np.testing.assert_array_equal(got, expected.T)


def test_large_checkpoints_are_written_in_pieces(tmp_path):
    arrays = {name: np.full((3, 5), index, "float32") for index, name in enumerate("abcde")}
    pending = {
        name: Pending(array.shape, "float32", lambda array=array: array) for name, array in arrays.items()
    }
    write_tensors(tmp_path, pending, shard_size=130)
    (tmp_path / "config.json").write_text("{}")
    assert len(list(tmp_path.glob("model-*-of-00003.safetensors"))) == 3
    assert json.loads((tmp_path / "model.safetensors.index.json").read_text())["metadata"] == {
        "total_size": 300
    }
    checkpoint = Checkpoint(tmp_path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(checkpoint.read(name), array)
    load_file = require("safetensors.numpy").load_file
    assert sum(len(load_file(file)) for file in tmp_path.glob("*.safetensors")) == 5
