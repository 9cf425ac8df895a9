"""`kzoo run`, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import bundles
from tests.cli.commands import assert_mistake, kzoo_command
from tests.optional import require_ray


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


def test_run_on_ray_says_what_is_wrong_at_once(tmp_path: Path) -> None:
    topic = bundles.write_text_classifier(tmp_path / "topic")
    (tmp_path / "a.txt").write_text("a bank\n", encoding="utf-8")
    given = ("run", topic, "--input", tmp_path / "a.txt", "--output", tmp_path / "out")
    nowhere = kzoo_command(*given, "--engine", "ray", "--address", "127.0.0.1:1")
    assert_mistake(nowhere, "No Ray cluster answers at '127.0.0.1:1'")
    assert_mistake(kzoo_command(*given, "--workers", 2), "--workers and --threads are for --engine ray")


@pytest.mark.slow
def test_run_on_ray(tmp_path: Path) -> None:
    require_ray()
    topic = bundles.write_text_classifier(tmp_path / "topic")
    (tmp_path / "a.txt").write_text("a bank\n\nthe goal\n", encoding="utf-8")
    flags = ("--engine", "ray", "--workers", "1", "--json")
    given = ("run", topic, "--input", tmp_path / "a.txt", "--output", tmp_path / "out", *flags)
    # In a process of its own, as Ray is there for as long as its process.
    command = [sys.executable, "-m", "kzoo", *map(str, given)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows_out"] == 3
    assert (tmp_path / "out" / "part-000000.jsonl").read_text(encoding="utf-8").count("\n") == 3
