"""Put new files in the place of old ones, so that a reader sees the old or the new, never half of one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Iterator

from kzoo.errors import ExportError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextlib.contextmanager
def replacing(target: pathlib.Path, is_file: bool = False) -> Iterator[pathlib.Path]:
    """Give a temporary folder beside `target`; what is in it when the block ends takes `target`'s place.

    The folder becomes `target`, or where that is a file, holds one of its name and what belongs beside it. If the
    block fails, `target` stays as it was and the folder is removed.

    Raises:
        ExportError: the place cannot be written to, or holds something else.
    """
    with staging(target) as folder:
        yield folder
        put_in_place(folder, target, is_file)


@contextlib.contextmanager
def staging(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Give a temporary folder beside `target`, which is removed when the block ends, however it ends.

    Raises:
        ExportError: the place cannot be written to, or a file in the folder could not be.
    """
    target = target.absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        folder = target.parent / f".{target.name}.partial-{os.getpid()}"
        folder.mkdir()
    except OSError as error:
        raise ExportError(f"Cannot write to '{target.parent}': {error.strerror or error}.") from error
    try:
        yield folder
    except OSError as error:
        raise ExportError(
            f"Writing '{target}' failed: {error.strerror or error}. What was there before is untouched."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(folder: pathlib.Path, target: pathlib.Path, is_file: bool = False) -> None:
    """Let a folder become `target`, or where that is a file, let what is in the folder stand where `target` does."""
    target = target.absolute()
    for path in folder.rglob("*"):
        if path.is_file():
            _flush(path)
    if is_file:
        _replace_files(folder, target)
    else:
        _replace_folder(folder, target)


def _remove_leftovers(target: pathlib.Path) -> None:
    """Remove the temporary folders of exports that were killed."""
    pattern = re.compile(rf"\.{re.escape(target.name)}\.partial-(\d+)")
    for path in target.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if match and not _is_running(int(match.group(1))):
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _flush(path: pathlib.Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _replace_files(folder: pathlib.Path, target: pathlib.Path) -> None:
    # The graph last: it is what a reader opens.
    for path in sorted(folder.iterdir(), key=lambda path: path.name == target.name):
        path.replace(target.parent / path.name)


def _replace_folder(folder: pathlib.Path, target: pathlib.Path) -> None:
    if not target.exists():
        folder.rename(target)
        return
    if not _exchange(folder, target):
        old = folder.with_name(f"{folder.name}-old")
        target.rename(old)
        folder.rename(target)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Swap two folders in one step where the system can (Linux); return whether it did."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    return rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0


def refuse_other_contents(target: pathlib.Path, manifest_file: str) -> None:
    """Refuse to replace what is not an earlier bundle.

    Raises:
        ExportError: `target` is a file, or a folder that holds something other than a bundle.
    """
    if target.is_file():
        raise ExportError(
            f"'{target}' is a file; a bundle is a folder. Give another path, or one that ends in .onnx."
        )
    if target.is_dir() and any(target.iterdir()) and not (target / manifest_file).is_file():
        raise ExportError(f"'{target}' holds something that is not a bundle: give an empty or new folder.")
