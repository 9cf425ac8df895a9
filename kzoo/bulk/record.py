"""What a run writes down of itself: what it reads, how, and which parts are done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kzoo.errors import KzooError
from kzoo.replace import replacing
from kzoo.runtime import hash_file
from kzoo.runtime.manifest import FileName

RECORD_FILE = "run.json"
FORMAT_VERSION = 1

Count = Annotated[int, Field(ge=0)]
Option = str | int | float | bool | None


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BundleRecord(_Section):
    """Which bundle: its name, its task, and the sha256 of its manifest, which has those of all its files."""

    name: str
    task: str
    sha256: str


class InputRecord(_Section):
    """A file that is read: its name without the folder, its bytes, its rows, and those of them without text."""

    name: str
    size: Count
    sha256: str
    rows: Count
    without_text: Count


class PartRecord(_Section):
    """A part that is done: its bytes, its rows, those without text, and those whose text was cut."""

    size: Count
    sha256: str
    rows: Count
    without_text: Count
    truncated: Count


class Record(BaseModel):
    """The contents of `run.json`. It says nothing of when and where, so that equal runs write equal bytes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format_version: int = FORMAT_VERSION
    bundle: BundleRecord
    options: dict[str, Option]
    inputs: list[InputRecord]
    parts: dict[FileName, PartRecord] = {}

    def save(self, folder: Path) -> None:
        """Write it, in the place of an earlier one.

        Raises:
            ExportError: the folder cannot be written to.
        """
        self.parts = dict(sorted(self.parts.items()))
        target = folder / RECORD_FILE
        with replacing(target, is_file=True) as staged:
            (staged / RECORD_FILE).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def forget_damaged(self, folder: Path) -> list[str]:
        """Forget parts whose files are missing or other than recorded, and return their names."""
        damaged = [name for name, part in self.parts.items() if not _is_whole(folder / name, part)]
        for name in damaged:
            del self.parts[name]
        return damaged


def read_record(folder: Path) -> Record | None:
    """Return what an earlier run wrote down in a folder; None where there was none.

    Raises:
        KzooError: the folder holds something else, or what was written down is damaged.
    """
    file = folder / RECORD_FILE
    if not file.is_file():
        if folder.exists() and (
            not folder.is_dir() or any(not _is_partial(path) for path in folder.iterdir())
        ):
            raise KzooError(f"'{folder}' holds something else than a run: give an empty or new folder.")
        return None
    try:
        return Record.model_validate_json(file.read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise KzooError(
            f"{file} is damaged: {where + ': ' if where else ''}{problem['msg']}. Give another folder, or remove it."
        ) from None


def check_same(folder: Path, earlier: Record, bundle: BundleRecord, options: dict[str, Option]) -> None:
    """Refuse to go on with a run of another bundle, or with other options.

    Raises:
        KzooError: naming what differs.
    """
    if earlier.bundle != bundle:
        same = " with other files" if earlier.bundle.name == bundle.name else ""
        raise _other(folder, f"the bundle '{earlier.bundle.name}'{same}")
    for name in sorted(earlier.options.keys() | options.keys()):
        before, now = earlier.options.get(name), options.get(name)
        if before != now or type(before) is not type(now):
            raise _other(folder, f"{name} = {json.dumps(before)}, and not {json.dumps(now)}")


def check_same_inputs(folder: Path, earlier: Record, paths: list[Path]) -> None:
    """Refuse to go on with a run over other files.

    Raises:
        KzooError: naming the file.
    """
    names = [path.name for path in paths]
    before = [record.name for record in earlier.inputs]
    if names != before:
        raise _other(folder, f"the inputs {', '.join(before)}, and not {', '.join(names)}")
    for path, record in zip(paths, earlier.inputs, strict=True):
        found = hash_file(path)
        if (found.size, found.sha256) != (record.size, record.sha256):
            raise _other(folder, f"{path.name} as it was before it changed")


def _other(folder: Path, what: str) -> KzooError:
    return KzooError(f"'{folder}' holds a run with {what}: give another folder for this one.")


def _is_whole(file: Path, part: PartRecord) -> bool:
    if not file.is_file() or file.stat().st_size != part.size:
        return False
    return hash_file(file).sha256 == part.sha256


def _is_partial(path: Path) -> bool:
    """Return whether it is what a run left behind that was killed before it had written down anything."""
    return path.name.startswith(f".{RECORD_FILE}.partial-")
