"""`kzoo run`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

from tests import bundles
from tests.cli.commands import assert_mistake, kzoo_command


def test_run_over_files_of_a_pattern(tmp_path: Path) -> None:
    translator = bundles.write_translator(tmp_path / "en-de")
    for name, text in (("b", "A cat sleeps."), ("a", "A dog runs.")):
        (tmp_path / f"{name}.csv").write_text(f'id,english\n1,"{text}"\n2,\n', encoding="utf-8")
    out = tmp_path / "out"
    options = ("--output", out, "--text", "english", "--num-beams", 2)
    result = kzoo_command("run", translator, "--input", tmp_path / "*.csv", *options)
    assert result.exit_code == 0, result.stderr
    assert "rows in 4\nrows out 4\nwithout text 2\ntruncated 0\nparts 2\nparts kept 0\n" in result.stdout
    first, second = (
        json.loads((out / f"part-00000{part}.jsonl").read_bytes().split(b"\n")[0]) for part in (0, 1)
    )
    assert (first["translation"], second["translation"]) == ("Ein Hund rennt.", "Ein Kater schläft.")

    # A shell that fills in the pattern itself gives the first file to --input, and the others behind it.
    spread = ("--input", tmp_path / "a.csv", tmp_path / "b.csv")
    again = kzoo_command("run", translator, *spread, *options, "--json")
    assert json.loads(again.stdout)["parts_kept"] == 2

    assert_mistake(
        kzoo_command("run", translator, "--input", tmp_path / "*.tsv", *options), "No file matches"
    )
    assert_mistake(kzoo_command("run", translator, *spread), "Give --output")
    assert_mistake(kzoo_command("run", translator, *options), "There are no inputs")
