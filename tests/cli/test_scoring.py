"""`kzoo evaluate` and `kzoo compare`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import bundles
from tests.cli.commands import assert_mistake, kzoo_command
from tests.optional import require
from tests.runtime import graphs

# Those words that one classifier knows and the other does not.
FEWER = {"Business": ("shares", "bank"), "Sports": ("match", "goal")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scored")


@pytest.fixture(scope="module")
def translator(folder: Path) -> Path:
    return bundles.write_translator(folder / "en-de")


@pytest.fixture(scope="module")
def topic(folder: Path) -> Path:
    return bundles.write_text_classifier(folder / "topic")


@pytest.fixture(scope="module")
def pairs(folder: Path) -> tuple[Path, Path]:
    (folder / "test.en").write_text("A dog runs.\nA cat sleeps.\nA cat runs.\n")
    (folder / "test.de").write_text(
        "Ein Hund rennt.\nEin Kater schläft.\nEin Hund schläft.\n", encoding="utf-8"
    )
    return folder / "test.en", folder / "test.de"


@pytest.fixture(scope="module")
def table(folder: Path) -> tuple[str | Path, ...]:
    rows = ["what,which"] + [
        f"the {word},{label}" for label, words in bundles.TOPICS.items() for word in words for _ in range(15)
    ]
    (folder / "test.csv").write_text("\n".join(rows) + "\n")
    return ("--table", folder / "test.csv", "--text", "what", "--label", "which")


def test_translations_are_scored(translator: Path, pairs: tuple[Path, Path]) -> None:
    require("sacremoses")
    result = kzoo_command("evaluate", translator, "--data", *pairs, "--num-beams", 2, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["name"], found["examples"], found["num_beams"]) == ("en-de", 3, 2)
    assert list(found["scores"]) == ["bleu", "chrf", "ter", "bleu_lowercased_tokenized"]
    # Two words of twelve are others' than those wanted.
    assert found["scores"]["ter"]["value"] == pytest.approx(100 * 2 / 9)
    assert "moses:lc.norm.tok.de" in found["scores"]["bleu_lowercased_tokenized"]["signature"]
    shown = kzoo_command("evaluate", translator, "--data", *pairs).stdout
    assert "3 examples" in shown
    assert "tok:13a" in shown


def test_a_language_is_said_or_seen_or_left_out(translator: Path, pairs: tuple[Path, Path]) -> None:
    require("sacremoses")
    source, target = pairs
    plain = target.with_name("reference.txt")
    plain.write_bytes(target.read_bytes())
    found = [
        json.loads(kzoo_command("evaluate", translator, "--data", source, plain, *said, "--json").stdout)[
            "scores"
        ]
        for said in ((), ("--language", "de"))
    ]
    assert [len(scores) for scores in found] == [3, 4]
    wrong = kzoo_command("evaluate", translator, "--data", *pairs, "--language", "german")
    assert_mistake(wrong, "no rules for the language 'german'")


def test_classes_are_scored(topic: Path, table: tuple[str | Path, ...], folder: Path) -> None:
    scores = json.loads(kzoo_command("evaluate", topic, *table, "--json").stdout)["scores"]
    assert (scores["accuracy"]["value"], scores["macro_f1"]["value"]) == (1.0, 1.0)
    shade = bundles.write_image_classifier(folder / "shade")
    for label, value in (("dark", 0), ("bright", 255)):
        (folder / "images" / label).mkdir(parents=True)
        Image.fromarray(np.full((8, 8), value, "uint8")).save(folder / "images" / label / "one.png")
    scores = json.loads(kzoo_command("evaluate", shade, "--images", folder / "images", "--json").stdout)[
        "scores"
    ]
    assert scores["accuracy"]["value"] == 1.0


def test_the_table_of_classes_is_shown(topic: Path, table: tuple[str | Path, ...]) -> None:
    require("sklearn")
    found = json.loads(kzoo_command("evaluate", topic, *table, "--json").stdout)
    assert found["classes"]["Sports"]["f1"] == 1.0
    assert found["confusion"] == {"Business": {"Business": 60}, "Sports": {"Sports": 60}}
    assert sum(each["count"] for each in found["calibration"]) == 120
    assert list(found["scores"]) == [
        "accuracy",
        "macro_f1",
        "micro_f1",
        "calibration_error",
        "roc_auc",
        "average_precision",
    ]
    shown = kzoo_command("evaluate", topic, *table).stdout
    assert re.search(r"^class +precision +recall +f1 +support +roc auc +average precision$", shown, re.M)
    assert re.search(r"^Sports +1\.000 +1\.000 +1\.000 +60 ", shown, re.M)
    assert re.search(r"^roc_auc +1$", shown, re.M)


def test_a_score_that_the_bundle_is_known_by_is_measured_too(
    table: tuple[str | Path, ...], folder: Path
) -> None:
    known = bundles.write_text_classifier(folder / "known")
    manifest = json.loads((known / "manifest.json").read_text())
    (known / "manifest.json").write_text(json.dumps({**manifest, "metrics": {"f1:Sports": 0.9}}))
    found = json.loads(kzoo_command("evaluate", known, *table, "--json").stdout)
    assert found["scores"]["f1:Sports"]["value"] == 1.0
    assert found["scores"]["f1:Sports"]["margin"] == 0.0


def test_columns_are_found_and_classes_named(topic: Path, folder: Path) -> None:
    rows = [f"{number},the {word}" for number in (1, 2) for word in list(bundles.TOPICS.values())[number - 1]]
    (folder / "numbered.csv").write_text("\n".join(["topic,news", *rows * 3]) + "\n")
    (folder / "classes.txt").write_text("Business\nSports\n")
    given = ("--table", folder / "numbered.csv", "--classes", folder / "classes.txt")
    result = kzoo_command("evaluate", topic, *given, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["scores"]["accuracy"]["value"] == 1.0
    assert "news" in result.stderr
    unknown = kzoo_command("evaluate", topic, *given[:2])
    assert unknown.exit_code == 1
    assert "label '1', which the model does not know" in " ".join(unknown.stderr.split())


def test_sets_of_labels_words_numbers_and_likenesses_are_scored(folder: Path) -> None:
    tables = {
        "multilabel": ("text,labels", [("the dog runs fast", '"animal,sport"'), ("shares fell", "business")]),
        "tokens": ("text,labels", [("the dog runs", "O B-animal I-animal"), ("on monday", "O B-time")]),
        "regression": ("text,labels", [(text, 0.1 * row) for row, text in enumerate(graphs.TEXTS)]),
        "embedding": (
            "one,other,score",
            [("the dog", "the cat,0.9"), ("shares", "a bird,0.1"), ("a", "the,0.5")],
        ),
    }
    options = {"embedding": ("--text", "one", "--text-pair", "other", "--label", "score")}
    leading = {
        "multilabel": "macro_f1",
        "tokens": "span_f1",
        "regression": "pearson",
        "embedding": "spearman",
    }
    for task, (head, rows) in tables.items():
        write = graphs.write_token_bundle if task == "tokens" else graphs.write_text_bundle
        bundle = write(folder / "tasks" / task, task)
        file = folder / f"{task}.csv"
        file.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n")
        columns = options.get(task, ("--text", "text", "--label", "labels"))
        result = kzoo_command("evaluate", bundle, "--table", file, *columns, "--json")
        assert result.exit_code == 0, result.stderr
        found = json.loads(result.stdout)
        assert leading[task] in found["scores"]
        if task == "tokens":
            assert found["scores"]["span_f1"]["value"] == 1.0
            assert found["classes"]["animal"]["support"] == 1
        assert ("classes" in found) == (task in ("multilabel", "tokens"))
        pairs = kzoo_command("compare", bundle, bundle, "--table", file, *columns, "--json")
        assert json.loads(pairs.stdout)["scores"][leading[task]]["p_value"] == 1.0
    tuned = json.loads(
        kzoo_command(
            "evaluate", bundle.parent / "multilabel", "--table", folder / "multilabel.csv", "--json"
        ).stdout
    )
    assert {row["threshold"] for row in tuned["classes"].values()} == {0.5}


def test_the_test_data_of_a_recipe(topic: Path, table: tuple[str | Path, ...], folder: Path) -> None:
    recipe = folder / "recipe.toml"
    recipe.write_text(
        'name = "topic"\n[data]\ntrain = "test.csv"\ntest_share = 0.5\ntext = "what"\nlabel = "which"\n'
        '[model]\npretrained = "package:not_installed"\n[training]\nepochs = 1\n'
    )
    result = kzoo_command("evaluate", topic, "--recipe", recipe, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["examples"], found["scores"]["accuracy"]["value"]) == (60, 1.0)
    both = kzoo_command("evaluate", topic, *table, "--recipe", recipe)
    assert_mistake(both, "give it --table FILE, or --recipe RECIPE")


def test_two_bundles_are_compared(topic: Path, table: tuple[str | Path, ...], folder: Path) -> None:
    worse = bundles.write_text_classifier(folder / "worse", words_of=FEWER)
    result = kzoo_command("compare", worse, topic, *table, "--json")
    assert result.exit_code == 0, result.stderr
    accuracy = json.loads(result.stdout)["scores"]["accuracy"]
    assert accuracy["first"]["value"] < 0.8
    assert accuracy["second"]["value"] == 1.0
    assert accuracy["p_value"] < 0.01
    shown = kzoo_command("compare", topic, topic, *table).stdout
    assert "+0" in shown
    assert "1.000" in shown


def test_two_translators_are_compared(translator: Path, pairs: tuple[Path, Path]) -> None:
    require("sacremoses")
    result = kzoo_command("compare", translator, translator, "--data", *pairs)
    assert result.exit_code == 0, result.stderr
    assert "bleu_lowercased_tokenized" in result.stdout


def test_mistakes(
    translator: Path, topic: Path, pairs: tuple[Path, Path], table: tuple[str | Path, ...], folder: Path
) -> None:
    source, _ = pairs
    short = folder / "short.de"
    short.write_text("Ein Hund.\n")
    assert_mistake(
        kzoo_command("evaluate", translator, "--data", source, short), "test.en has 3 lines", "short.de 1"
    )
    assert_mistake(kzoo_command("evaluate", translator), "give it --data SOURCE TARGET")
    assert_mistake(kzoo_command("evaluate", translator, *table), "give it --data SOURCE TARGET")
    assert_mistake(kzoo_command("evaluate", topic, *table, "--text-pair", "which"), "are different columns")
    assert_mistake(kzoo_command("evaluate", topic, "--recipe", folder / "no.toml"), "There is no recipe")
    assert_mistake(
        kzoo_command("evaluate", topic, *table, "--language", "de"), "--language is for translations"
    )
    assert_mistake(kzoo_command("evaluate", topic, *table, "--num-beams", 3), "--num-beams does not apply")
    assert_mistake(kzoo_command("evaluate", topic, *table[:5], "wich"), "Did you mean 'which'")
    assert_mistake(
        kzoo_command("compare", topic, translator, "--data", *pairs), "'classification'", "'seq2seq'"
    )
