"""Files whose rows get labels, without a page."""

from __future__ import annotations

import csv
import io
import json

import pytest

from kzoo.apps.tables import read_lines, read_table
from kzoo.errors import KzooError


def labelled(name: str, content: bytes, *labels: str, **options: bool) -> bytes:
    return read_table(name, content, **options).write({"label": list(labels)})[0]


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        (
            "a.csv",
            b'id,text\r\n1,"A dog, a cat"\r\n\r\n2,B\r\n',
            b'id,text,label\r\n1,"A dog, a cat",x\r\n2,B,y\r\n',
        ),
        (
            "a.csv",
            b"\xef\xbb\xbfid;text\n1;\xc3\xa4, b\n2;c",
            b"\xef\xbb\xbfid;text;label\n1;\xc3\xa4, b;x\n2;c;y\n",
        ),
        ("a.csv", b'text\n"two\nlines"\n"a ""b"""\n', b'text,label\n"two\nlines",x\n"a ""b""",y\n'),
        ("a.tsv", b'text\tid\n"A dog\t1\nB\t2\n', b'text\tid\tlabel\n"A dog\t1\tx\nB\t2\ty\n'),
        ("a.TXT", b"A dog, a cat\nB\n", b'text,label\n"A dog, a cat",x\nB,y\n'),
        ("a.txt", b"one\tuno\ntwo\tdue\n", b"text_1,text_2,label\none,uno,x\ntwo,due,y\n"),
        ("a.txt", b"one\ttab\nno tab\n", b"text,label\none\ttab,x\nno tab,y\n"),
        (
            "a.jsonl",
            b'{"text": "A", "n": 1e3}\n\n{"text": "B", "big": 123456789012345678901234567890}\n',
            b'{"text": "A", "n": 1e3, "label": "x"}\n'
            b'{"text": "B", "big": 123456789012345678901234567890, "label": "y"}\n',
        ),
    ],
)
def test_a_file_comes_back_as_it_was_with_a_column_more(name, content, wanted):
    assert labelled(name, content, "x", "y") == wanted


def test_a_file_without_names_of_columns():
    table = read_table("a.csv", b"ham,See you\nspam,Win\n", named=False)
    assert table.columns == ["1: ham", "2: See you"]
    assert table.texts(1) == ["See you", "Win"]
    assert table.write({"label": ["ham", "spam"]})[0] == b"ham,See you,ham\nspam,Win,spam\n"


def test_a_new_column_takes_no_name_that_is_there():
    assert read_table("a.csv", b"Label,text\na,b\n").new_name("label") == "label_2"
    assert read_table("a.jsonl", b'{"text": "a", "score": 1, "score_2": 0}').new_name("score") == "score_3"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            b"id,text\n1,a\n2,b,c\n3\n",
            "a.csv, line 3 has 3 cells; line 1 has 2. 1 more lines differ",
        ),
        ("a.csv", b'id,text\n1,"a\nb"\n2\n', "a.csv, line 4 has 1 cell; line 1 has 2"),
        ("a.csv", b'id,text\n1,"a\n', "a.csv, line 2: not a row of a CSV file"),
        ("a.csv", b"text\n" + b"a" * 200_000, "a.csv, line 2: not a row of a CSV file: field larger"),
        ("a.csv", b"id,text\n1,a\n2,caf\xe9\n", "a.csv, line 3: byte 0xe9 is not UTF-8"),
        ("a.csv", "id,text\n1,a\n".encode("utf-16"), "a.csv, line 1: byte 0xff is not UTF-8"),
        ("a.tsv", b"id\ttext\n1\ta\tb\n", "a.tsv, line 2 has 3 cells; line 1 has 2"),
        ("a.csv", b"id,text\n", "a.csv has no rows below the one that names the columns"),
        ("a.csv", b" \n", "a.csv is empty"),
        ("a.csv", b"a\0b", "a.csv is not a text"),
        ("a.jsonl", b'{"text": "a"}\n{"text": ', "a.jsonl, line 2 is not JSON"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl, line 1 is not JSON"),
        ("a.jsonl", b'["a"]', "a.jsonl, line 1 is not a JSON object"),
        ("a.jsonl", b'{"text": 1}', "a.jsonl: none of its objects holds a text"),
        ("a.jsonl", b'{"text": "\\ud83d"}', "a.jsonl, line 1 has half of a surrogate pair"),
        ("a.xlsx", b"PK", "its name must end in .csv, .tsv, .txt or .jsonl"),
    ],
)
def test_a_bad_file_is_named_with_the_line(name, content, message):
    with pytest.raises(KzooError, match=message):
        read_table(name, content)


def test_a_row_without_the_text_is_named():
    table = read_table("a.jsonl", b'{"text": "a"}\n{"text": null}\n{"other": "b"}\n')
    with pytest.raises(KzooError, match=r"a\.jsonl, line 3: there is no text named 'text'"):
        table.texts(0)


def test_lines_are_read_with_blank_ones_among_them():
    assert read_lines("one\r\n\r\ntwo\n").texts(0) == ["one", "", "two"]
    pairs = read_lines("one\tuno\n\ntwo\tdue\tmore", parts=2)
    assert [pairs.texts(0), pairs.texts(1)] == [["one", "", "two"], ["uno", "", "due\tmore"]]
    for text, parts, message in (
        (" \n", 1, "There are no lines yet"),
        ("a\n\ud83d", 1, "line 2 has half of a surrogate pair"),
        ("a\tb\nc", 2, "line 2: this model reads 2 texts"),
    ):
        with pytest.raises(KzooError, match=message):
            read_lines(text, parts)


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "＝1"]  # noqa: RUF001
HARMLESS = ["-5", "+3.5e4", "a=b", "'=1", "", "1-2", "- 12%"[2:]]


def test_no_cell_of_a_written_file_is_a_formula():
    file = io.StringIO(newline="")
    csv.writer(file).writerows([["text"], *([text or "-"] for text in FORMULAS + HARMLESS)])
    table = read_table("a.csv", file.getvalue().encode())
    content, changed = table.write({"=label": ["=1+1", "fine", *["x"] * (len(table.rows) - 2)]})
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    assert rows[0] == ["text", "'=label"]
    assert [row[0] for row in rows[1:]] == ["'" + text for text in FORMULAS] + [
        text if text else "'-" for text in HARMLESS
    ]
    assert rows[1][1] == "'=1+1"
    assert changed == len(FORMULAS) + 3


def test_quotes_do_not_hide_a_formula_where_they_are_part_of_the_text():
    assert labelled("a.tsv", b'text\n"=1+1"\n', "x") == b'text\tlabel\n\'"=1+1"\tx\n'


def test_a_program_gets_its_json_as_it_was():
    content, changed = read_table("a.jsonl", b'{"text": "=1+1"}').write(
        {"label": [["=a", "b"]], "score": [[0.5, 1]]}
    )
    assert json.loads(content) == {"text": "=1+1", "label": ["=a", "b"], "score": [0.5, 1]}
    assert changed == 0
