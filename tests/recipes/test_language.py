"""Recipes for plain text: what is learnt from it, by characters and by documents, and bad texts."""

import random
import shutil

import numpy as np
import pytest

import kzoo
from kzoo import KzooError
from kzoo.recipes import load_recipe
from kzoo.recipes.data.parts import load_parts
from tests.cli.commands import kzoo_command
from tests.optional import require
from tests.recipes.learning import learn

RECIPE = """
name = "toy"
[data]
train = "plays.txt"
validation_share = 0.1
test_share = 0.1
[text]
units = "characters"
[model]
name = "gpt2_small"
hidden_dim = 32
num_layers = 1
num_heads = 2
intermediate_dim = 64
max_positions = 16
dropout = 0.1
[training]
max_steps = 12
batch_tokens = 128
checkpoint_every = 3
learning_rate = 1e-2
average = 4
[export]
dtype = "int8"
max_drop = 0.5
"""
DOCUMENTS = ["data.breaks=blank_line", "text.units=subwords", "text.vocab_size=280"]


@pytest.fixture
def toy(tmp_path):
    require("keras")
    words, chance = ["the", "old", "red", "dog", "sees", "a", "cat", "and", "likes", "it"], random.Random(0)
    lines = [" ".join(chance.choices(words, k=5)) for _ in range(90)]
    speeches = [f"DOG:\n{one}\n{other}" for one, other in zip(lines[::2], lines[1::2], strict=True)]
    (tmp_path / "plays.txt").write_text("\n\n".join(speeches) + "\n", encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path / "recipe.toml"


@pytest.mark.slow
def test_from_text_to_a_bundle_that_goes_on_with_it(toy, tmp_path, monkeypatch):
    require("sklearn")
    monkeypatch.setenv("KZOO_RUNS", str(tmp_path / "runs"))
    result = kzoo.recipes.run(toy, publish=True)
    assert list(result.scores) == ["nats_per_character", "bits_per_character", "bits_per_byte", "perplexity"]
    assert 1.5 < result.scores["nats_per_character"] < 3.2
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    text = (tmp_path / "plays.txt").read_text(encoding="utf-8")
    assert f"score on {len(text) - int(0.9 * len(text)):,} test characters" in card
    assert f"{len(text):,}"[:1] in card and " characters, 12 updates, each of at most 128 tokens," in card
    write = kzoo.load(result.bundle)
    assert write.manifest.examples[0] == "DOG:\n"
    assert len(write("the old", max_new_tokens=5)["text"]) == 5
    assert len(list(write.stream("", max_new_tokens=40))[-1]) == 40
    evaluated = kzoo_command("evaluate", tmp_path / "bundle", "--recipe", toy, "--device", "cpu")
    assert evaluated.exit_code == 0, evaluated.stderr
    assert f"{result.scores['perplexity']:.4g}"[:4] in evaluated.stdout
    refused = kzoo_command("evaluate", tmp_path / "bundle", "--table", tmp_path / "plays.txt")
    assert "give it --recipe RECIPE" in refused.stderr


@pytest.mark.slow
def test_a_killed_training_goes_on_as_it_would_have(toy, tmp_path):
    model, last, run = learn(toy, tmp_path / "whole", DOCUMENTS)
    assert last == 4
    assert [row["data_pass"] for row in run.history()][-1] >= 1
    killed = tmp_path / "killed" / run.path.name
    shutil.copytree(run.path, killed)
    for epoch in (3, 4):
        (killed / "checkpoints" / f"epoch-{epoch:04d}.keras").unlink()
    again, _, other = learn(toy, tmp_path / "killed", DOCUMENTS)
    assert other.path == killed
    for mine, its in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_documents_begin_and_end_and_running_text_does_not(toy):
    from kzoo.recipes.training.building import build_model

    for overrides, marked in (((), False), (DOCUMENTS, True)):
        recipe = load_recipe(toy, overrides)
        parts = load_parts(recipe, toy.parent)
        tokenizer = build_model(recipe, parts, toy.parent).tokenizer
        ids = tokenizer.encode(["the dog"], max_length=30).input_ids[0].tolist()
        assert ([ids[0], ids[-1]] == [1, 2]) is marked
        if not marked:
            assert tokenizer.end_id is None
            assert tokenizer.decode([tokenizer.start_id]) == "\n"
        assert (len(parts.test) > 1) is marked
        text = (toy.parent / "plays.txt").read_text(encoding="utf-8")
        assert text.startswith(parts.train.inputs[0])
        assert text.strip().endswith(parts.test.inputs[-1].strip())


def test_bad_texts_are_answered_with_why(toy):
    for content, message in (
        (b"", "plays.txt is empty"),
        (b"ab", "Cannot set 0.1 of 1 characters aside: a part would be empty"),
        (b"a dog\n\xff\xfe", r"plays\.txt, line 2: byte 0xff is not UTF-8"),
    ):
        (toy.parent / "plays.txt").write_bytes(content)
        with pytest.raises(KzooError, match=message):
            load_parts(load_recipe(toy), toy.parent)
    line = "the only line there is, of one dog"
    (toy.parent / "plays.txt").write_text(line, encoding="utf-8")
    parts = load_parts(load_recipe(toy), toy.parent)
    assert [*parts.train.inputs, *parts.validation.inputs, *parts.test.inputs] == [
        line[:27],
        line[27:30],
        line[30:],
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training={epochs=3}", "plain text is learnt by updates: set training.max_steps"),
        ("training.folds=3", "training.folds is not for pairs of texts, or plain text"),
        ("data.breaks=page", "data.breaks"),
        ("text.units=words", "text.units"),
        ("text.dropout=0.1", "text.dropout is for pairs of texts"),
        ("evaluation.metric=accuracy", "measured in nats_per_character"),
        ("text.augment={swap=0.1}", "text.augment"),
    ],
)
def test_a_recipe_that_contradicts_itself(toy, override, message):
    with pytest.raises(KzooError, match=message):
        load_recipe(toy, [override])
