"""`kzoo explain`."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tests.bundles import write_image_classifier, write_text_classifier
from tests.cli.commands import assert_mistake, kzoo_command

TEXT = "the bank of the match of shares"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_text_classifier(tmp_path_factory.mktemp("bundles") / "topic")


def test_a_bundle_explains_a_text(bundle, tmp_path):
    result = kzoo_command("explain", bundle, TEXT, "--device", "cpu", "--output", tmp_path / "words.png")
    assert result.exit_code == 0, result.stderr
    head, _, *rows = result.stdout.splitlines()
    assert head.startswith("Business 0.9") and head.endswith("by occlusion")
    assert ["bank", "+3.0000"] in [row.split() for row in rows]
    assert (tmp_path / "words.png").read_bytes().startswith(b"\x89PNG")


def test_json(bundle):
    result = kzoo_command("explain", bundle, "the bank", "a match", "--label", "Sports", "--json")
    found = json.loads(result.stdout)
    assert (found["label"], found["text"]) == ("Sports", ["the bank", "a match"])
    assert [round(word["weight"]) for word in found["words"]] == [0, -3, 0, 3]


@pytest.mark.slow
def test_a_keras_model_explains_a_text(tmp_path):
    import kzoo

    tokenizer = kzoo.text.Tokenizer.train(["a dog runs", "a cat sleeps"] * 3, vocab_size=100)
    model = kzoo.models.bert_tiny(
        labels=["dogs", "cats"], tokenizer=tokenizer, vocab_size=100, hidden_dim=8, intermediate_dim=8
    )
    model.save(tmp_path / "pets.keras")
    result = kzoo_command("explain", tmp_path / "pets.keras", "a dog sleeps", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    expected = kzoo.explanation.explain(model, "a dog sleeps")
    assert found["method"] == "integrated_gradients" and found["completeness_error"] < 1e-3
    assert [word["weight"] for word in found["words"]] == pytest.approx(expected.weights.tolist(), abs=1e-5)

    exported = kzoo_command("export", tmp_path / "pets.keras", tmp_path / "pets", "--with-attention")
    assert exported.exit_code == 0, exported.stderr
    for method in ("integrated_gradients", "rollout"):
        same = [
            json.loads(kzoo_command("explain", model, "a dog sleeps", "--method", method, "--json").stdout)
            for model in (tmp_path / "pets.keras", tmp_path / "pets")
        ]
        weights = [[word["weight"] for word in found["words"]] for found in same]
        assert weights[0] == pytest.approx(weights[1], abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((TEXT, "--method", "gradients"), ["no method 'gradients'", "occlusion"]),
        ((TEXT, "--label", "Sport"), ["Did you mean 'Sports'"]),
        ((TEXT, "--output", "words.svg"), ["words.svg", ".png"]),
        (("a", "b", "c"), ["3 texts"]),
        (("",), ["no words"]),
    ],
)
def test_mistakes(bundle, arguments, words):
    assert_mistake(kzoo_command("explain", bundle, *arguments), *words)


def test_a_bundle_explains_an_image(tmp_path):
    bundle = write_image_classifier(tmp_path / "shade")
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(tmp_path / "line.png")
    output = tmp_path / "explained.png"
    result = kzoo_command("explain", bundle, tmp_path / "line.png", "--output", output)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip().endswith("by occlusion")
    assert output.read_bytes().startswith(b"\x89PNG")
    found = json.loads(kzoo_command("explain", bundle, tmp_path / "line.png", "--json").stdout)
    weights = np.asarray(found["weights"])
    assert abs(weights.diagonal()).min() > 3 * abs(weights[0, 1])
    assert_mistake(kzoo_command("explain", bundle, tmp_path / "none.png"), "none.png")


def test_what_explains_nothing(tmp_path):
    assert_mistake(kzoo_command("explain", tmp_path / "none", TEXT), "no bundle folder")
    assert_mistake(kzoo_command("explain", tmp_path / "none.keras", TEXT), "none.keras")
