"""Runs on Ray: the bytes of the local engine, whatever is killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kzoo
from kzoo.bulk import LocalEngine, RayEngine, run, running
from kzoo.bulk.engines import Worker
from kzoo.cluster import ray_cluster
from kzoo.errors import BundleError, KzooError
from tests import bundles
from tests.apps.conftest import wait_until
from tests.bulk.test_running import contents, write
from tests.optional import require_ray

WORDS = ["bank", "team", "the goal", "", "a market " * 30]

KILLED = """
import os, signal, sys
from pathlib import Path
import kzoo
from kzoo.bulk import RayEngine, run, running

def progress(done, total):
    if done >= 20:
        os.kill(os.getpid(), signal.SIGKILL)

running._TOGETHER = 3
bundle, output, *inputs = map(Path, sys.argv[1:])
engine = RayEngine(workers=1)
run(kzoo.load(bundle, device="cpu"), inputs, output, part_rows=7, engine=engine, progress=progress)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One for all tests here: it takes a while to start."""
    require_ray()
    with ray_cluster(cpus=2):
        yield


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    return [
        write(tmp_path, "a.jsonl", [f"{WORDS[row % 5]} {row}" for row in range(30)]),
        write(tmp_path, "b.txt", [WORDS[row % 5] for row in range(24)]),
    ]


@pytest.fixture(scope="module")
def topic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.write_text_classifier(tmp_path_factory.mktemp("bulk") / "topic")


def processes(title: str) -> set[int]:
    """Return the processes that descend from this one and bear a title, as Ray's do."""
    found, parents = set(), {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if (path / "cmdline").read_bytes().startswith(title.encode()):
                found.add(int(path.name))
        except OSError:  # gone by now
            continue
    return {each for each in found if os.getpid() in _ancestors(each, parents)}


def _ancestors(process: int, parents: dict[int, int]) -> Iterator[int]:
    while process in parents:
        process = parents[process]
        yield process


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "embedding"])
def test_both_engines_write_the_same_bytes(
    cluster: None,
    topic: Path,
    inputs: list[Path],
    tmp_path: Path,
    task: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running, "_TOGETHER", 3)
    folder = topic if task == "classification" else bundles.write_encoder(tmp_path / "similarity", "s", task)
    pipeline = kzoo.load(folder, device="cpu")
    told: dict[str, list[tuple[int, int]]] = {"local": [], "ray": []}
    for name, engine in (("local", LocalEngine()), ("ray", RayEngine(workers=2))):

        def progress(done: int, total: int, name: str = name) -> None:
            told[name].append((done, total))

        totals = run(pipeline, inputs, tmp_path / name, part_rows=7, engine=engine, progress=progress)
        assert (totals.rows_in, totals.rows_out, totals.parts) == (54, 54, 9)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert told["ray"] == told["local"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes where Linux shows them")
def test_workers_that_are_killed_are_replaced(
    cluster: None, topic: Path, inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_TOGETHER", 2)
    pipeline = kzoo.load(topic, device="cpu")
    run(pipeline, inputs, tmp_path / "whole", part_rows=7)
    killed: list[set[int]] = []

    def progress(done: int, total: int) -> None:
        if (done >= 2 and not killed) or (done >= 30 and len(killed) == 1):
            wait_until(lambda: len(processes("ray::Worker")) == 2)
            killed.append(processes("ray::Worker"))
            for process in killed[-1]:
                os.kill(process, signal.SIGKILL)

    totals = run(
        pipeline, inputs, tmp_path / "out", part_rows=7, engine=RayEngine(workers=2), progress=progress
    )
    assert [len(each) for each in killed] == [2, 2] and not killed[0] & killed[1]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert (totals.rows_in, totals.rows_out) == (54, 54)


@pytest.mark.slow
def test_what_one_engine_began_the_other_ends(
    cluster: None, topic: Path, inputs: list[Path], tmp_path: Path
) -> None:
    pipeline = kzoo.load(topic, device="cpu")
    run(pipeline, inputs, tmp_path / "whole", part_rows=7)
    command = [sys.executable, "-c", KILLED, topic, tmp_path / "out", *inputs]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name for path in sorted((tmp_path / "out").glob("part-*"))] == [
        "part-000000.jsonl",
        "part-000001.jsonl",
    ]
    for engine, kept in ((LocalEngine(), 2), (RayEngine(workers=1), 9)):
        totals = run(pipeline, inputs, tmp_path / "out", part_rows=7, engine=engine)
        assert (totals.parts, totals.parts_kept) == (9, kept)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_mistakes_are_told_as_the_local_engine_tells_them(
    cluster: None, topic: Path, inputs: list[Path], tmp_path: Path
) -> None:
    pipeline = kzoo.load(topic, device="cpu")
    for engine in (LocalEngine(), RayEngine(workers=1)):
        with pytest.raises(KzooError, match=r"a\.jsonl, from row 1 on: top_k is -1") as caught:
            run(pipeline, inputs, tmp_path / "out", options={"top_k": -1}, engine=engine)
        assert "\n" not in str(caught.value)
    with pytest.raises(KzooError, match="no room for a worker, which takes 64 CPU"):
        run(pipeline, inputs, tmp_path / "out", options={"top_k": -1}, engine=RayEngine(threads=64))


def test_a_worker_trusts_no_other_bundle(topic: Path) -> None:
    found = Worker(str(topic), "0" * 64, "cpu", 1, {}).answer(["bank"])
    assert isinstance(found.error, BundleError) and "is another bundle" in str(found.error)
    gone = Worker(f"{topic}-gone", "0" * 64, "cpu", 1, {}).answer(["bank"])
    assert f"{topic}-gone" in str(gone.error)


def test_without_ray_one_line_names_the_extra(
    topic: Path, inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(KzooError, match=r"pip install 'kzoo\[ray\]'"):
        run(kzoo.load(topic, device="cpu"), inputs, tmp_path / "out", engine=RayEngine())
    assert json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))["parts"] == {}
