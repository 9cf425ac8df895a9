"""Recipes with a teacher: from two files to a student's bundle, and a table of three."""

from __future__ import annotations

import json

import pytest

import kzoo
from kzoo import KzooError
from kzoo.recipes.schema.config import load_recipe
from kzoo.recipes.training.distilling import Row, as_table
from tests.optional import require
from tests.recipes.learning import moods, write_table

DATA = """
[data]
train = "mood.csv"
validation_share = 0.1
test_share = 0.2
text = "sentence"
label = "mood"
"""
TEACHER = f"""
name = "mood-teacher"
{DATA}
[text]
vocab_size = 120
[model]
name = "bert_tiny"
hidden_dim = 32
num_layers = 2
num_heads = 2
intermediate_dim = 64
dropout = 0.0
max_positions = 32
[training]
epochs = 6
batch_size = 16
learning_rate = 5e-3
"""
STUDENT = f"""
name = "mood"
{DATA}
[text]
vocab_size = 110
[text.augment]
swap = 0.2
[model]
name = "bert_tiny"
hidden_dim = 32
num_layers = 1
num_heads = 2
intermediate_dim = 16
dropout = 0.0
max_positions = 16
[distillation]
teacher = "teacher.toml"
weights = {{ labels = 0.3, logits = 0.7, hidden = 0.1, attention = 0.1 }}
layers = "last"
unlabelled = ["more.txt"]
augmented = 1
[training]
epochs = 3
batch_size = 16
learning_rate = 5e-3
"""


@pytest.fixture
def mood(tmp_path, monkeypatch):
    """A student's recipe, its teacher's beside it, and their data."""
    for package in ("keras", "sklearn", "matplotlib", "onnx"):
        require(package)
    monkeypatch.setenv("KZOO_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("KZOO_DATA", raising=False)
    write_table(tmp_path / "mood.csv", ("sentence", "mood"), moods())
    (tmp_path / "more.txt").write_text("a small girl laughs\n\nthe tall man sighs\n", encoding="utf-8")
    (tmp_path / "teacher.toml").write_text(TEACHER, encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(STUDENT, encoding="utf-8")
    return tmp_path / "recipe.toml"


@pytest.mark.slow
def test_a_student_goes_from_two_recipes_to_a_table_of_three(mood, tmp_path):
    class KilledError(Exception):
        pass

    def kill(epoch, epochs, row):
        if epoch == 2:
            raise KilledError

    said: list[str] = []
    with pytest.raises(KilledError):
        kzoo.recipes.run(mood, progress=said.append, on_epoch=kill)
    (teacher,) = (tmp_path / "runs" / "mood-teacher").iterdir()
    (outputs, *_) = (tmp_path / "runs" / "mood" / "teacher-outputs").iterdir()
    asked = {file: file.stat().st_mtime_ns for file in outputs.iterdir()}
    assert any(line.startswith("The teacher comes first") for line in said)

    said.clear()
    result = kzoo.recipes.run(mood, progress=said.append, on_epoch=lambda *_: None)
    assert result.resumed_after == 2
    assert f"The teacher is there: {teacher}" in said
    assert {file: file.stat().st_mtime_ns for file in outputs.iterdir()} == asked

    metrics = json.loads((result.directory / "metrics.json").read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in metrics["compared"]}
    assert list(rows) == ["teacher", "student from scratch", "student distilled"]
    assert rows["student distilled"]["score"] == pytest.approx(result.scores["accuracy"])
    assert rows["student distilled"]["score"] >= 0.9
    assert rows["teacher"]["parameters"] > rows["student distilled"]["parameters"] == metrics["parameters"]
    assert rows["teacher"]["size"] > rows["student distilled"]["size"]
    assert all(row["milliseconds"] > 0 for row in rows.values())
    assert metrics["distillation"].count("\n| ") == 5
    assert said[-1].startswith("| student distilled | ")

    bundle = kzoo.load(result.bundle)
    assert bundle("the tall girl always cries")["label"] == "sad"
    record = json.loads((result.directory / "run.json").read_text(encoding="utf-8"))
    assert {"more.txt", "teacher teacher.toml"} < set(record["data"])


PAIRS = """
name = "alike"
[data]
task = "similarity"
train = "pairs.csv"
validation_share = 0.2
test_share = 0.2
text = "one"
text_pair = "other"
label = "alike"
[model]
name = "bert_tiny"
hidden_dim = 32
num_layers = 1
num_heads = 2
intermediate_dim = 64
max_positions = 32
[distillation]
teacher = "teacher.keras"
unlabelled = ["mood.csv"]
unlabelled_text = "sentence"
epochs = 2
learning_rate = 5e-3
[training]
epochs = 1
batch_size = 16
learning_rate = 1e-3
"""


@pytest.mark.slow
def test_an_embedding_student_learns_from_the_teacher_and_then_from_pairs(mood, tmp_path):
    texts = moods()
    rows = [
        (one, other, float(mood == another))
        for (one, mood), (other, another) in zip(texts, texts[7:] + texts[:7], strict=True)
    ]
    write_table(tmp_path / "pairs.csv", ("one", "other", "alike"), rows)
    tokenizer = kzoo.text.Tokenizer.train([text for text, _ in texts], vocab_size=120)
    numbers = {"hidden_dim": 32, "num_layers": 2, "num_heads": 2, "intermediate_dim": 64, "max_positions": 32}
    teacher = kzoo.models.bert_tiny(
        task="embedding", tokenizer=tokenizer, vocab_size=tokenizer.vocab_size, **numbers
    )
    teacher.save(tmp_path / "teacher.keras")
    mood.write_text(PAIRS, encoding="utf-8")
    with pytest.raises(KzooError, match="sentence"):
        kzoo.recipes.run(mood, overrides=["distillation.unlabelled_text=sentnce"])
    said: list[str] = []
    result = kzoo.recipes.run(mood, progress=said.append, on_epoch=lambda *_: None)
    metrics = json.loads((result.directory / "metrics.json").read_text(encoding="utf-8"))
    learnt = 2 * metrics["examples"]["train"] + len(texts)
    assert f"Learning from the teacher, on {learnt} texts." in said
    assert metrics["compared"][0]["name"] == "teacher"
    assert "spearman" in metrics["distillation"]
    first = (result.directory / "distillation" / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert len(first) == 3 and "val_spearman" in first[0] and "val_embedding_loss" in first[0]
    assert kzoo.load(result.bundle)(["a small girl"]).shape == (1, 32)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.seeds=[0,1]", "training.seeds does not go with"),
        ("training.layer_decay=0.9", "training.layer_decay do not go with"),
        ("distillation.learning_rate=1.0", "needs distillation.epochs"),
        ("distillation.augmented=0", "set distillation.augmented = 1"),
        ("distillation.weights.logit=1.0", "distillation.weights"),
        ("distillation.tempertaure=1.0", "Did you mean 'temperature'"),
    ],
)
def test_what_does_not_go_with_a_teacher_is_refused(mood, override, said):
    with pytest.raises(KzooError, match=said):
        load_recipe(mood, [override])


def test_a_teacher_that_is_none_is_refused(mood, tmp_path):
    with pytest.raises(KzooError, match="There is no recipe"):
        kzoo.recipes.run(mood, overrides=["distillation.teacher=techer.toml"])
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(KzooError, match="a checkpoint has no head for this data"):
        kzoo.recipes.run(mood, overrides=["distillation.teacher=checkpoint"])
    with pytest.raises(KzooError, match="has a teacher of its own"):
        kzoo.recipes.run(mood, overrides=["distillation.teacher=recipe.toml"])
    assert not (tmp_path / "runs").exists()


def test_the_table_leaves_out_what_is_not_known():
    rows = [Row("teacher", 0.9, None, 9_500_000, 7.25), Row("student distilled", 0.85, 1_000, 100_000, 0.5)]
    assert as_table("accuracy", rows)[2:] == [
        "| teacher | 0.9000 |  | 9.5 | 7.2 |",
        "| student distilled | 0.8500 | 1,000 | 0.1 | 0.5 |",
    ]
