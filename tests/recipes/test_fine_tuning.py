"""Recipes that go on from a checkpoint, keep a part of it still, train several times, or serve other data."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

import kzoo
from kzoo import KzooError
from kzoo.recipes.training.checkpoints import find_pretrained
from kzoo.text import Tokenizer
from tests.optional import require
from tests.recipes.learning import learn, moods, write_table

RECIPE = """
name = "mood"
[data]
train = "mood.csv"
validation_share = 0.1
test_share = 0.2
text = "sentence"
label = "mood"
[model]
pretrained = "checkpoint"
max_length = 8
[training]
epochs = 2
batch_size = 16
learning_rate = 5e-3
"""


SHELF = Path(__file__).parents[2] / "models"
# Read before the fixture below takes it away: all tests but one must do without.
_REAL_DATA = os.environ.get("KZOO_DATA")


@pytest.fixture(autouse=True)
def _runs(tmp_path, monkeypatch):
    for package in ("keras", "sklearn", "matplotlib", "onnx"):
        require(package)
    monkeypatch.setenv("KZOO_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("KZOO_DATA", raising=False)


@pytest.fixture
def mood(tmp_path):
    """A recipe that goes on from a checkpoint, and its data."""
    write_table(tmp_path / "mood.csv", ("sentence", "mood"), moods())
    tokenizer = Tokenizer.train([text for text, _ in moods()], kind="wordpiece", vocab_size=120)
    numbers = {"hidden_dim": 32, "num_layers": 2, "num_heads": 2, "intermediate_dim": 64, "dropout": 0.0}
    model = kzoo.models.bert_tiny(
        task="features", tokenizer=tokenizer, vocab_size=tokenizer.vocab_size, max_positions=32, **numbers
    )
    model.save_pretrained(tmp_path / "checkpoint")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path / "recipe.toml"


def rows_of(run):
    lines = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


@pytest.mark.slow
def test_a_checkpoint_is_fine_tuned_to_a_bundle(mood):
    overrides = [
        "training.epochs=12",
        "training.layer_decay=0.9",
        "training.unfreeze_every=1",
        'training.class_weights="balanced"',
        "training.patience=9",
        "text.augment.word_dropout=0.05",
        "evaluation.metric=f1:sad",
    ]
    result = kzoo.recipes.run(mood, overrides=overrides)
    assert next(iter(result.scores)) == "f1:sad"
    assert result.scores["f1:sad"] > 0.9
    bundle = kzoo.load(result.bundle)
    assert bundle.manifest.labels == ["glad", "sad"]
    assert bundle("the tall girl always cries")["label"] == "sad"
    record = json.loads((result.directory / "run.json").read_text())
    assert len(record["data"]["checkpoint"]) == 64
    rows, metrics = rows_of(result.directory), json.loads((result.directory / "metrics.json").read_text())
    best = max(rows, key=lambda row: (float(row["val_f1:sad"]), -float(row["val_loss"])))
    assert metrics["epoch"] == int(best["epoch"])


@pytest.mark.slow
def test_what_is_frozen_stays_as_it_is(mood, tmp_path):
    before = kzoo.models.from_pretrained(tmp_path / "checkpoint")
    model, _, run = learn(mood, tmp_path / "frozen", ["training.freeze=1", "text.vocab_size=80"])
    assert model.tokenizer.vocab_size == model.backbone.config.vocab_size < before.tokenizer.vocab_size
    kept = model.tokenizer.token_id("girl"), before.tokenizer.token_id("girl")
    old, new = (
        each.backbone.token_embedding.get_weights()[0][index]
        for each, index in zip((model, before), kept, strict=True)
    )
    np.testing.assert_array_equal(old, new)
    for block in (0, 1):
        kernels = [each.backbone.blocks[block].weights[0].numpy() for each in (model, before)]
        assert np.array_equal(*kernels) == (block == 0)
    assert len(run.history()) == 2


@pytest.mark.slow
def test_several_seeds_go_on_where_they_were_stopped(mood, tmp_path):
    write_table(
        tmp_path / "tags.csv",
        ("sentence", "tags"),
        [(text, f"{mood},old" if "old" in text else mood) for text, mood in moods()],
    )
    overrides = ["data.train=tags.csv", "data.task=multilabel", "data.label=tags", "training.seeds=[0, 7]"]
    overrides += ["model.max_length=7", "lora.rank=4"]
    seen, said = [], []

    def stop(epoch, epochs, row):
        seen.append(epoch)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kzoo.recipes.run(mood, overrides=overrides, progress=said.append, on_epoch=stop)
    assert said[-1].startswith("Interrupted after epoch 1 of 2 with seed 7.")
    result = kzoo.recipes.run(
        mood,
        overrides=overrides,
        progress=said.append,
        on_epoch=lambda epoch, *_: seen.append(epoch),
        publish=True,
    )
    assert seen == [1, 2, 1, 2]
    assert any(re.search(r"parameters, [\d,]+ of which train, 116 examples", line) for line in said), said
    assert any("Texts of more than 7 tokens, which are cut: " in line for line in said), said
    assert result.resumed_after == 3
    seeds = json.loads((result.directory / "metrics.json").read_text())["seeds"]
    assert list(seeds["runs"]) == ["seed 0", "seed 7"]
    scores = [run["macro_f1"] for run in seeds["runs"].values()]
    assert seeds["mean"]["macro_f1"] == pytest.approx(np.mean(scores))
    assert seeds["spread"]["macro_f1"] == pytest.approx(np.std(scores, ddof=1))
    best = max(seeds["runs"].values(), key=lambda run: run["validation"])
    assert seeds["runs"][seeds["exported"]]["validation"] == best["validation"]
    # Measured on the Keras model there, on the bundle here.
    assert result.scores["macro_f1"] == pytest.approx(seeds["runs"][seeds["exported"]]["macro_f1"])
    assert "± " in (tmp_path / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_folds_measure_where_there_is_nothing_to_test_on(mood, tmp_path):
    numbers = [(text, 3.0 if mood == "glad" else 1.0) for text, mood in moods()]
    write_table(tmp_path / "grades.csv", ("sentence", "grade"), numbers)
    recipe = RECIPE.replace("test_share = 0.2\n", "").replace("validation_share = 0.1\n", "")
    mood.write_text(recipe.replace("mood.csv", "grades.csv").replace('"mood"\n[model]', '"grade"\n[model]'))
    overrides = ["data.task=regression", "training.folds=2", "training.epochs=4"]
    result = kzoo.recipes.run(mood, overrides=overrides)
    folds = json.loads((result.directory / "metrics.json").read_text())["folds"]
    assert list(folds["runs"]) == ["fold 1", "fold 2"]
    assert result.scores == folds["mean"]
    assert result.scores["pearson"] > 0.5
    grade = kzoo.load(result.bundle)
    assert grade("the tall girl always laughs")["score"] > grade("the tall girl always cries")["score"]


@pytest.mark.slow
@pytest.mark.backend
def test_pairs_of_texts_teach_what_is_alike(mood, tmp_path):
    random = np.random.default_rng(0)
    texts = moods()
    pairs = [(texts[one], texts[other]) for one, other in random.integers(0, len(texts), (160, 2))]
    rows = [(one[0], other[0], 5.0 if one[1] == other[1] else 0.0) for one, other in pairs]
    write_table(tmp_path / "pairs.csv", ("one", "other", "score"), rows)
    content = RECIPE.replace("mood.csv", "pairs.csv").replace(
        'text = "sentence"\nlabel = "mood"',
        'task = "similarity"\ntext = "one"\ntext_pair = "other"\nlabel = "score"\nscale = [0.0, 5.0]',
    )
    mood.write_text(content)
    model, _, run = learn(mood, tmp_path / "pairs", ["training.epochs=20"])
    assert run.history()[-1]["val_spearman"] > 0.5
    glad, happy, sad = model.predict(
        ["a small man then laughs", "one old cat always smiles", "a small man then cries"], verbose=0
    )["embedding"]
    assert glad @ happy > glad @ sad


@pytest.mark.slow
def test_a_loss_that_is_no_number_says_the_step(mood, tmp_path):
    with pytest.raises(KzooError, match=r"no longer a number, at .*step .*epoch .*learning_rate"):
        learn(mood, tmp_path / "nan", ["training.learning_rate=1e30", "training.clip_norm=1e30"])


def test_unknown_classes_are_refused_before_the_training(mood, tmp_path):
    with pytest.raises(KzooError, match=r"class_weights: 'happy' is none of the classes"):
        kzoo.recipes.run(mood, overrides=["training.class_weights.happy=2.0"])
    with pytest.raises(KzooError, match=r"metric = f1:sat: the data has no class 'sat'\. Did you mean 'sad'"):
        kzoo.recipes.run(mood, overrides=["evaluation.metric=f1:sat"])
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("package:no_such_package", "there is no such package here. Install"),
        ("package:os.path", "a package is named as in `import NAME`"),
        ("package:../secrets", "a package is named as in `import NAME`"),
        ("./nowhere", "There is no folder './nowhere'"),
    ],
)
def test_checkpoints_that_are_nowhere(name, message, tmp_path):
    with pytest.raises(KzooError) as caught:
        find_pretrained(name, tmp_path)
    assert message in str(caught.value)


@pytest.mark.slow
def test_a_recipe_serves_other_data_after_four_edits(tmp_path):
    document = Path(__file__).parents[2] / "docs" / "recipes.md"
    recipe = re.findall(r"```toml\n(.*?)```", document.read_text(encoding="utf-8"), flags=re.DOTALL)[0]
    edits = {"name": "mood", "train": "mine.csv", "text": "what was said", "label": "mood"}
    for field, value in edits.items():
        recipe, count = re.subn(
            rf'^{field} = "[^"]*"', f'{field} = "{value}"', recipe, count=1, flags=re.MULTILINE
        )
        assert count == 1, field
    (tmp_path / "recipe.toml").write_text(recipe, encoding="utf-8")
    write_table(
        tmp_path / "mine.csv", ("nr", "what was said", "mood"), [(i, *row) for i, row in enumerate(moods())]
    )
    result = kzoo.recipes.run(tmp_path / "recipe.toml")
    assert result.scores["accuracy"] > 0.9
    bundle = kzoo.load(result.bundle)
    assert bundle.name == "mood"
    assert bundle("a small girl then smiles")["label"] == "glad"


@pytest.mark.slow
def test_the_quickest_recipe_of_the_shelf(monkeypatch):
    if not _REAL_DATA or not (Path(_REAL_DATA) / "sms_spam").is_dir():
        pytest.skip("needs sms_spam in $KZOO_DATA")
    monkeypatch.setenv("KZOO_DATA", _REAL_DATA)
    result = kzoo.recipes.run(SHELF / "spam" / "recipe.toml")
    # The bundle on the shelf is held to 0.95; other processors add numbers up in another order.
    assert result.scores["f1:spam"] > 0.93


@pytest.mark.slow
def test_an_image_checkpoint_is_fine_tuned_at_another_size(tmp_path):
    numbers = {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "intermediate_dim": 32}
    model = kzoo.models.vit_micro_patch4_32(task="features", image_size=8, num_channels=1, **numbers)
    model.save_pretrained(tmp_path / "checkpoint")
    images = np.random.default_rng(0).integers(0, 60, (60, 16, 16), np.uint8)
    labels = np.arange(60) % 2
    images[labels == 1, :, :8] += 180
    np.savez(tmp_path / "halves.npz", x_train=images, y_train=labels)
    recipe = RECIPE.replace('text = "sentence"\nlabel = "mood"\n', "").replace("mood.csv", "halves.npz")
    (tmp_path / "recipe.toml").write_text(
        recipe.replace("max_length = 8", "image_size = 16"), encoding="utf-8"
    )
    result = kzoo.recipes.run(tmp_path / "recipe.toml", overrides=["training.epochs=8"])
    assert result.scores["accuracy"] > 0.9
    preprocessing = kzoo.load(result.bundle).manifest.image
    assert (preprocessing.height, preprocessing.width) == (16, 16)
