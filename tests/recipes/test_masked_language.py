"""Recipes for masked language models: what is learnt from plain text and tables, and what contradicts itself."""

import numpy as np
import pytest

import kzoo
from kzoo import KzooError
from kzoo.models import list_models
from kzoo.models.registry import design_of
from kzoo.recipes import load_recipe
from kzoo.recipes.data.parts import load_parts
from kzoo.recipes.schema.data_kinds import PlainTextData
from kzoo.recipes.training.building import build_model
from tests.cli.commands import kzoo_command
from tests.optional import require
from tests.recipes.learning import learn, moods, write_table

RECIPE = """
name = "toy"
[data]
train = "moods.txt"
breaks = "line"
validation_share = 0.1
test_share = 0.2
[text]
vocab_size = 90
[masking]
share = 0.3
whole_words = true
[model]
name = "bert_tiny"
hidden_dim = 32
num_layers = 1
num_heads = 2
intermediate_dim = 64
max_positions = 32
dropout = 0.1
[training]
max_steps = 12
batch_tokens = 256
checkpoint_every = 3
learning_rate = 1e-2
[export]
dtype = "int8"
max_drop = 5.0
"""


@pytest.fixture
def toy(tmp_path):
    require("keras")
    texts = [text for text, _ in moods()]
    np.random.default_rng(0).shuffle(texts)
    (tmp_path / "moods.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path / "recipe.toml"


@pytest.mark.slow
def test_from_text_to_a_bundle_that_fills_gaps(toy, tmp_path, monkeypatch):
    require("sklearn")
    monkeypatch.setenv("KZOO_RUNS", str(tmp_path / "runs"))
    result = kzoo.recipes.run(
        toy, overrides=["training.max_steps=90", "training.checkpoint_every=30"], publish=True
    )
    assert list(result.scores) == ["perplexity", "masked_accuracy"]
    # Of two dozen words that stand in their places, chance would be at 24.
    assert result.scores["perplexity"] < 12 and result.scores["masked_accuracy"] > 0.3
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "test characters" in card and "A text with a [MASK]." in card
    fill = kzoo.load(result.bundle)
    assert fill("the tall man always [MASK]", top_k=1)[0]["token"]
    evaluated = kzoo_command("evaluate", tmp_path / "bundle", "--recipe", toy, "--device", "cpu")
    assert evaluated.exit_code == 0, evaluated.stderr
    assert f"{result.scores['perplexity']:.4g}" in evaluated.stdout
    compared = kzoo_command(
        "compare", tmp_path / "bundle", tmp_path / "bundle", "--recipe", toy, "--device", "cpu"
    )
    assert "masked_accuracy" in compared.stdout, compared.stderr


def test_rows_of_tables_are_learnt_from(toy):
    write_table(toy.parent / "moods.csv", ("text", "mood"), moods())
    overrides = ["data.train=moods.csv", "data.format=text", "data.text=text"]
    with pytest.raises(KzooError, match="breaks is for files of plain text"):
        load_recipe(toy, overrides)
    content = RECIPE.replace('breaks = "line"', "").replace("whole_words = true", "")
    toy.write_text(content, encoding="utf-8")
    recipe = load_recipe(toy, overrides)
    parts = load_parts(recipe, toy.parent)
    assert recipe.task == "mlm" and recipe.unit == "characters"
    assert [*parts.train.inputs, *parts.validation.inputs, *parts.test.inputs] == [t for t, _ in moods()]
    assert build_model(recipe, parts, toy.parent).tokenizer.mask_id == 4


def test_the_encoders_of_the_zoo_guess_and_the_others_go_on(toy):
    data = PlainTextData(train="a.txt")
    for name in list_models():
        tasks = design_of(name).backbone.tasks
        assert (data.task_of(name) == "mlm") == ("mlm" in tasks), name
    assert PlainTextData(train="a.txt", task="mlm").task_of(None) == "mlm"
    assert load_recipe(toy).task == "mlm"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.task=causal_lm", "the section 'masking' is for plain text and an encoder"),
        ("masking.share=1.5", "masking.share"),
        ("masking.words=true", "unknown field"),
        ("text.units=characters", "for a decoder"),
        ("training={epochs=3}", "plain text is learnt by updates"),
        ("evaluation.metric=accuracy", "measured in perplexity, masked_accuracy"),
    ],
)
def test_a_recipe_that_contradicts_itself(toy, override, message):
    with pytest.raises(KzooError, match=message):
        load_recipe(toy, [override])


def test_a_tokenizer_that_hides_nothing(toy):
    tokenizer = kzoo.text.Tokenizer.train(["a dog"], kind="bpe", vocab_size=300)
    tokenizer.save(toy.parent / "tokenizer.json")
    content = RECIPE.replace("[text]\nvocab_size = 90\n", "")
    toy.write_text(content, encoding="utf-8")
    with pytest.raises(KzooError, match="needs a tokenizer with a mask token"):
        learn(toy, toy.parent / "runs", ["model.tokenizer=tokenizer.json"])
