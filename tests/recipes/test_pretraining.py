"""Fine-tuning that begins with a pretraining: another recipe, or a model's file."""

import itertools

import keras
import numpy as np
import pytest

import kzoo
from kzoo import KzooError
from kzoo.models.initialization import variables
from kzoo.recipes.data.parts import load_parts
from kzoo.recipes.schema.config import load_recipe
from kzoo.recipes.training.building import build_model
from tests.optional import require
from tests.recipes.learning import moods, write_table

PRETRAINING = """
name = "language"
[data]
train = "moods.txt"
breaks = "line"
validation_share = 0.1
test_share = 0.1
[text]
vocab_size = 90
[model]
name = "bert_tiny"
hidden_dim = 32
num_layers = 1
num_heads = 2
intermediate_dim = 64
max_positions = 32
[training]
max_steps = 4
batch_tokens = 256
checkpoint_every = 2
average = 2
"""
FINE_TUNING = """
name = "mood"
[data]
train = "mood.csv"
test_share = 0.2
text = "text"
label = "mood"
[model]
pretrained = "language.toml"
max_length = 16
[training]
epochs = 1
batch_size = 16
"""


@pytest.fixture
def mood(tmp_path, monkeypatch):
    for package in ("keras", "sklearn", "matplotlib", "onnx"):
        require(package)
    monkeypatch.setenv("KZOO_RUNS", str(tmp_path / "runs"))
    rows = moods()
    write_table(tmp_path / "mood.csv", ("text", "mood"), rows)
    (tmp_path / "moods.txt").write_text("\n".join(text for text, _ in rows), encoding="utf-8")
    (tmp_path / "language.toml").write_text(PRETRAINING, encoding="utf-8")
    (tmp_path / "mood.toml").write_text(FINE_TUNING, encoding="utf-8")
    return tmp_path / "mood.toml"


def build(path, *overrides):
    recipe = load_recipe(path, overrides)
    return build_model(recipe, load_parts(recipe, path.parent), path.parent)


def backbone_of(model):
    values = {path: keras.ops.convert_to_numpy(value) for path, value in variables(model).items()}
    return {path: value for path, value in values.items() if path.startswith("backbone/")}


@pytest.mark.slow
def test_the_pretraining_comes_first_and_once(mood, tmp_path):
    with pytest.raises(KzooError, match=r"'language\.toml' was not trained yet: `kzoo train"):
        build(mood)
    said: list[str] = []
    kzoo.recipes.run(mood, progress=said.append, on_epoch=lambda *_: None)
    assert any(line.startswith("The pretraining comes first") for line in said)
    (run,) = (tmp_path / "runs" / "language").iterdir()
    said.clear()
    kzoo.recipes.run(mood, progress=said.append, on_epoch=lambda *_: None)
    assert f"The pretraining is there: {run}" in said

    # The mean of the checkpoints, as it was exported.
    checkpoints = [kzoo.models.load(file) for file in sorted((run / "checkpoints").iterdir())]
    begun = build(mood)
    assert begun.tokenizer.vocabulary == checkpoints[0].tokenizer.vocabulary and begun.max_length == 16
    means = [
        np.mean(pair, axis=0)
        for pair in zip(*(backbone_of(one).values() for one in checkpoints), strict=True)
    ]
    for value, mean in zip(backbone_of(begun).values(), means, strict=True):
        np.testing.assert_allclose(value, mean, atol=1e-6)

    file = sorted((run / "checkpoints").iterdir())[-1]
    from_file = build(mood, f"model.pretrained={file}", "text.vocab_size=60")
    assert from_file.tokenizer.vocab_size <= 60
    positions = "backbone/position_embedding/embeddings"
    np.testing.assert_array_equal(backbone_of(from_file)[positions], backbone_of(checkpoints[-1])[positions])
    again = PRETRAINING.replace('name = "bert_tiny"', f'pretrained = "{file}"')
    for line in ("hidden_dim = 32", "num_layers = 1", "num_heads = 2", "intermediate_dim = 64", "[text]"):
        again = again.replace(f"{line}\n", "")
    again = again.replace("vocab_size = 90\n", "").replace("breaks", 'task = "mlm"\nbreaks')
    (tmp_path / "again.toml").write_text(again, encoding="utf-8")
    continued = build(tmp_path / "again.toml")
    for mine, its in zip(continued.get_weights(), checkpoints[-1].get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_recipes_that_begin_with_each_other(mood):
    (mood.parent / "other.toml").write_text(FINE_TUNING.replace("language", "mood"), encoding="utf-8")
    with pytest.raises(KzooError, match=r"mood\.toml begins with another recipe itself"):
        kzoo.recipes.run(mood.parent / "other.toml")
    assert not any(itertools.chain((mood.parent / "runs").glob("*")))


@pytest.mark.parametrize(
    ("task", "labels"), [("next_sentence", ["next", "random"]), ("sentence_order", ["in order", "swapped"])]
)
def test_pairs_of_sentences_are_classes(mood, task, labels):
    documents = [" ".join(f"{text.capitalize()}." for text, _ in moods()[start::9]) for start in range(9)]
    (mood.parent / "moods.txt").write_text("\n".join(documents), encoding="utf-8")
    training = ["training={epochs=1}", "model.max_positions=64", f"data.task={task}"]
    recipe = load_recipe(
        mood.parent / "language.toml", [*training, "data.test_share=0.25", "data.validation_share=0.4"]
    )
    assert recipe.task == "classification" and recipe.unit == "examples" and recipe.metric == "accuracy"
    parts = load_parts(recipe, mood.parent)
    assert parts.labels == labels and {*parts.train.targets} == {*labels}
    pairs = len(moods()) // 9 - 1
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [3 * pairs] * 3
    assert all(len(pair) == 2 for pair in parts.test.inputs)
    model = build_model(recipe, parts, mood.parent)
    assert model.predict(parts.test.inputs[:2], verbose=0)["logits"].shape == (2, 2)
    with pytest.raises(KzooError, match=r"training\.max_steps is for pairs of texts and plain text"):
        load_recipe(mood.parent / "language.toml", [f"data.task={task}"])
