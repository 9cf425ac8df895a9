"""Checkpoints as they are found: heads, older names, buffers, pieces, halves, and what is refused."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo.errors import KzooError
from kzoo.models import from_pretrained
from kzoo.vision import ImagePreprocessing
from tests.models import references
from tests.models.tiny import outputs
from tests.optional import require

BERT = {
    "vocab_size": 210,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
}
GPT2 = {"vocab_size": 50, "n_embd": 12, "n_layer": 2, "n_head": 2, "n_positions": 16}
VIT = {
    "image_size": 8,
    "patch_size": 4,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
}
FAMILIES = {"Bert": BERT, "GPT2": GPT2, "ViT": VIT}
IDS = np.random.default_rng(3).integers(0, 50, (2, 9))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Write a checkpoint of a `transformers` class, such as `BertModel`, and give its folder."""

    def write(model_class: str, **fields: Any) -> Path:
        family = next(name for name in FAMILIES if model_class.startswith(name))
        model = references.reference(model_class, f"{family}Config", **{**FAMILIES[family], **fields})
        return references.save(model, tmp_path)

    return write


def edit_config(folder: Path, **fields: Any) -> Path:
    """Set fields of config.json; None removes one."""
    file = folder / "config.json"
    config = {**json.loads(file.read_text()), **fields}
    file.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    return folder


def edit_tensors(folder: Path, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Path:
    safetensors = require("safetensors.numpy")
    file = folder / "model.safetensors"
    safetensors.save_file(change(safetensors.load_file(file)), file)
    return folder


def states(model: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(model.backbone({"input_ids": IDS})["last_hidden_state"])


def test_a_checkpoint_in_pieces(checkpoint, tmp_path):
    folder = checkpoint("BertModel")
    whole = states(from_pretrained(folder, task="features"))
    model = require("transformers").BertModel.from_pretrained(folder)
    model.save_pretrained(tmp_path / "pieces", max_shard_size="4KB")
    assert len(list((tmp_path / "pieces").glob("*.safetensors"))) > 2
    np.testing.assert_array_equal(states(from_pretrained(tmp_path / "pieces", task="features")), whole)


def test_a_checkpoint_in_bfloat16(checkpoint, tmp_path):
    torch = require("torch")
    folder = checkpoint("BertModel")
    model = require("transformers").BertModel.from_pretrained(folder).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "half")
    expected = references.run(model.float(), input_ids=IDS)["last_hidden_state"]
    got = states(from_pretrained(tmp_path / "half", task="features"))
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_the_names_of_the_first_bert_checkpoints(checkpoint):
    folder = checkpoint("BertForPreTraining")
    expected = states(from_pretrained(folder, task="features"))

    def age(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        older = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): value
            for name, value in tensors.items()
        }
        return {**older, "bert.embeddings.position_ids": np.arange(16)[None]}

    edit_config(edit_tensors(folder, age), architectures=None, gradient_checkpointing=False)
    np.testing.assert_array_equal(states(from_pretrained(folder, task="features")), expected)


def test_the_buffers_of_older_gpt2_checkpoints(checkpoint):
    folder = checkpoint("GPT2LMHeadModel")
    expected = states(from_pretrained(folder))

    def age(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        older = {name.removeprefix("transformer."): value for name, value in tensors.items()}
        mask = np.tril(np.ones((1, 1, 16, 16), "uint8"))
        twin = {"lm_head.weight": older["wte.weight"]}
        return {**older, **twin, "h.0.attn.bias": mask, "h.0.attn.masked_bias": np.float32([-1e4])}

    np.testing.assert_array_equal(states(from_pretrained(edit_tensors(folder, age))), expected)


def test_untied_tables_are_refused(checkpoint):
    def untie(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {**tensors, "lm_head.weight": tensors["transformer.wte.weight"] + 1}

    with pytest.raises(KzooError, match=r"'lm_head\.weight' differs from 'transformer\.wte\.weight'"):
        from_pretrained(edit_tensors(checkpoint("GPT2LMHeadModel"), untie))


@pytest.mark.parametrize(
    ("model_class", "task"),
    [
        ("BertForSequenceClassification", "classification"),
        ("GPT2LMHeadModel", "causal_lm"),
        ("GPT2Model", "causal_lm"),
        ("ViTForImageClassification", "image_classification"),
    ],
)
def test_the_task_is_the_checkpoints_own(checkpoint, model_class, task):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert from_pretrained(checkpoint(model_class)).task == task


def test_a_multilabel_head(checkpoint):
    folder = checkpoint(
        "BertForSequenceClassification", num_labels=3, problem_type="multi_label_classification"
    )
    assert from_pretrained(folder).task == "multilabel"


def test_a_regression_head_comes_and_goes(checkpoint, tmp_path):
    folder = checkpoint("BertForSequenceClassification", num_labels=1, problem_type="regression")
    model = from_pretrained(folder)
    assert (model.task, model.num_classes) == ("regression", None)
    model.save_pretrained(tmp_path / "again")
    again = from_pretrained(tmp_path / "again")
    inputs = {"input_ids": np.array([[5, 6, 7]])}
    np.testing.assert_array_equal(outputs(again, inputs)["logits"], outputs(model, inputs)["logits"])
    assert outputs(model, inputs)["logits"].shape == (1, 1)
    with pytest.raises(KzooError, match=r"problem_type='regression'.* with task='classification'"):
        from_pretrained(folder, task="classification")


def test_a_number_out_of_a_classifiers_checkpoint_starts_fresh(checkpoint):
    folder = checkpoint("BertForSequenceClassification", num_labels=3)
    with pytest.warns(UserWarning, match="head/classifier, which start fresh"):
        assert from_pretrained(folder, task="regression").task == "regression"


def test_the_classes_names(checkpoint):
    folder = checkpoint("BertForSequenceClassification", id2label={0: "Sports", 1: "Business", 2: "World"})
    assert from_pretrained(folder).labels == ["Sports", "Business", "World"]
    renamed = from_pretrained(folder, labels=["Sport", "Wirtschaft", "Welt"])
    assert renamed.labels == ["Sport", "Wirtschaft", "Welt"]
    (kernel,) = (variable for variable in renamed.weights if variable.path.endswith("classifier/kernel"))
    kernel = keras.ops.convert_to_numpy(kernel)
    tensors = require("safetensors.numpy").load_file(folder / "model.safetensors")
    np.testing.assert_array_equal(kernel, tensors["classifier.weight"].T)


def test_names_that_do_not_count_up_to_the_classes(checkpoint):
    folder = edit_config(checkpoint("BertForSequenceClassification"), id2label={"0": "a", "5": "b"})
    with pytest.raises(KzooError, match=r"id2label=.*the keys 0 to 1: pass labels="):
        from_pretrained(folder)
    assert from_pretrained(folder, labels=["a", "b"]).labels == ["a", "b"]


def test_another_number_of_classes_starts_a_fresh_head(checkpoint):
    folder = checkpoint("BertForSequenceClassification", num_labels=3)
    with pytest.warns(UserWarning, match="no weights for head/classifier, which start fresh"):
        model = from_pretrained(folder, num_classes=7)
    assert model.num_classes == 7
    np.testing.assert_array_equal(states(model), states(from_pretrained(folder)))


def test_a_bare_encoder_gets_a_fresh_head(checkpoint):
    with pytest.warns(UserWarning, match="no weights for head/classifier, which"):
        model = from_pretrained(checkpoint("BertModel"), num_classes=4)
    assert (model.task, model.num_classes) == ("classification", 4)


def test_a_checkpoint_without_a_pooler(checkpoint):
    folder = checkpoint("BertForMaskedLM")
    with pytest.warns(UserWarning, match="no weights for backbone/pooler and head/classifier, which"):
        from_pretrained(folder, task="classification")


def test_a_head_for_tokens_is_not_taken_for_one_for_texts(checkpoint):
    folder = checkpoint("BertForTokenClassification", num_labels=2)
    with pytest.warns(UserWarning, match="no weights for backbone/pooler and head/classifier, which"):
        from_pretrained(folder, task="classification")


def test_missing_and_unexpected_tensors_are_listed(checkpoint):
    def spoil(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        del tensors["encoder.layer.1.output.dense.bias"]
        return {**tensors, "encoder.layer.2.output.dense.bias": np.zeros(12, "float32")}

    with pytest.raises(KzooError) as caught:
        from_pretrained(edit_tensors(checkpoint("BertModel"), spoil))
    assert "missing: encoder.layer.1.output.dense.bias;" in str(caught.value)
    assert "unexpected: encoder.layer.2.output.dense.bias." in str(caught.value)


def test_half_a_head_is_missing_tensors(checkpoint):
    folder = checkpoint("BertForSequenceClassification")
    edit_tensors(
        folder, lambda tensors: {name: t for name, t in tensors.items() if name != "classifier.bias"}
    )
    with pytest.raises(KzooError, match=r"missing: classifier\.bias"):
        from_pretrained(folder)


def test_fewer_layers_than_the_checkpoint_has(checkpoint):
    with pytest.raises(KzooError, match=r"unexpected: encoder\.layer\.1\..* and 6 more"):
        from_pretrained(checkpoint("BertModel"), task="features", num_layers=1)


def test_a_tensor_of_another_shape_is_named(checkpoint):
    folder = edit_config(checkpoint("BertModel"), vocab_size=99)
    with pytest.raises(
        KzooError, match=r"embeddings\.word_embeddings\.weight' has shape \(210, 12\).*\(99, 12\)"
    ):
        from_pretrained(folder, task="features")


def test_a_fused_projection_of_another_width_is_named(checkpoint):
    def widen(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        name = "h.0.attn.c_attn.bias"
        return {**tensors, name: np.append(tensors[name], np.float32(0))}

    with pytest.raises(KzooError, match=r"c_attn\.bias' has shape \(37,\)"):
        from_pretrained(edit_tensors(checkpoint("GPT2Model"), widen))


def test_one_variable_under_two_names(checkpoint):
    def double(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {**tensors, "bert.pooler.dense.bias": tensors["pooler.dense.bias"] + 1}

    with pytest.raises(KzooError, match="only one can be meant"):
        from_pretrained(edit_tensors(checkpoint("BertModel"), double))


def test_a_field_that_kzoo_does_not_know(checkpoint):
    folder = edit_config(checkpoint("BertModel"), alibi=True, added=[], nothing=False)
    with pytest.raises(KzooError, match=r"alibi=True.*may change the results.*ignore=\('alibi',\)"):
        from_pretrained(folder, task="features")
    with pytest.raises(KzooError, match="nothing=False"):
        from_pretrained(folder, task="features", ignore=("alibi",))
    assert from_pretrained(folder, task="features", ignore=("alibi", "nothing")).task == "features"
    with pytest.raises(KzooError, match=r"no field 'alibbi' to ignore.*Did you mean 'alibi'"):
        from_pretrained(folder, task="features", ignore=("alibbi",))


def test_tensors_that_may_be_of_two_heads(checkpoint):
    folder = edit_config(checkpoint("BertForSequenceClassification", num_labels=3), architectures=None)
    with pytest.raises(KzooError, match="of classification or tokens: pass task="):
        from_pretrained(folder)
    assert from_pretrained(folder, task="classification").num_classes == 3


def test_a_head_with_one_output_grades(checkpoint):
    folder = checkpoint("BertForSequenceClassification", num_labels=1)
    with pytest.raises(KzooError, match=r"one output.*task='regression'.*task='multilabel'"):
        from_pretrained(folder)
    assert from_pretrained(folder, task="multilabel").num_classes == 1


def test_overrides(checkpoint):
    folder = checkpoint("BertModel")
    model = from_pretrained(folder, task="features", dropout=0.0, dtype="mixed_bfloat16", name="mine")
    assert (model.backbone.config.dropout, model.name) == (0.0, "mine")
    assert model.backbone.dtype_policy.name == "mixed_bfloat16"
    with pytest.raises(KzooError, match=r"Unknown option 'droput'.*Did you mean 'dropout'"):
        from_pretrained(folder, droput=0.0)
    with pytest.raises(KzooError, match="Unknown task 'seq2seq'"):
        from_pretrained(folder, task="seq2seq")


def test_the_folders_tokenizer(checkpoint, wordpiece):
    folder = checkpoint("BertForSequenceClassification")
    assert from_pretrained(folder).tokenizer is None
    wordpiece.save(folder / "tokenizer.json")
    model = from_pretrained(folder)
    assert model.tokenizer.vocab_size == wordpiece.vocab_size
    assert model.predict(["the dog"], verbose=0)["logits"].shape == (1, 2)
    assert from_pretrained(folder, tokenizer=None).tokenizer is None


def test_a_vocabulary_file(checkpoint):
    folder = checkpoint("BertForSequenceClassification")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "dog", "cat"]) + "\n")
    ids = from_pretrained(folder).tokenizer.encode(["cat dog"], max_length=8).input_ids
    assert ids.tolist() == [[2, 5, 4, 3]]


def write_preprocessor(folder: Path, **settings: Any) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": 8, **settings}))
    return folder


def test_the_folders_image_preprocessing(checkpoint):
    folder = write_preprocessor(
        checkpoint("ViTForImageClassification"),
        size={"height": 8, "width": 8},
        image_mean=[0.1, 0.2, 0.3],
        image_std=[0.4, 0.5, 0.6],
        resample=3,
        rescale_factor=0.00392156862745098,
    )
    model = from_pretrained(folder)
    settings = model.image_preprocessing
    assert (settings.mean, settings.std, settings.resample) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6], "bicubic")
    grey = np.full((1, 8, 8, 3), 51, np.uint8)
    by_hand = ((0.2 - np.array([0.1, 0.2, 0.3])) / [0.4, 0.5, 0.6] * np.ones(grey.shape)).astype("float32")
    np.testing.assert_allclose(
        model.predict(grey, verbose=0)["logits"], model.predict(by_hand, verbose=0)["logits"], atol=1e-5
    )


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"size": {"shortest_edge": 8}}, "size"),
        ({"size": 16}, "size"),
        ({"do_center_crop": True, "crop_size": 6}, "crop_size"),
        ({"do_rescale": False}, "do_rescale"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor"),
        ({"resample": 1}, "resample"),
        ({"do_resize": False}, "do_resize"),
        ({"do_center_crop": True, "crop_size": 8, "size": 6}, "size"),
        ({"crop_pct": 0.9}, "crop_pct"),
        ({"image_mean": [0.1, 0.2]}, "image_mean"),
    ],
)
def test_image_preprocessing_that_kzoo_does_not_do(checkpoint, settings, name):
    folder = write_preprocessor(checkpoint("ViTForImageClassification"), **settings)
    with pytest.raises(KzooError, match=rf"preprocessor_config\.json says {name}="):
        from_pretrained(folder)
    own = ImagePreprocessing(height=8, width=8, mean=[0.3])
    assert from_pretrained(folder, image_preprocessing=own).image_preprocessing == own


@pytest.mark.parametrize(
    ("settings", "resize"),
    [
        ({"image_processor_type": "CLIPImageProcessorFast", "size": 12}, 12),
        ({"feature_extractor_type": "DeiTFeatureExtractor", "size": 12}, [12, 12]),
        ({"size": {"shortest_edge": 9}, "do_center_crop": True}, 9),
    ],
)
def test_images_that_are_cropped_come_back_the_same(checkpoint, tmp_path, settings, resize):
    mean = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    folder = write_preprocessor(checkpoint("ViTForImageClassification"), crop_size=8, **mean, **settings)
    model = from_pretrained(folder)
    assert model.image_preprocessing.resize == resize
    model.save_pretrained(tmp_path / "again")
    assert from_pretrained(tmp_path / "again").image_preprocessing == model.image_preprocessing


def test_images_for_another_size_are_cropped_from_as_much_more(checkpoint):
    folder = write_preprocessor(
        checkpoint("ViTModel"), size={"shortest_edge": 10}, do_center_crop=True, crop_size=8
    )
    settings = from_pretrained(folder, task="features", image_size=16).image_preprocessing
    assert (settings.height, settings.resize) == (16, 20)


def test_a_processor_of_another_kind(checkpoint):
    folder = write_preprocessor(checkpoint("ViTModel"), image_processor_type="ConvNextImageProcessor")
    with pytest.raises(KzooError, match="that of a ConvNext processor; kzoo knows those of ViT, DeiT, CLIP"):
        from_pretrained(folder, task="features")


def test_images_that_are_not_normalized(checkpoint):
    folder = write_preprocessor(checkpoint("ViTForImageClassification"), do_normalize=False)
    settings = from_pretrained(folder).image_preprocessing
    assert (settings.mean, settings.std) == ([0.0], [1.0])


@pytest.mark.slow
def test_a_loaded_model_learns(checkpoint, wordpiece):
    model = from_pretrained(checkpoint("BertForSequenceClassification"), tokenizer=wordpiece, dropout=0.0)
    before = states(model)
    history = model.fit(["the dog", "a cat"] * 4, [0, 1] * 4, epochs=3, batch_size=8, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert np.abs(states(model) - before).max() > 0


def test_the_public_name():
    assert kzoo.models.from_pretrained is from_pretrained
