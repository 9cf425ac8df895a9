"""`kzoo predict` from file to file: a line out for each line in, and nothing half written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests import bundles
from tests.cli.commands import assert_mistake, kzoo_command


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.write_translator(tmp_path_factory.mktemp("bundles") / "en-de")


@pytest.fixture(scope="module")
def topic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.write_text_classifier(tmp_path_factory.mktemp("bundles") / "topic")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("A dog runs.\nA cat sleeps.\n", "Ein Hund rennt.\nEin Kater schläft.\n"),
        ("A dog runs.\nA cat sleeps.", "Ein Hund rennt.\nEin Kater schläft."),
        ("A dog runs.\r\n\r\nA cat runs.\r\n", "Ein Hund rennt.\r\n\r\nEin Kater rennt.\r\n"),
        ("\n \t\n\nA dog runs.\n\n", "\n\n\nEin Hund rennt.\n\n"),
        ("\ufeffA dog runs.\n", "Ein Hund rennt.\n"),
        ("\n\n", "\n\n"),
        ("", ""),
    ],
    ids=["plain", "no-end", "crlf", "blank-lines", "mark", "only-blank-lines", "nothing"],
)
def test_a_line_out_for_each_line_in(translator: Path, tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "in").write_bytes(content.encode())
    result = kzoo_command(
        "predict", translator, "--file", tmp_path / "in", "--output", tmp_path / "new" / "out"
    )
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "new" / "out").read_bytes() == expected.encode()


def test_what_splits_lines_elsewhere_does_not_here(translator: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text(
        "A dog\u2028 runs.\x0b\x0c\x85\rA\nA cat runs.\n", encoding="utf-8", newline=""
    )
    result = kzoo_command("predict", translator, "--file", tmp_path / "in", "--output", tmp_path / "in")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "in").read_bytes().count(b"\n") == 2
    assert (tmp_path / "in").read_bytes().endswith(b"\nEin Kater rennt.\n")


def test_classes_and_json_in_files(topic: Path, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "in.gz", "wt", encoding="utf-8") as file:
        file.write("the market\n\nthe team\n")
    files = ("--file", tmp_path / "in.gz", "--output", tmp_path / "out")
    assert kzoo_command("predict", topic, *files).exit_code == 0
    first, blank, last = (tmp_path / "out").read_text().splitlines()
    assert (first.split("\t")[0], blank, last.split("\t")[0]) == ("Business", "", "Sports")
    assert kzoo_command("predict", topic, *files, "--json", "--top-k", 1).exit_code == 0
    rows = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [row and row[0]["label"] for row in rows] == ["Business", None, "Sports"]


def test_a_mistake_leaves_what_was_there(translator: Path, topic: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    (tmp_path / "in").write_bytes(b"A dog runs.\nA \xff runs.\n")
    files = ("--file", tmp_path / "in", "--output", tmp_path / "out")
    assert_mistake(kzoo_command("predict", translator, *files), "in, line 2", "0xff", "UTF-8")
    (tmp_path / "in").write_text("A dog runs.\n")
    assert_mistake(kzoo_command("predict", topic, *files, "--num-beams", 2), "--num-beams does not apply")
    assert_mistake(kzoo_command("predict", tmp_path, *files), "manifest.json")
    assert_mistake(kzoo_command("predict", translator, "A dog.", *files), "no other inputs")
    assert_mistake(kzoo_command("predict", translator, "--output", tmp_path / "out"), "give --file")
    assert_mistake(kzoo_command("predict", translator, "--file", tmp_path / "none", *files[2:]), "none")
    assert (tmp_path / "out").read_text() == "precious"
    (tmp_path / "folder").mkdir()
    assert_mistake(kzoo_command("predict", translator, *files[:3], tmp_path / "folder"), "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "in", "out"]
