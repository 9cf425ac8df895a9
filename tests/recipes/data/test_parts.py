"""What a recipe's data comes to: tables of all kinds, found columns, and the real data sets."""

import hashlib
import os
from pathlib import Path

import pytest

from kzoo import KzooError
from kzoo.recipes import load_recipe
from kzoo.recipes.data.parts import load_parts
from tests.optional import require

RECIPE = 'name = "mine"\n[data]\n{}\n[model]\nname = "bert_tiny"\n[training]\nepochs = 1\n'
ROWS = [(f"text number {row}", "ham" if row % 3 else "spam") for row in range(60)]


@pytest.fixture(autouse=True)
def _sklearn():
    require("sklearn")


@pytest.fixture
def load(tmp_path):
    def load(data, **files):
        for name, rows in files.items():
            content = rows if isinstance(rows, str) else "".join(f"{','.join(row)}\n" for row in rows)
            (tmp_path / name.replace("_", ".")).write_text(content, encoding="utf-8")
        (tmp_path / "recipe.toml").write_text(RECIPE.format(data), encoding="utf-8")
        return load_parts(load_recipe(tmp_path / "recipe.toml"), tmp_path)

    return load


def test_a_file_of_texts_and_labels_needs_no_more_said(load):
    parts = load(
        'train = "a.csv"\ntest_share = 0.2\nvalidation_share = 0.25', a_csv=[("said", "kind"), *ROWS]
    )
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (36, 12, 12)
    assert parts.labels == ["ham", "spam"]
    assert parts.notes == [
        "a.csv: text in column 'said', label in column 'kind'.",
        "Classes, and how often they are in the training data: 0 ham (24), 1 spam (12).",
    ]


def test_duplicates_and_a_test_by_hash(load):
    rows = [*ROWS, ROWS[0], (ROWS[1][0], "spam"), (" ", "ham")]
    data = 'train = "a.csv"\ntext = 0\nlabel = 1\ndrop_duplicates = true\ntest_hash_below = 51'
    parts = load(data, a_csv=rows)
    held = [text for text, _ in ROWS if hashlib.sha256(text.encode()).digest()[0] < 51]
    assert parts.test.inputs == held
    assert sorted([*parts.train.inputs, *held]) == sorted(text for text, _ in ROWS)
    assert parts.notes[0] == "a.csv: 1 rows without a text were dropped: 63."
    assert "62 examples read, 60 kept; dropped: 2 there before; 1 times the same" in parts.notes[1]


def test_nothing_of_the_test_is_learnt_where_duplicates_go(load):
    data = 'train = "a.csv"\ntest = "b.csv"\ntext = 0\nlabel = 1\n'
    files = {"a_csv": ROWS, "b_csv": ROWS[:5]}
    assert len(load(data, **files).train) == 60
    parts = load(data + "drop_duplicates = true", **files)
    assert (len(parts.train), parts.test.inputs) == (55, [text for text, _ in ROWS[:5]])


def test_classes_by_number(load):
    rows = [(f"text {row}", str(1 + row % 3)) for row in range(30)]
    data = 'train = "a.csv"\ntest_share = 0.2\ntext = 0\nlabel = 1\nclasses = "names.txt"'
    parts = load(data, a_csv=rows, names_txt="zebra\ncat\nape\n")
    assert parts.labels == ["zebra", "cat", "ape"]
    assert set(parts.train.targets) == {"zebra", "cat", "ape"}
    assert parts.checksums.keys() == {"a.csv", "names.txt"}
    more = load(data, a_csv=[*rows, ("text", "0")] * 2, names_txt="none\nzebra\ncat\nape\nfish\n")
    assert more.labels == ["none", "zebra", "cat", "ape"]
    assert more.notes[-1] == "Named, but nowhere in the data, and left out: fish."
    with pytest.raises(KzooError, match=r"a\.csv, line 2: the label '2' is not in label_names or classes"):
        load(data, a_csv=rows, names_txt="zebra\n")
    with pytest.raises(KzooError, match=r"names\.txt names the class 'cat' twice"):
        load(data, a_csv=rows, names_txt="cat\nape\ncat\n")


def test_several_labels_of_a_text(load):
    rows = [(f"text {row}", "0|1" if row % 2 else ("2" if row % 4 else "")) for row in range(40)]
    data = 'task = "multilabel"\ntrain = "a.csv"\ntest_share = 0.2\nclasses = "names.txt"\nseparator = "|"'
    parts = load(data, a_csv=[("text", "labels"), *rows], names_txt="joy\nfear\nanger\n")
    assert parts.labels == ["joy", "fear", "anger"]
    assert {tuple(target) for target in parts.train.targets} == {("joy", "fear"), ("anger",), ()}
    bad = [*rows, ("text", "0|3")]
    with pytest.raises(KzooError, match=r"b\.csv, line 42: the label '3' is not in label_names or classes"):
        load(data.replace("test_share = 0.2", 'test = "b.csv"'), b_csv=[("text", "labels"), *bad])
    data = 'task = "multilabel"\ntrain = "a.csv"\ntest = "b.csv"\nseparator = "|"'
    with pytest.raises(KzooError, match=r"b\.csv, line 42: the label '3' does not occur in the training"):
        load(data)


def test_numbers_have_no_classes(load):
    rows = [(f"text {row}", f"other {row}", str(row / 10)) for row in range(50)]
    columns = "text = 0\ntext_pair = 1\nlabel = 2\nscale = [0.0, 5.0]"
    parts = load(f'task = "similarity"\ntrain = "a.csv"\ntest_share = 0.2\n{columns}', a_csv=rows)
    assert parts.labels is None
    assert parts.notes == []
    assert parts.train.inputs[0] == tuple(
        text.format(parts.train.inputs[0][0][5:]) for text in ("text {}", "other {}")
    )
    assert 0 <= min(parts.train.targets) < max(parts.train.targets) < 1


@pytest.mark.parametrize(
    ("task", "label"),
    [("classification", "x"), ("multilabel", "x|y"), ("tokens", "O O"), ("regression", "3")],
)
def test_a_single_class_is_refused(load, task, label):
    data = f'task = "{task}"\ntrain = "a.csv"\ntest_share = 0.5\ntext = 0\nlabel = 1'
    rows = [(f"text {row}", label) for row in range(8)]
    with pytest.raises(KzooError, match="All 4 training examples have the same label"):
        load(data + ('\nseparator = "|"' if task == "multilabel" else ""), a_csv=rows)


def test_thousands_of_classes_are_remarked(load):
    rows = [(f"text {row}", f"id{row % 50}") for row in range(200)]
    parts = load('train = "a.csv"\ntest = "a.csv"\ntext = 0\nlabel = 1', a_csv=rows)
    assert "0 id0 (4), 1 id1 (4)," in parts.notes[0]
    assert "and 40 more" in parts.notes[0]
    assert parts.notes[1].startswith("50 classes for 200 examples: is this the column of labels")


def test_a_class_that_is_only_in_the_test_is_remarked(load):
    held = next(text for text, _ in ROWS if hashlib.sha256(text.encode()).digest()[0] < 51)
    rows = [(text, "rare" if text == held else label) for text, label in ROWS]
    parts = load('train = "a.csv"\ntext = 0\nlabel = 1\ntest_hash_below = 51', a_csv=rows)
    assert parts.labels == ["ham", "rare", "spam"]
    assert parts.notes[-1] == "Only in what was set aside, so that no model can learn them: rare."


def test_a_test_with_an_empty_text_is_refused(load):
    with pytest.raises(KzooError, match=r"b\.csv, line 1: the text is empty"):
        load('train = "a.csv"\ntest = "b.csv"\ntext = 0\nlabel = 1', a_csv=ROWS, b_csv=[(" ", "ham")])
    with pytest.raises(KzooError, match="no training examples"):
        load('train = "b.csv"\ntest = "c.csv"\ntext = 0\nlabel = 1', c_csv=[("text", "ham")])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("label_names = {a = 'b'}\nclasses = 'c.txt'", "label_names and classes exclude each other"),
        (
            "task = 'regression'\nclasses = 'c.txt'",
            "classes is for classes; the labels of the task regression",
        ),
        ("scale = [0.0, 5.0]", "scale is for the tasks regression and similarity"),
        ("task = 'regression'\nscale = [5.0, 0.0]", "the lowest number comes first"),
        ("separator = '|'", "separator is for the task multilabel"),
        ("task = 'similarity'", "compares two texts: set text_pair"),
        ("task = 'tokens'\ntext_pair = 'b'", "text_pair: the task tokens is for single texts"),
        ("text_pair = 'label'", "text, text_pair and label are different columns"),
        ("test_hash_below = 51\ntest_share = 0.1", "test_share and test_hash_below exclude each other"),
        ("test_hash_below = 256", "data.test_hash_below: Input should be less than 256"),
        ("test_text = 'b'", "test_text is for a test file"),
        ("format = 'tsv'\ndelimiter = ';'", "delimiter is for csv; the training file is tsv"),
        ("format = 'jsonl'\nquoting = true", "quoting is for csv and tsv; the training file is jsonl"),
        ("format = 'parquet'\nencoding = 'cp1252'", "the training file is parquet"),
        ("encoding = 'latin-99'", "Python knows no 'latin-99'"),
        ("task = 'token'", "data.task: Input should be 'classification', 'multilabel', 'tokens'"),
    ],
)
def test_what_contradicts(load, more, message):
    with pytest.raises(KzooError) as caught:
        load(f"train = 'a.csv'\ntext = 'text'\nlabel = 'label'\n{more}")
    assert message in str(caught.value)
    assert str(caught.value).count("\n") == 1


SETS = {
    "sst2": (
        'train = "sst2/train.tsv.gz"\nvalidation = "sst2/dev.tsv.gz"\ntest = "sst2/test.tsv.gz"\n'
        'label_names = {"0" = "negative", "1" = "positive"}',
        (6920, 872, 1821),
        ["negative", "positive"],
    ),
    "ag_news": (
        'train = "ag_news/train_subset.csv.gz"\ntest = "ag_news/test.csv.gz"\ntest_text = [1, 2]\n'
        'classes = "ag_news/classes.txt"',
        (12446, 0, 7600),
        ["World", "Sports", "Business", "Sci/Tech"],
    ),
    "sms_spam": (
        'train = "sms_spam/SMSSpamCollection.gz"\nformat = "tsv"\ndrop_duplicates = true\ntest_hash_below = 51',
        (4132, 0, 1039),
        ["ham", "spam"],
    ),
    "goemotions": (
        'task = "multilabel"\ntrain = "goemotions/train.tsv.gz"\nvalidation = "goemotions/dev.tsv.gz"\n'
        'test = "goemotions/test.tsv.gz"\nclasses = "goemotions/labels.txt"',
        (43410, 5426, 5427),
        28,
    ),
    "stsb": (
        'task = "similarity"\ntrain = "stsb/stsb-en-train.csv.gz"\ntest = "stsb/stsb-en-dev.csv.gz"\n'
        "scale = [0.0, 5.0]",
        (5749, 0, 1500),
        None,
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_real_data_by_fields_alone(load, name):
    home = os.environ.get("KZOO_DATA")
    if not home or not (Path(home) / name).is_dir():
        pytest.skip(f"needs {name} in $KZOO_DATA")
    data, sizes, labels = SETS[name]
    parts = load(data)
    assert (len(parts.train), len(parts.validation or ()), len(parts.test)) == sizes
    assert (len(parts.labels) if isinstance(labels, int) else parts.labels) == labels
    # The columns are found too.
    assert any("of a file without a header" in note for note in parts.notes)


def test_images_of_one_class_are_refused(tmp_path):
    for place in range(4):
        image = tmp_path / "pets" / "cat" / f"{place}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(b"read when it is learnt from")
    data = 'format = "folders"\ntrain = "pets"\ntest = "pets"'
    (tmp_path / "recipe.toml").write_text(RECIPE.format(data), encoding="utf-8")
    with pytest.raises(KzooError, match=r"All 4 training examples have the same label, 'cat'.*apart\.$"):
        load_parts(load_recipe(tmp_path / "recipe.toml"), tmp_path)
