import json

import pytest

from kzoo import KzooError
from kzoo.recipes.directory import RunDirectory, open_run, runs_home

RECIPE = {"training": {"name": "topic", "epochs": 5}, "data": {"a.csv": "12ab"}}


def start(home, identity=RECIPE, fresh=False, recipe="in full"):
    run = open_run(home, identity, {"environment": {"backend": "tensorflow"}, "recipe": recipe}, fresh, None)
    path = run.path
    del run  # frees the lock, as the end of a process does
    return path


def finish_epochs(run, count, best):
    rows = [{"epoch": epoch, "loss": 1 / epoch} for epoch in range(1, count + 1)]
    run.finish_epoch(rows, [best], lambda path: path.write_text("weights"))


def test_an_unfinished_run_is_gone_on_with(tmp_path):
    first = start(tmp_path)
    assert start(tmp_path) == first
    assert json.loads((first / "run.json").read_text())["environment"] == {"backend": "tensorflow"}
    assert start(tmp_path, recipe="in other words") == first
    assert json.loads((first / "run.json").read_text())["recipe"] == "in other words"


def test_other_recipes_other_data_and_fresh_start_anew(tmp_path):
    first = start(tmp_path)
    other_recipe = start(tmp_path, RECIPE | {"training": {"name": "topic", "epochs": 6}})
    other_data = start(tmp_path, RECIPE | {"data": {"a.csv": "34cd"}})
    fresh = start(tmp_path, fresh=True)
    assert len({first, other_recipe, other_data, fresh}) == 4
    assert start(tmp_path) == fresh, "the newest is gone on with"


def test_a_finished_run_is_left_alone(tmp_path):
    first = start(tmp_path)
    RunDirectory(first).finish({"accuracy": 1.0})
    assert start(tmp_path) != first


def test_what_a_kill_left_half_made_is_passed_over(tmp_path):
    (tmp_path / "2026-01-01T00-00-00" / "checkpoints").mkdir(parents=True)
    (tmp_path / "2026-01-02T00-00-00").mkdir()
    (tmp_path / "2026-01-02T00-00-00" / "run.json").write_text('{"recipe": ')
    (tmp_path / "notes.txt").touch()
    assert not start(tmp_path).name.startswith("2026-01-0")


def test_two_processes_cannot_be_at_one_run(tmp_path):
    pytest.importorskip("fcntl", reason="there are no such locks on Windows")
    run = open_run(tmp_path, RECIPE, {}, False, None)
    with pytest.raises(KzooError, match="Another process is at this run"):
        open_run(tmp_path, RECIPE, {}, False, None)
    assert open_run(tmp_path, RECIPE, {}, True, None).path != run.path


def test_the_newest_and_the_best_checkpoint_are_kept(tmp_path):
    run = RunDirectory(start(tmp_path))
    for count, best in ((1, 1), (2, 2), (3, 2), (4, 2)):
        finish_epochs(run, count, best)
    names = sorted(file.name for file in (run.path / "checkpoints").iterdir())
    assert names == ["epoch-0002.keras", "epoch-0004.keras"]
    assert run.last_epoch() == 4
    assert run.history()[2] == {"epoch": 3, "loss": pytest.approx(1 / 3)}


def test_an_epoch_counts_once_its_checkpoint_is_whole(tmp_path):
    run = RunDirectory(start(tmp_path))
    finish_epochs(run, 1, 1)

    def killed(path):
        path.write_text("half of the wei")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.finish_epoch([{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5}], [2], killed)
    assert run.last_epoch() == 1
    assert len(run.history()) == 1
    finish_epochs(run, 2, 2)
    assert [file.name for file in (run.path / "checkpoints").iterdir()] == ["epoch-0002.keras"]


def test_rows_of_an_epoch_without_its_checkpoint_do_not_count(tmp_path):
    run = RunDirectory(start(tmp_path))
    finish_epochs(run, 2, 2)
    run.checkpoint(2).rename(run.checkpoint(1))
    assert run.history() == [{"epoch": 1, "loss": 1.0}]


def test_the_log_is_kept_and_shown(tmp_path):
    shown = []
    run = open_run(tmp_path, RECIPE, {}, False, shown.append)
    run.say("Epoch 1")
    run.log("in the file only")
    assert shown == ["Epoch 1"]
    lines = (run.path / "log.txt").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["Epoch 1", "in the file only"]


def test_where_runs_go(tmp_path, monkeypatch):
    monkeypatch.delenv("KZOO_RUNS", raising=False)
    assert str(runs_home()) == "runs"
    monkeypatch.setenv("KZOO_RUNS", str(tmp_path))
    assert runs_home() == tmp_path
    (tmp_path / "file").touch()
    with pytest.raises(KzooError, match="Cannot make a run directory"):
        start(tmp_path / "file" / "topic")
