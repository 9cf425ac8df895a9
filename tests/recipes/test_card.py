"""The card of a trained model, from what its run measured."""

from __future__ import annotations

import pytest

from kzoo.recipes.card import card
from kzoo.recipes.schema.config import Recipe
from tests.optional import require

ENVIRONMENT = {
    "command": "kzoo train recipe.toml",
    "started": "2026-01-02T03:04:05+00:00",
    "hardware": "a processor, 2 cores",
    "versions": {"kzoo": "0.1.0"},
}
MEASURED = {
    "scores": {"f1:spam": 0.95, "accuracy": 0.9876, "roc_auc": 0.99},
    "margins": {"f1:spam": 0.012, "accuracy": 0.004},
    "signatures": {},
    "num_beams": None,
    "pictures": {"confusion.png": "Confusion matrix", "curves.png": "ROC and precision-recall curves"},
    "parameters": 1234,
    "seconds": 5.0,
    "epoch": 2,
    "examples": {"train": 800, "validation": 100, "test": 1000},
}


@pytest.fixture
def make():
    require("matplotlib")

    def make(
        task: str = "classification", metric: str | None = "f1:spam", show_texts: bool = True, **more: object
    ) -> str:
        data = {"train": "mail.csv", "text": "text", "label": "label", "task": task}
        if task == "similarity":
            data["text_pair"] = "other"
        recipe = Recipe.model_validate(
            {
                "name": "mail",
                "data": data,
                "model": {"name": "bert_tiny"},
                "training": {"epochs": 2},
                "evaluation": {"show_texts": show_texts} | ({"metric": metric} if metric else {}),
                "export": {"dtype": "int8"},
            }
        )
        return card(recipe, {**MEASURED, **more}, {"mail.csv": "0" * 64}, ENVIRONMENT, 1_234_567)

    return make


def test_what_mirror_images_add_is_said_beside_the_scores(make):
    assert "mirror" not in make()
    assert "to its mirror image, which takes twice the time: f1:spam 0.9600." in make(mirrored=0.96)


def test_scores_come_with_their_margins_the_leading_one_first(make):
    text = make()
    rows = [line for line in text.splitlines() if line.startswith("| ")][:5]
    assert rows == [
        "| score on 1,000 test examples | |",
        "| --- | --- |",
        r"| f1\:spam | 0.9500 ± 0.0120 |",
        "| accuracy | 98.76% ± 0.40% |",
        "| roc_auc | 0.9900 |",
    ]
    assert "![Confusion matrix](confusion.png)" in text
    assert "![ROC and precision-recall curves](curves.png)" in text
    assert "Measured on the exported bundle, through `kzoo.runtime`;" in text
    assert "in int8, 1.2 MB with tokenizer and checks." in text


@pytest.mark.parametrize(
    ("task", "score", "use"),
    [
        ("classification", "macro_f1", "A text to sort"),
        ("multilabel", "exact_match", "[["),
        ("tokens", "span_f1", '"start"'),
        ("regression", "pearson", "A text to grade"),
        ("similarity", "spearman", "one @ other"),
    ],
)
def test_each_task_has_a_card(make, task, score, use):
    text = make(task, score, scores={score: 0.5}, margins={score: 0.1})
    assert f"| {score} | 50.00% ± 10.00% |" in text or f"| {score} | 0.5000 ± 0.1000 |" in text
    assert use in text


def test_the_table_of_classes(make):
    row = {"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 1200, "roc_auc": 0.9}
    text = make(classes={"ham|eggs": row | {"threshold": 0.31}})
    assert "| class | precision | recall | f1 | support | threshold |" in text
    assert r"| ham\|eggs | 0.500 | 1.000 | 0.667 | 1,200 | 0.310 |" in text
    many = {f"class {number}": row | {"f1": number / 100} for number in range(99, -1, -1)}
    text = make(classes=many)
    assert "The 30 of 100 classes with the lowest F1." in text
    assert "| class 29 |" in text
    assert "| class 30 |" not in text


def test_texts_that_nobody_should_read_are_not_on_the_card(make):
    hardest = [{"input": "a rude word", "expected": "ham", "found": "spam", "loss": 3.0}]
    assert "a rude word" in make(hardest=hardest)
    assert "a rude word" not in make(hardest=hardest, show_texts=False)


def test_several_seeds_have_a_mean_and_a_spread(make):
    runs = {"seed 0": {"accuracy": 0.9, "validation": 0.8}, "seed 7": {"accuracy": 0.92, "validation": 0.85}}
    seeds = {"runs": runs, "mean": {"accuracy": 0.91}, "spread": {"accuracy": 0.0141}, "exported": "seed 7"}
    text = make(seeds=seeds)
    assert "exported is seed 7, the best on the validation data" in text
    assert "| seed 0 | 90.00% |" in text
    assert "| mean ± standard deviation | 91.00% ± 1.41% |" in text


def test_folds_need_no_test_data(make):
    folds = {"runs": {"fold 1": {"accuracy": 0.9}}, "mean": {"accuracy": 0.9}, "spread": {"accuracy": 0.0}}
    more = {"scores": {"accuracy": 0.9}, "margins": {}, "pictures": {}}
    text = make(metric="accuracy", folds=folds, **more, examples={"train": 9, "validation": 0, "test": 0})
    assert "| mean score of the folds | |" in text
    assert "| accuracy | 90.00% |" in text
    assert "nothing is left to measure it on" in text
    assert "Measured on the exported bundle" not in text


def test_what_else_there_is_to_tell(make):
    hardest = [{"input": "WIN <b>$9</b> | now", "expected": "spam", "found": "ham", "loss": 7.1234}]
    text = make(hardest=hardest, distillation="| teacher | student |\n", cut={"training": 1200, "test": 3})
    assert r"| WIN \<b\>\$9\</b\> \| now | spam | ham | 7.12 |" in text
    assert "\n| teacher | student |\n" in text
    assert "- Longer than the model takes, and cut: 1,200 in the training data, 3 in the test data." in text
    assert "\n\n\n" not in make()
