"""Bundles over whole files: every row in its place, and the same bytes however often the run was killed."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kzoo
from kzoo.bulk import Columns, run
from kzoo.errors import KzooError
from kzoo.runtime import Pipeline
from tests import bundles
from tests.optional import require

TEXTS = ["the market", "", "the team and the goal", " ", "a bank"]
FRAMEWORKS = ("keras", "tensorflow", "torch", "jax", "gradio")

KILLED = f"""
import os, signal, sys
from pathlib import Path
import kzoo
from kzoo.bulk import run

def progress(done, total):
    if done >= int(sys.argv[1]):
        print([name for name in {FRAMEWORKS} if name in sys.modules], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

bundle, output, *inputs = map(Path, sys.argv[2:])
run(kzoo.load(bundle, device="cpu"), inputs, output, part_rows=7, progress=progress)
"""


@pytest.fixture(scope="module")
def topic(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return kzoo.load(bundles.write_text_classifier(tmp_path_factory.mktemp("bulk") / "topic"), device="cpu")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tmp_path_factory.mktemp("bulk") / "similarity"
    return kzoo.load(bundles.write_encoder(folder, "similarity", "embedding"), device="cpu")


def write(folder: Path, name: str, texts: list[str], **others: list[Any]) -> Path:
    """Write texts, and further columns, as the kind of file that a name tells."""
    path = folder / name
    columns: dict[str, list[Any]] = {**others, "text": texts}
    rows = list(zip(*columns.values(), strict=True))
    if name.endswith(".jsonl"):
        lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
    elif ".txt" in name:
        lines = texts
    else:
        separator = "\t" if name.endswith(".tsv") else ","
        lines = [separator.join(columns), *(separator.join(map(str, row)) for row in rows)]
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def lines_of(output: Path) -> list[Any]:
    return [
        json.loads(line)
        for part in sorted(output.glob("part-*.jsonl"))
        for line in part.read_text(encoding="utf-8").splitlines()
    ]


def contents(folder: Path) -> dict[str, bytes | None]:
    return {path.name: path.read_bytes() if path.is_file() else None for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt", "a.csv.gz", "a.parquet"])
def test_a_line_for_each_row_of_any_kind_of_file(topic: Pipeline, tmp_path: Path, name: str) -> None:
    if name.endswith(".parquet"):
        pyarrow = require("pyarrow")
        table = pyarrow.table({"vector": [[1.0]] * 5, "text": [TEXTS[0], None, *TEXTS[2:]]})
        require("pyarrow.parquet").write_table(table, tmp_path / name)
    else:
        write(tmp_path, name, TEXTS, id=[1, 2, 3, 4, 5])
    totals = run(topic, [tmp_path / name], tmp_path / "out", part_rows=2)
    found = lines_of(tmp_path / "out")
    assert [row and row["label"] for row in found] == ["Business", None, "Sports", None, "Business"]
    assert [row for row in found if row] == topic([text for text in TEXTS if text.strip()])
    assert (totals.rows_in, totals.rows_out, totals.without_text, totals.parts) == (5, 5, 2, 3)


def test_vectors_and_what_rows_without_text_have(encoder: Pipeline, tmp_path: Path) -> None:
    texts = ["the dog", "", "the cat runs", " ", " "]
    totals = run(encoder, [write(tmp_path, "a.jsonl", texts)], tmp_path / "out", part_rows=3)
    first, second = (np.load(tmp_path / "out" / f"part-00000{part}.npy") for part in range(2))
    assert first.dtype == np.float32 and first.shape == (3, bundles.DIM)
    np.testing.assert_array_equal(first[[0, 2]], encoder(["the dog", "the cat runs"]))
    assert np.isnan(first[1]).all()
    assert second.shape == (2, bundles.DIM) and np.isnan(second).all()
    assert totals.without_text == 3


def test_texts_that_are_cut_are_counted(topic: Pipeline, tmp_path: Path) -> None:
    texts = ["bank " * 60, "the team", "goal " * 60]
    totals = run(topic, [write(tmp_path, "a.txt", texts)], tmp_path / "out", part_rows=2)
    assert totals.truncated == 2
    parts = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))["parts"]
    assert [part["truncated"] for part in parts.values()] == [1, 1]


def test_options_pairs_and_columns_without_names(topic: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("bank;the team;1\nthe goal;a match;2\n", encoding="utf-8")
    columns = Columns(text="1", text_pair="0", header=False, delimiter=";")
    run(topic, [tmp_path / "a.csv"], tmp_path / "out", columns=columns, options={"top_k": 2})
    assert lines_of(tmp_path / "out") == topic([("the team", "bank"), ("a match", "the goal")], top_k=2)


def test_a_run_that_was_killed_ends_with_the_same_bytes(topic: Pipeline, tmp_path: Path) -> None:
    words = ["bank", "team", "the goal", "", "a market " * 30]
    inputs = [
        write(tmp_path, "a.jsonl", [f"{words[row % 5]} {row}" for row in range(30)]),
        write(tmp_path, "b.txt", [words[row % 5] for row in range(24)]),
    ]
    undisturbed = run(topic, inputs, tmp_path / "whole", part_rows=7)
    for rows, parts in ((16, 2), (40, 6)):
        command = [sys.executable, "-c", KILLED, rows, topic._bundle.folder, tmp_path / "out", *inputs]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert done.stdout == "[]\n"
        assert len([*(tmp_path / "out").glob("part-*")]) == parts
        assert [*(tmp_path / "out").glob(".part-*")]
    resumed = run(topic, inputs, tmp_path / "out", part_rows=7)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert (undisturbed.parts_kept, resumed.parts_kept) == (0, 6)
    assert (resumed.rows_in, resumed.rows_out, resumed.parts) == (54, 54, 9)
    assert (resumed.without_text, resumed.truncated) == (undisturbed.without_text, undisturbed.truncated)


def test_a_part_that_was_changed_is_made_again(topic: Pipeline, tmp_path: Path) -> None:
    inputs = [write(tmp_path, "a.txt", TEXTS)]
    run(topic, inputs, tmp_path / "out", part_rows=2)
    whole = contents(tmp_path / "out")
    (tmp_path / "out" / "part-000001.jsonl").write_text("null\nnull\n", encoding="utf-8")
    (tmp_path / "out" / "part-000002.jsonl").unlink()
    with pytest.warns(UserWarning, match=r"part-00000[12]\.jsonl is missing or was changed"):
        totals = run(topic, inputs, tmp_path / "out", part_rows=2)
    assert totals.parts_kept == 1
    assert contents(tmp_path / "out") == whole


def test_another_run_in_the_same_folder_is_refused(
    topic: Pipeline, encoder: Pipeline, tmp_path: Path
) -> None:
    path, other = write(tmp_path, "a.txt", TEXTS), write(tmp_path, "b.txt", TEXTS)
    out = tmp_path / "out"
    run(topic, [path], out)
    whole = contents(out)
    for match, pipeline, inputs, options in (
        ("the bundle 'topic'", encoder, [path], {}),
        (r"the inputs a\.txt, and not b\.txt", topic, [other], {}),
        ("part_rows = 10000, and not 5", topic, [path], {"part_rows": 5}),
        ("top_k = null, and not 2", topic, [path], {"options": {"top_k": 2}}),
    ):
        with pytest.raises(KzooError, match=match):
            run(pipeline, inputs, out, **options)  # type: ignore[arg-type]
    path.write_text("the market\n", encoding="utf-8")
    with pytest.raises(KzooError, match=r"a\.txt as it was before it changed"):
        run(topic, [path], out)
    assert contents(out) == whole
    (out / "run.json").write_text('{"format_version": 1, "parts": 3}', encoding="utf-8")
    with pytest.raises(KzooError, match=r"run\.json is damaged"):
        run(topic, [path], out)
    with pytest.raises(KzooError, match="holds something else"):
        run(topic, [path], tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "columns", "match"),
    [
        ("a.csv", b"text\nbank\n\xff\n", Columns(), "line 3: byte 0xff"),
        ("a.csv", b"text,id\nbank,1\nteam\n", Columns(), "line 3 has 1 cells"),
        ("a.csv", b"texts,id\nbank,1\n", Columns(), "no row has a column 'text'.* Did you mean 'texts'"),
        ("a.csv", b"text;id\nbank;1\n", Columns(), 'delimiter = ";"'),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\\ud800"}\n', Columns(), "line 2 has half of a surrogate"),
        ("a.jsonl", b'{"text": "a"}\nnonsense\n', Columns(), "line 2 is not JSON"),
        ("a.tsv", b"a\tb\n", Columns("x", header=False), "'x' is none"),
        ("a.txt", b"bank\n", Columns("text"), "leave out --text"),
        ("a.txt", b" \n", Columns(), "is empty"),
        ("a.parquet", b"no", Columns(), "cannot be read as parquet|needs pyarrow"),
        ("a.docx", b"bank\n", Columns(), "must end in .csv, .tsv, .jsonl, .parquet or .txt"),
    ],
)
def test_what_cannot_be_read_is_told_before_anything_runs(
    topic: Pipeline, tmp_path: Path, name: str, content: bytes, columns: Columns, match: str
) -> None:
    good = write(tmp_path, "good.txt", TEXTS) if name != "a.txt" else tmp_path / name
    (tmp_path / name).write_bytes(content)
    inputs = [tmp_path / name] if columns.text else [good, tmp_path / name]
    with pytest.raises(KzooError, match=match):
        run(topic, inputs, tmp_path / "out", columns=columns)
    assert not (tmp_path / "out").exists()


def test_what_a_bundle_does_not_take_is_refused(topic: Pipeline, tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", TEXTS)
    shade = kzoo.load(bundles.write_image_classifier(tmp_path / "shade"), device="cpu")
    translator = kzoo.load(bundles.write_translator(tmp_path / "en-de"), device="cpu")
    with pytest.raises(KzooError, match="'shade' reads images"):
        run(shade, [path], tmp_path / "out")
    with pytest.raises(KzooError, match="'en-de' reads single texts"):
        run(translator, [path], tmp_path / "out", columns=Columns(text_pair="other"))
    with pytest.raises(KzooError, match="There is no file"):
        run(topic, [tmp_path / "none.csv"], tmp_path / "out")
    with pytest.raises(KzooError, match=r"a\.txt, from row 1 on: top_k is -1"):
        run(topic, [path], tmp_path / "out", options={"top_k": -1})
