import re
import tomllib
from pathlib import Path

import pytest

from kzoo import KzooError
from kzoo.recipes import DIGITS, Recipe, apply_overrides, load_recipe
from kzoo.recipes.tuning.plans import load_plan

TOPIC = """
name = "topic"
[data]
train = "train.csv"
test = "test.csv"
text = "text"
label = "label"
[model]
name = "bert_mini"
num_layers = 2
[training]
epochs = 3
"""
IMAGES = 'name = "clothes"\n[data]\ntrain = "a.npz"\n[model]\nname = "vit"\n[training]\nepochs = 1\n'
PAIRS = 'name = "en-de"\n[data]\ntrain = ["a.en", "a.de"]\n[model]\nname = "t"\n[training]\nepochs = 1\n'


@pytest.fixture
def load(tmp_path):
    def load(content, *overrides):
        path = tmp_path / "recipe.toml"
        path.write_text(content, encoding="utf-8")
        return load_recipe(path, overrides)

    return load


def test_a_recipe_and_its_defaults(load):
    recipe = load(TOPIC)
    assert recipe.task == "classification"
    assert recipe.metric == "accuracy"
    assert recipe.model.knobs == {"num_layers": 2}
    assert (recipe.training.batch_size, recipe.training.seed, recipe.training.learning_rate) == (32, 0, None)


def test_the_data_says_the_task(load):
    assert load(IMAGES).task == "image_classification"
    assert load(PAIRS).task == "seq2seq"
    assert load(PAIRS).metric == "bleu"
    assert load_recipe(DIGITS).task == "image_classification"
    assert load(IMAGES, "data.train=folder", "data.format=folders").data.format == "folders"
    assert load(IMAGES, "data.train=images.tar.xz").task == "image_classification"
    table = load(IMAGES, "data.train=images.parquet", "data.image=img", "data.label=kind")
    assert (table.task, table.data.image) == ("image_classification", "img")
    assert (
        load(TOPIC, "data.train=SMSSpam.gz", "data.format=tsv", "data.text=1", "data.label=0").data.text == 1
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", "training.epoch: unknown field. Did you mean 'epochs'?"),
        ("export.dtype=int9", "unknown precision 'int9'. Did you mean 'int8'?"),
        ("export.max_drop=0.1", "max_drop is for a dtype other than float32"),
        ("data.lable=x", "data.lable: unknown field. Did you mean 'label'?"),
        ("trainning.epochs=3", "trainning: unknown field. Did you mean 'training'?"),
        ("training.epochs=three", "training.epochs: Input should be a valid integer"),
        ("training.epochs=0", "training.epochs: Input should be greater than 0 (it is 0)"),
        ("training.learning_rate=-1", "training.learning_rate"),
        ("data.text=0.5", "data.text"),
        ("data.test_share=1.5", "data.test_share"),
        ("data.test_share=0.1", "data: test and test_share exclude each other"),
        ("data.train=train.bin", "data: the file's name does not tell what it is: set format"),
        ("data.format=xlsx", "data: the file's name does not tell what it is: set format"),
        ("vision.augment.flip=true", "the section 'vision' is for images; the data is text"),
        ("model.vocab_size=100", "set text.vocab_size instead"),
        ("model.labels=['a']", "model.labels follows from the data"),
        ("evaluation.metric=bleu", "this task is measured in accuracy, macro_f1, micro_f1, and in f1:NAME"),
        ("evaluation.language=de", "evaluation.language is for translations"),
        ("evaluation.mirrored=true", "evaluation.mirrored is for images"),
        ("evaluation.metric=acuracy", "Did you mean 'accuracy'?"),
        ("name=../topic", "name: String should match pattern"),
        ("model={}", "model: say either name or pretrained"),
        ("model.pretrained=a", "model: say either name or pretrained"),
        ("training.seeds=[1, 2]", "training.seeds needs data.validation or data.validation_share"),
        ("training.seeds=[1, 1]", "training: seeds are different numbers, in place of seed"),
        ("training.folds=3", "training.folds is for data without a test part: leave data.test out"),
        ("training.freeze=head", "training.freeze"),
        ("training.layer_decay=1.5", "training.layer_decay: Input should be less than or equal to 1"),
        ('training.class_weights="even"', "training.class_weights"),
        ("training.label_smoothing=1.0", "training.label_smoothing: Input should be less than 1"),
        ("lora.ranks=4", "lora.ranks: unknown field. Did you mean 'rank'?"),
        ("text.augment.swaps=0.1", "text.augment.swaps: unknown field. Did you mean 'swap'?"),
    ],
)
def test_mistakes_are_named_with_file_and_field(load, override, message):
    with pytest.raises(KzooError) as caught:
        load(TOPIC, override)
    assert "recipe.toml is not a valid recipe" in str(caught.value)
    assert message in str(caught.value)


def test_every_mistake_is_named_once(load):
    with pytest.raises(KzooError) as caught:
        load(TOPIC, "training.epochs=0", "training.batch_sise=3", "data.label=0.5")
    lines = str(caught.value).splitlines()[1:]
    assert sorted(line.split(":")[0].strip() for line in lines) == [
        "data.label",
        "training.batch_sise",
        "training.epochs",
    ]


@pytest.mark.parametrize(
    ("content", "override", "message"),
    [
        (IMAGES, "text.vocab_size=9", "no use for the section 'text'"),
        (IMAGES, "model.tokenizer=a.json", "no use for the section 'text' or a tokenizer"),
        (IMAGES, "vision.augment.spin=9", "vision.augment.spin: unknown field"),
        (IMAGES, "data.label=a", "data.label: unknown field"),
        (
            IMAGES,
            "vision.augment.mixup=-1",
            "vision.augment.mixup: Input should be greater than or equal to 0",
        ),
        (IMAGES, "vision.augment.cutmix=2", "vision.augment.cutmix: Input should be less than or equal to 1"),
        (IMAGES, "vision.augment.magnitude=0.3", "say how many operations, as in rand_augment = 2"),
        (IMAGES, "vision.augment.repeats=2", "repeats is for images that are varied"),
        (IMAGES, "vision.augment={repeats=3, flip=true}", "is not a multiple of vision.augment.repeats=3"),
        (PAIRS, "data.train=['a','b','c']", "data.train: List should have at most 2 items"),
        (PAIRS, "evaluation.metric=accuracy", "measured in bleu, chrf"),
    ],
)
def test_what_other_data_cannot_have(load, content, override, message):
    with pytest.raises(KzooError) as caught:
        load(content, override)
    assert message in str(caught.value)


def test_a_tokenizer_is_given_or_trained(load):
    assert load(TOPIC, "model.tokenizer=a.json").model.tokenizer == "a.json"
    with pytest.raises(KzooError, match="vocab_size is for a tokenizer to be trained"):
        load(TOPIC, "model.tokenizer=a.json", "text.vocab_size=100")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["training.freeze=backbone", "training.layer_decay=0.9"],
            "leaves no layer for unfreeze_every or layer_decay",
        ),
        (["training.seeds=[0, 1]", "training.seed=3"], "in place of seed"),
        (["training.seeds=[0, 1]", "training.folds=2"], "seeds and folds exclude each other"),
        (["lora.rank=4", "training.freeze=2"], "leave freeze and unfreeze_every out"),
        (['data.task="multilabel"', 'training.class_weights="balanced"'], "one class for each example"),
        (['data.task="multilabel"', "training.label_smoothing=0.1"], "one class for each example"),
        (["distillation.teacher=a.keras", "training.label_smoothing=0.1"], "smooth already; leave it out"),
        (['data.task="tokens"', "text.augment.swap=0.1"], "these texts cannot be varied"),
    ],
)
def test_fields_that_contradict_each_other(load, overrides, message):
    with pytest.raises(KzooError) as caught:
        load(TOPIC, *overrides)
    assert message in str(caught.value)


def test_a_table_says_its_task(load):
    for task, own, metric in (
        ("multilabel", "multilabel", "macro_f1"),
        ("tokens", "tokens", "span_f1"),
        ("regression", "regression", "pearson"),
    ):
        recipe = load(TOPIC, f"data.task={task}")
        assert (recipe.task, recipe.metric) == (own, metric)
    recipe = load(TOPIC, "data.task=similarity", "data.text_pair=other")
    assert (recipe.task, recipe.metric) == ("embedding", "spearman")
    assert load(TOPIC, "evaluation.metric=f1:spam").metric == "f1:spam"


def test_files_that_are_no_recipe(load, tmp_path):
    with pytest.raises(KzooError, match=r"no recipe .*nothing\.toml"):
        load_recipe(tmp_path / "nothing.toml")
    with pytest.raises(KzooError, match=r"recipe\.toml is not TOML: .*line 2"):
        load('name = "x"\nepochs 3\n')
    with pytest.raises(KzooError, match="cannot be read"):
        load_recipe(tmp_path)


def test_overrides_are_toml_or_else_strings():
    changed = apply_overrides(
        {"a": {"b": 1}},
        ["a.b=2.5", "a.c=true", "a.d=[1, 2]", 'a.e="3"', "a.f=bert_mini", "g.h.i= 4 ", "a.j=x=y"],
    )
    assert changed == {
        "a": {"b": 2.5, "c": True, "d": [1, 2], "e": "3", "f": "bert_mini", "j": "x=y"},
        "g": {"h": {"i": 4}},
    }


def test_overrides_leave_the_original_alone():
    original = {"a": {"b": 1}}
    apply_overrides(original, ["a.b=2"])
    assert original == {"a": {"b": 1}}


@pytest.mark.parametrize("override", ["a.b", "=3", "a..b=3", "a.b.c=3"])
def test_overrides_that_are_none(override):
    with pytest.raises(KzooError, match=r"override|is a value, not a section"):
        apply_overrides({"a": {"b": 1}}, [override])


def test_the_recipes_in_the_documents_are_valid():
    document = Path(__file__).parents[3] / "docs" / "recipes.md"
    recipes = re.findall(r"```toml\n(.*?)```", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    tasks = []
    for recipe in recipes:
        # Some blocks are of a section alone.
        fields = {**tomllib.loads(TOPIC), **tomllib.loads(recipe)}
        tasks.append(Recipe.model_validate(fields).task)
    assert {*tasks} == {
        *("classification", "multilabel", "embedding", "seq2seq", "causal_lm", "mlm", "image_classification")
    }


def test_pairs_of_texts_come_in_tables_too(load):
    table = PAIRS.replace('["a.en", "a.de"]', '"a.tsv"\nsource = "en"\ntarget = "de"')
    recipe = load(table, "data.clean.max_ratio=3.0")
    assert recipe.task == "seq2seq"
    assert recipe.data.clean.max_ratio == 3.0
    with pytest.raises(KzooError, match=r"data\.clean\.max_ration: unknown field\. Did you mean 'max_ratio'"):
        load(table, "data.clean.max_ration=2.0")


def test_the_recipes_on_the_shelf_are_valid_and_commented():
    recipes = sorted((Path(__file__).parents[3] / "models").glob("*/*.toml"))
    assert {path.parent.name for path in recipes} >= {
        "translate-en-de",
        "translate-en-fr",
        "spam",
        "emotions",
    }
    for path in recipes:
        if path.stem == "search":
            assert load_plan(path).recipe == "recipe.toml"
            continue
        kind = "" if path.stem == "recipe" else f"-{path.stem}"
        assert load_recipe(path).name == path.parent.name + kind
        assert path.read_text(encoding="utf-8").startswith("#")
