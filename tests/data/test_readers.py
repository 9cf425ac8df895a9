import gzip
import json
import sys

import pytest

from kzoo import KzooError
from kzoo.data import class_names, locate, read_pair_table, read_pairs, read_table
from kzoo.errors import MissingDependencyError
from tests.optional import require


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


def fails(path, *parts, **options):
    options = {"text": "text", "label": "label"} | options
    with pytest.raises(KzooError) as caught:
        read_table(path, **options)
    for part in (path.name, *parts):
        assert part in str(caught.value)


def test_csv_with_quotes_and_line_breaks(write):
    path = write("a.csv", 'text,label\n"one, two\nthree",x\nfour,y\n')
    examples = read_table(path, text="text", label="label")
    assert examples.inputs == ["one, two\nthree", "four"]
    assert examples.targets == ["x", "y"]


def test_tsv_takes_quotes_for_what_they_are(write):
    path = write("a.tsv.gz", 'x\tsay "so\ny\tfive \u2028 six\n')
    examples = read_table(path, text=1, label=0)
    assert examples.inputs == ['say "so', "five \u2028 six"]


def test_jsonl(write):
    path = write("a.jsonl", '{"text": "a", "label": 3}\n\n{"label": 1, "text": "b"}\n')
    examples = read_table(path, text="text", label="label")
    assert (examples.inputs, examples.targets) == (["a", "b"], ["3", "1"])


def test_several_columns_are_joined_and_labels_renamed(write):
    path = write("a.csv", "1,Title,Words\n2,Other,Things\n")
    examples = read_table(path, text=[1, 2], label=0, label_names={"1": "World", "2": "Sports"})
    assert examples.inputs == ["Title Words", "Other Things"]
    assert examples.targets == ["World", "Sports"]


def test_a_byte_order_mark_is_no_part_of_the_header(write):
    path = write("a.csv", "\ufefftext,label\r\na,x\r\n")
    assert read_table(path, text="text", label="label").inputs == ["a"]


def test_an_unknown_column_names_the_nearest(write):
    fails(write("a.csv", "text,label\na,x\n"), "'txt'", "Did you mean 'text'", text="txt")
    fails(write("a.jsonl", '{"text": "a", "label": "x"}\n{"text": "b", "labl": "x"}\n'), "line 2", "'labl'")
    fails(write("b.tsv", "a\tx\n"), "column 2", text=2, label=0)
    fails(write("c.jsonl", '{"text": null, "label": "x"}\n'), "line 1", "'text'")


def test_ragged_rows_name_the_line(write):
    fails(write("a.csv", 'text,label\n"a\nb",x\nc,y,z\n'), "line 4", "3 cells")
    fails(write("a.tsv", "text\tlabel\na\tx\nb\n"), "line 3", "1 cells")


@pytest.mark.parametrize("content", ["", "\n\n", "text,label\n"])
def test_an_empty_file(write, content):
    fails(write("a.csv", content))


def test_bytes_that_are_not_utf8_name_the_line(write):
    fails(write("a.csv", b"text,label\nfine,x\ncaf\xe9,y\n"), "line 3", "0xe9")


def test_damaged_files(write, tmp_path):
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"text,label\na,x\n" * 99)[:40])
    fails(tmp_path / "cut.csv.gz", "gzip")
    (tmp_path / "plain.csv.gz").write_bytes(b"text,label\na,x\n")
    fails(tmp_path / "plain.csv.gz", "gzip")
    fails(write("a.csv", 'text,label\na,x\n"b,y\nc,z\n'), "line 3")
    fails(write("a.jsonl", '{"text": "a", "label": "x"}\n{"text": \n'), "line 2", "not JSON")
    fails(write("b.jsonl", '["a", "x"]\n'), "line 1", "not a JSON object")


def test_labels_that_are_not_known(write):
    path = write("a.csv", "text,label\na,x\nb,bisness\n")
    fails(path, "line 3", "training data", "Did you mean 'business'", known_labels=["x", "business"])
    fails(path, "line 3", "label_names", label_names={"x": "X"})
    fails(write("b.csv", "text,label\na,\n"), "line 2", "empty")


def test_contradictions(write):
    fails(write("a.dat", "a\tx\n"), "csv, tsv, jsonl or parquet")
    with pytest.raises(KzooError, match="mix names and numbers"):
        read_table(write("a.csv", "text,label\na,x\n"), text=0, label="label")
    fails(write("b.csv", "text,text,label\na,b,x\n"), "twice")


def test_pairs(write):
    source, target = write("a.en", "A dog.\nA cat.\n"), write("a.de.gz", "Ein Hund.\nEine Katze.")
    pairs = read_pairs(source, target)
    assert list(zip(pairs.inputs, pairs.targets, strict=True))[1] == ("A cat.", "Eine Katze.")
    with pytest.raises(KzooError, match=r"b\.de 1"):
        read_pairs(source, write("b.de", "Ein Hund.\n"))
    with pytest.raises(KzooError, match=r"c\.de, line 2 is empty"):
        read_pairs(source, write("c.de", "Ein Hund.\n\n"))


def test_the_samples_ship_with_the_package():
    examples = read_table(locate("samples/topics.csv"), text="text", label="topic")
    assert class_names(examples.targets) == ["cooking", "sport", "weather"]
    assert len(examples) == 45


def test_places_are_tried_in_order(tmp_path, monkeypatch):
    beside, shared = tmp_path / "recipe", tmp_path / "shared"
    for folder in (beside, shared, shared / "set"):
        folder.mkdir()
    monkeypatch.setenv("KZOO_DATA", str(shared))
    (shared / "set" / "a.csv").touch()
    assert locate("set/a.csv", beside) == shared / "set" / "a.csv"
    (shared / "b.csv").touch()
    (beside / "b.csv").touch()
    assert locate("b.csv", beside) == beside / "b.csv"
    assert locate(str(beside / "b.csv")) == beside / "b.csv"


def test_a_missing_file_says_where_it_goes(tmp_path, monkeypatch):
    monkeypatch.setenv("KZOO_DATA", str(tmp_path))
    with pytest.raises(KzooError, match=r"a\.csv' is missing\. Put it at .*set.a\.csv"):
        locate("set/a.csv")
    monkeypatch.delenv("KZOO_DATA")
    with pytest.raises(KzooError, match="set KZOO_DATA"):
        locate("set/a.csv")
    with pytest.raises(KzooError, match="There is no data"):
        locate(tmp_path / "a.csv")


def test_shared_data_is_not_left_through_its_parent(tmp_path, monkeypatch):
    (tmp_path / "shared").mkdir()
    (tmp_path / "secret.csv").touch()
    monkeypatch.setenv("KZOO_DATA", str(tmp_path / "shared"))
    with pytest.raises(KzooError):
        locate("../secret.csv")
    assert locate("../secret.csv", tmp_path / "shared").samefile(tmp_path / "secret.csv")


def test_pairs_from_tables(write):
    rows = [("A dog.", "Ein Hund."), ("A cat.", "Eine Katze.")]
    tsv = write("a.tsv", "en\tde\r\n" + "\r\n".join(map("\t".join, rows)))
    jsonl = write("a.jsonl", "\n".join(json.dumps({"en": en, "de": de, "id": 1}) for en, de in rows))
    bare = write("b.tsv", "\n".join(map("\t".join, rows)) + "\n")
    for pairs in (
        read_pair_table(tsv, source="en", target="de"),
        read_pair_table(jsonl, source="en", target="de"),
        read_pair_table(bare, source=0, target=1),
    ):
        assert list(zip(pairs.inputs, pairs.targets, strict=True)) == rows
    with pytest.raises(KzooError, match=r"a\.tsv, line 2: there is no column 'fr'"):
        read_pair_table(tsv, source="en", target="fr")
    gap = write("c.tsv", "en\tde\nA dog.\t\n")
    with pytest.raises(KzooError, match=r"c\.tsv, line 2: column 'de' is empty"):
        read_pair_table(gap, source="en", target="de")
    assert read_pair_table(gap, source="en", target="de", allow_empty=True).targets == [""]


def test_pairs_whatever_their_lines_end_with(write):
    source = write("d.en", "A dog.\r\nA line\u2028in it.\r\n")
    pairs = read_pairs(source, write("d.de", "Ein Hund.\nEine Zeile."))
    assert list(pairs.inputs) == ["A dog.", "A line\u2028in it."]
    assert pairs.targets == ["Ein Hund.", "Eine Zeile."]
    with pytest.raises(KzooError, match=r"d\.en has 2 lines and .*e\.de 1: line by line"):
        read_pairs(source, write("e.de", "Ein Hund."))


def test_pairs_that_are_no_utf8(write, tmp_path):
    (tmp_path / "f.de").write_bytes(b"Ein Hund.\nEine K\xe4tze.\n")
    with pytest.raises(KzooError, match=r"f\.de, line 2: byte 0xe4 is not UTF-8"):
        read_pairs(write("f.en", "A dog.\nA cat.\n"), tmp_path / "f.de")


def test_several_labels_as_lists_or_separated(write):
    csv = write("a.csv", 'text,label\na,"joy, fear,joy"\nb,\nc,"[""fear""]"\n')
    examples = read_table(csv, text="text", label="label", task="multilabel")
    assert examples.targets == [["joy", "fear"], [], ["fear"]]
    bars = write("a.tsv", "a\t0|2\nb\t1\n")
    names = {"0": "joy", "1": "fear", "2": "anger"}
    examples = read_table(bars, text=0, label=1, task="multilabel", separator="|", label_names=names)
    assert examples.targets == [["joy", "anger"], ["fear"]]
    lists = write("a.jsonl", '{"text": "a", "label": ["joy", 3]}\n')
    assert read_table(lists, text="text", label="label", task="multilabel").targets == [["joy", "3"]]
    fails(csv, "line 2", "'joy'", "training data", task="multilabel", known_labels=["fear"])
    fails(write("b.csv", "text,label\na,['joy']\n"), "line 2", "no JSON list", task="multilabel")


def test_a_tag_for_each_word(write):
    jsonl = '{"text": ["EU", "rejects", "it"], "label": ["B-ORG", "O", "O"]}\n'
    for path in (
        write("a.jsonl", jsonl),
        write("a.csv", "text,label\nEU rejects  it,B-ORG O O\n"),
        write("b.csv", 'text,label\n"[""EU"", ""rejects"", ""it""]",B-ORG O O\n'),
    ):
        examples = read_table(path, text="text", label="label", task="tokens")
        assert (examples.inputs, examples.targets) == (["EU rejects it"], [["B-ORG", "O", "O"]])
    fails(write("c.csv", "text,label\na b,O\n"), "line 2", "2 words and 1 labels", task="tokens")
    fails(write("c.jsonl", '{"text": ["a b"], "label": ["O"]}\n'), "has a blank in it", task="tokens")
    fails(write("d.csv", "text,label\n\"['a', 'b']\",O O\n"), "no JSON list", task="tokens")
    assert read_table(write("e.csv", "text,label\n[ 1 ],O O O\n"), text="text", label="label", task="tokens")


def test_numbers_on_a_scale(write):
    path = write("a.csv", "one,other,score\na,b,0\nc,d,3.5\n")
    options = {"text": "one", "text_pair": "other", "label": "score", "task": "similarity"}
    examples = read_table(path, **options, scale=[0, 5])
    assert (examples.inputs, examples.targets) == ([("a", "b"), ("c", "d")], [0.0, 0.7])
    assert read_table(path, text="one", label="score", task="regression").targets == [0.0, 3.5]
    fails(path, "line 3", "3.5 is not from 0 to 1", "data.scale", **options)
    fails(path, "line 3", "3.5 is not from 0 to 3.", scale=[0, 3], **options)


@pytest.mark.parametrize("cell", ["nan", "inf", '"3,5"', "three", ""])
def test_what_is_no_number(write, cell):
    fails(write("a.csv", f"text,label\na,1\nb,{cell}\n"), "line 3", "is no number", task="regression")


def test_empty_texts_name_the_line(write):
    path = write("a.csv", "text,label\na,x\n  ,x\n")
    fails(path, "line 3", "the text is empty")
    assert read_table(path, text="text", label="label", allow_empty=True).inputs == ["a", "  "]


def test_quotes_where_the_recipe_says_so(write):
    content = '"say ""so"""\tx\n'
    assert read_table(write("a.tsv", content), text=0, label=1, quoting=True).inputs == ['say "so"']
    assert read_table(write("a.tsv", content), text=0, label=1).inputs == ['"say ""so"""']
    bare = write("a.csv", '5" nails,x\n')
    assert read_table(bare, text=0, label=1, quoting=False).inputs == ['5" nails']


def test_other_delimiters(write):
    path = write("a.csv", 'text;label\n"one; two";x\nthree, four;y\n')
    examples = read_table(path, text="text", label="label", delimiter=";")
    assert (examples.inputs, examples.targets) == (["one; two", "three, four"], ["x", "y"])
    fails(write("c.csv", "text;label\nthree, four;y\n"), "line 2 has 2 cells", 'delimiter = ";"')
    fails(write("b.csv", "text|label\na|x\n"), "no column 'text'", 'delimiter = "|"')


def test_other_encodings(write):
    path = write("a.csv", "text,label\ncaf\u00e9,x\n".encode("cp1252"))
    fails(path, "line 2", 'data.encoding = "cp1252"')
    assert read_table(path, text="text", label="label", encoding="cp1252").inputs == ["caf\u00e9"]
    wide = write("b.csv", "text,label\ncaf\u00e9,x\n".encode("utf-16"))
    fails(wide, "line 1", 'data.encoding = "utf-16"')
    assert read_table(wide, text="text", label="label", encoding="utf-16").inputs == ["caf\u00e9"]
    fails(path, "no encoding 'latin-99'", encoding="latin-99")
    fails(path, "no encoding 'rot13'", encoding="rot13")


def test_parquet(tmp_path):
    pyarrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    rows = {"text": ["a", "b", None], "tags": [["x"], ["x", "y"], []], "label": [1, 0, 1]}
    parquet.write_table(pyarrow.table(rows), path)
    fails(path, "row 3", "no column 'text' that has a value")
    fails(path, "row 1", "'txt'", "Did you mean 'text'", text="txt")
    fails(path, "have names, not numbers", text=0, label=1)
    parquet.write_table(pyarrow.table(rows).slice(0, 2), path)
    assert read_table(path, text="text", label="label").targets == ["1", "0"]
    several = read_table(path, text="text", label="tags", task="multilabel")
    assert (several.inputs, several.targets) == (["a", "b"], [["x"], ["x", "y"]])
    path.write_bytes(path.read_bytes()[:-9])
    fails(path, "cannot be read as parquet")
    fails(tmp_path / "b.parquet", "cannot be read as parquet")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"pyarrow: pip install 'kzoo\[parquet\]'"):
        read_table(tmp_path / "a.parquet", text="text", label="label")
