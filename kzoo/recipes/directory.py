"""A run's directory: everything that the run used and made, in a state that survives being killed."""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import re
import secrets
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from kzoo.errors import KzooError

Progress = Callable[[str], None]
OnEpoch = Callable[[int, int, dict[str, float]], None]

# The columns of `metrics.csv` that count something.
_COUNTS = frozenset({"epoch", "step", "data_pass", "data_batch"})
_CHECKPOINT = re.compile(r"epoch-(\d{4,})\.keras")


class RunDirectory:
    """One run's files.

    `run.json` (recipe, data's checksums, environment) is there from the start and `metrics.json` from the end
    on. `metrics.csv` has a row for each finished epoch, `checkpoints/` the newest epoch and the best one.

    Args:
        path: the directory, which exists.
        progress: called with each line that goes to `log.txt`.
    """

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        self.path = path
        self._progress = progress
        self._lock = _lock(path / "lock")

    @property
    def bundle(self) -> Path:
        """Where the bundle goes."""
        return self.path / "bundle"

    @property
    def curve(self) -> Path:
        """Where the learning curve goes."""
        return self.path / "learning-curve.png"

    def read(self) -> dict[str, Any]:
        """Return what `run.json` says."""
        return _read_json(self.path / "run.json") or {}

    def say(self, message: str) -> None:
        """Add a line to the log, and show it."""
        self.log(message)
        if self._progress is not None:
            self._progress(message)

    def log(self, message: str) -> None:
        """Add a line to the log."""
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        with (self.path / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"{now} {message}\n")

    # Checkpoints and the rows of finished epochs. An epoch is finished once its checkpoint has its name.

    def checkpoint(self, epoch: int) -> Path:
        """Return where the checkpoint of an epoch, from 1, lies."""
        return self.checkpoint_in(self.path, epoch)

    def last_epoch(self) -> int:
        """Return the number of the last finished epoch, 0 before the first."""
        return self.epochs_in(self.path)

    @staticmethod
    def epochs_in(path: Path) -> int:
        """Return the number of the last finished epoch of the run in a directory, which may not be there."""
        matches = [_CHECKPOINT.fullmatch(file.name) for file in (path / "checkpoints").glob("*")]
        return max((int(match.group(1)) for match in matches if match), default=0)

    @staticmethod
    def checkpoint_in(path: Path, epoch: int) -> Path:
        """Return where the checkpoint of an epoch, from 1, lies in a run's directory."""
        return path / "checkpoints" / f"epoch-{epoch:04d}.keras"

    @staticmethod
    def result_in(path: Path) -> dict[str, Any] | None:
        """Return what `metrics.json` in a run's directory says, or None before the end."""
        return _read_json(path / "metrics.json")

    def part(self, name: str) -> RunDirectory:
        """Return a folder inside for one training of several, like a run's directory itself."""
        path = self.path / name
        (path / "checkpoints").mkdir(parents=True, exist_ok=True)
        return RunDirectory(path, self._progress)

    def result(self) -> dict[str, Any] | None:
        """Return what `metrics.json` says, or None before the end."""
        return self.result_in(self.path)

    def history(self) -> list[dict[str, float]]:
        """Return what was measured in each finished epoch, in order."""
        file = self.path / "metrics.csv"
        if not file.is_file():
            return []
        with file.open(newline="", encoding="utf-8") as rows:
            read = [
                {key: int(value) if key in _COUNTS else float(value) for key, value in row.items()}
                for row in csv.DictReader(rows)
            ]
        return read[: self.last_epoch()]

    def finish_epoch(
        self, rows: list[dict[str, float]], keep: Collection[int], save: Callable[[Path], None]
    ) -> None:
        """Keep an epoch: its checkpoint, which `save` writes to the path that it is given, and all rows.

        Checkpoints other than this one and those of the epochs `keep` are removed.
        """
        target = self.checkpoint(len(rows))
        temporary = target.with_name(f"partial-{target.name}")
        save(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write(self.path / "metrics.csv", table.getvalue())
        temporary.replace(target)
        kept = {target, *map(self.checkpoint, keep)}
        for other in target.parent.iterdir():
            if other not in kept:
                other.unlink()

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Write `metrics.json`, which ends the run."""
        write(self.path / "metrics.json", json.dumps(metrics, indent=1) + "\n")


def open_run(
    home: Path,
    identity: Mapping[str, Any],
    record: Mapping[str, Any],
    fresh: bool,
    progress: Progress | None,
    finished_too: bool = False,
) -> RunDirectory:
    """Return the newest unfinished run of the same identity, or a new one.

    Args:
        home: where the runs of this name lie.
        identity: what makes two runs the same: how to train, and the data.
        record: what else a run writes down: the whole recipe, and the environment that it began in.
        fresh: whether to start a new run in any case.
        progress: see `RunDirectory`.
        finished_too: whether the newest run may be a finished one.

    Raises:
        KzooError: the directory cannot be made, or another process is at the run.
    """
    if not fresh and home.is_dir():
        for path in sorted(home.iterdir(), reverse=True):
            known = _read_json(path / "run.json")
            if known is None or (not finished_too and (path / "metrics.json").is_file()):
                continue
            if {key: known.get(key) for key in identity} == identity:
                run = RunDirectory(path, progress)
                write(
                    path / "run.json",
                    json.dumps({**record, **known, **_newer(record, known)}, indent=1) + "\n",
                )
                return run
    date = datetime.datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
    try:
        home.mkdir(parents=True, exist_ok=True)
        names = [date, *(f"{date}-{number}" for number in range(2, 100))]
        path = next(home / name for name in names if not (home / name).exists())
        (path / "checkpoints").mkdir(parents=True)
    except OSError as error:
        raise KzooError(f"Cannot make a run directory in {home}: {error.strerror or error}.") from None
    run = RunDirectory(path, progress)
    write(path / "run.json", json.dumps({**record, **identity}, indent=1) + "\n")
    return run


def newest_finished(home: Path, identity: Mapping[str, Any]) -> Path | None:
    """Return the directory of the newest finished run of that identity, if there is one."""
    for path in sorted(home.iterdir(), reverse=True) if home.is_dir() else ():
        known = _read_json(path / "run.json") or {}
        if RunDirectory.result_in(path) and {key: known.get(key) for key in identity} == identity:
            return path
    return None


def was_made_by(path: Path, identity: Mapping[str, Any]) -> bool:
    """Return whether a run was trained as an identity says, on its data and perhaps on more, such as a teacher."""
    known = _read_json(path / "run.json") or {}
    held = known.get("data")
    return (
        known.get("training") == identity["training"]
        and isinstance(held, dict)
        and identity["data"].items() <= held.items()
    )


def _newer(record: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run that goes on writes down anew: all but what it began on; of that, the last command."""
    now, began = record.get("environment", {}), known.get("environment", {})
    command = {name: value for name, value in now.items() if name == "command"}
    return {**record, "environment": {**now, **began, **command}}


def runs_home() -> Path:
    """Return where runs go: `$KZOO_RUNS`, or `runs` in the current folder."""
    return Path(os.environ.get("KZOO_RUNS") or "runs")


def write(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    data = content.encode("utf-8") if isinstance(content, str) else content
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _lock(path: Path) -> Any:
    """Hold a lock for as long as the result lives; the system frees it when the process ends in any way.

    Raises:
        KzooError: another process holds it.
    """
    file = path.open("w")
    try:
        import fcntl
    except ImportError:  # Windows: nothing keeps two processes apart there
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise KzooError(
            f"Another process is at this run, in {path.parent}. Wait for it, or start another with --fresh."
        ) from None
    return file
