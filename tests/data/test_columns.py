import json

import pytest

from kzoo import KzooError
from kzoo.data import Table, find_columns

TEXTS = ["the old dog sleeps here", "a small bird sings now", "rain falls on the hills", "no one saw the cat"]


@pytest.fixture
def table(tmp_path):
    def table(name, rows):
        path = tmp_path / name
        lines = [json.dumps(row) if isinstance(row, dict) else ",".join(map(str, row)) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return Table(path)

    return table


def rows(*columns):
    """Rows of forty examples, from what each column holds over and over."""
    return [[column[row % len(column)] for column in columns] for row in range(40)]


IDS = [f"m{row}" for row in range(40)]
LONG = [f"{text} {row}" for row, text in enumerate(TEXTS * 10)]
SHORT = [text[:4] + str(row) for row, text in enumerate(LONG)]


@pytest.mark.parametrize("header", [["Label", "Sentence"], ["class", "message"], ["Category", "Text"]])
def test_usual_names_in_the_header(table, header):
    found = find_columns(table("a.csv", [header, *rows(["x", "y"], LONG)]))
    assert (found.label, found.text, found.text_pair) == (header[0], [header[1]], [])


def test_other_names_and_what_the_columns_hold(table):
    found = find_columns(table("a.csv", [["mood", "key", "said"], *rows(["x", "y"], IDS, LONG)]))
    assert str(found) == "text in column 'said', label in column 'mood'"


def test_no_header(table):
    found = find_columns(table("a.csv", rows(LONG, ["x", "y"], IDS)))
    assert str(found) == "text in column 0, label in column 1 of a file without a header"
    assert find_columns(table("b.csv", rows([1, 0], LONG))).text == [1]


def test_only_what_is_not_said_is_found(table):
    several = table("a.csv", [["text", "body", "label"], *rows(LONG, SHORT, ["x", "y"])])
    assert find_columns(several, text=["body"]) == find_columns(several, text=["body"], label="label")
    with pytest.raises(KzooError, match=r"which column is the text .*'text', 'body' may each be it"):
        find_columns(several)
    kinds = table("b.csv", rows(LONG, ["x", "y"], ["u", "v", "w"]))
    assert find_columns(kinds, label=2).text == [0]


def test_columns_that_cannot_be_told_apart_are_named(table):
    with pytest.raises(KzooError, match=r"a\.csv: which column is the label .* columns 1, 2 may each be it"):
        find_columns(table("a.csv", rows(LONG, ["x", "y"], ["u", "v", "w"])))
    with pytest.raises(KzooError, match=r"which column is the text .* columns 1, 0 may each be it"):
        find_columns(table("b.csv", rows(LONG, [f"{text}!" for text in LONG], ["x", "y"])))
    with pytest.raises(KzooError, match=r"no column is clearly it; there are columns 'words', 'key'"):
        find_columns(table("c.csv", [["words", "key"], *rows(LONG, IDS)]))
    with pytest.raises(KzooError, match=r"label = 'class'"):
        find_columns(table("d.csv", [["class", "label", "text"], *rows(["x", "y"], ["u", "v"], LONG)]))


def test_few_classes_beside_many_values(table):
    many = [f"user{row % 20}" for row in range(40)]
    assert find_columns(table("a.csv", rows(LONG, many, ["x", "y"]))).label == 2


def test_a_column_of_one_value_is_no_label(table):
    assert find_columns(table("a.csv", rows(LONG, ["en"], ["x", "y"]))).label == 2


def test_pairs_and_their_scores(table):
    scores = [f"{row / 10}" for row in range(40)]
    bare = table("a.csv", rows(scores, LONG, [text.upper() for text in LONG]))
    found = find_columns(bare, task="similarity")
    assert (found.label, found.text, found.text_pair) == (0, [1], [2])
    named = table("b.csv", [["Sentence 1", "Sentence_2", "score"], *rows(LONG, SHORT, scores)])
    for task in ("similarity", "regression"):
        assert find_columns(named, task=task).text_pair == ["Sentence_2"]
    with pytest.raises(KzooError, match="which column is the text"):
        find_columns(table("c.csv", rows(LONG, scores)), task="similarity")


def test_words_and_tags_go_by_name(table):
    tagged = {"id": "1", "tokens": ["a", "dog"], "ner_tags": ["O", "O"]}
    found = find_columns(table("a.jsonl", [tagged]), task="tokens")
    assert (found.text, found.label) == (["tokens"], "ner_tags")
    with pytest.raises(KzooError, match="which column is the label"):
        find_columns(table("b.jsonl", [{"one": ["a"], "other": ["O"]}]), task="tokens")


def test_several_labels_count_one_by_one(table):
    joined = [f"{a}|{b}" for a in "uvwx" for b in "uvwxyz"]
    found = find_columns(table("a.csv", rows(LONG, joined, IDS)), task="multilabel", separator="|")
    assert (found.text, found.label) == ([0], 1)


def test_a_header_without_rows(table):
    with pytest.raises(KzooError, match=r"a\.csv: which column is the label"):
        find_columns(table("a.csv", [["one", "other"]]))
    assert find_columns(table("b.csv", [["label", "said"]])).text == ["said"]


def test_a_csv_with_another_delimiter_is_told(table):
    with pytest.raises(KzooError, match=r"separated by ';'.*delimiter = \";\""):
        find_columns(table("a.csv", [["text;label"], *rows([f"{text};x" for text in LONG])]))
