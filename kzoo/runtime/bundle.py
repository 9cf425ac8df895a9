"""Opening a bundle: every file is checked against the manifest before anything reads it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from kzoo.errors import BundleError, did_you_mean
from kzoo.runtime.external import weight_files
from kzoo.runtime.manifest import FORMAT_VERSION, MANIFEST_FILE, FileRecord, Manifest

MAX_MANIFEST_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are all there and unchanged.

    Attributes:
        folder: where it lies.
        manifest: what it holds.
    """

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Read the manifest and check size and sha256 of every file that it lists.

        Raises:
            BundleError: if the folder, the manifest or a file is missing, damaged, or of another format version.
        """
        folder = Path(path)
        manifest = _read_manifest(folder)
        for name, record in manifest.files.items():
            _check_file(folder / name, record)
        graphs = [graph.file for graph in manifest.graphs.values()]
        needed = graphs if manifest.text is None else [*graphs, manifest.text.tokenizer]
        _check_listed(folder, manifest, needed)
        # What ONNX Runtime opens for a graph has to be checked as well.
        _check_listed(
            folder, manifest, [name for file in graphs for name in sorted(weight_files(folder / file))]
        )
        return cls(folder, manifest)

    def path(self, name: str) -> Path:
        """Return the path of one of the bundle's files.

        Raises:
            BundleError: if the manifest lists no such file.
        """
        if name not in self.manifest.files:
            raise BundleError(
                f"Bundle {self.folder} has no file '{name}'.{did_you_mean(name, self.manifest.files)}"
            )
        return self.folder / name


def hash_file(path: str | os.PathLike[str]) -> FileRecord:
    """Return size and sha256 of a file, reading it piece by piece."""
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(size=file.tell(), sha256=digest)


def _read_manifest(folder: Path) -> Manifest:
    file = folder / MANIFEST_FILE
    if not folder.exists():
        raise BundleError(f"There is no bundle folder {folder}.")
    if not folder.is_dir():
        raise BundleError(f"{folder} is a file; give the bundle's folder, {folder.parent}.")
    if not file.is_file():
        inner = folder / "bundle"
        hint = f" Did you mean {inner}?" if (inner / MANIFEST_FILE).is_file() else ""
        raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST_FILE}.{hint}")
    _refuse_link(file)
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(
            f"{file} has more than {MAX_MANIFEST_BYTES:,} bytes: it is no manifest. Export again."
        )
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file} is damaged: {error}. Copy or export the bundle again.") from None
    version = content.get("format_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise BundleError(
            f"{folder} was made by a newer kzoo: its format version is {version}, and this one reads up to "
            f"{FORMAT_VERSION}. Upgrade: pip install --upgrade kzoo"
        )
    if isinstance(version, int) and version < FORMAT_VERSION:
        raise BundleError(
            f"{folder} was made by an older kzoo: its format version is {version}, and this one reads "
            f"{FORMAT_VERSION}, whose graphs take and give other tensors. Export the bundle again."
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'manifest'}: {problem['msg']}"
            for problem in error.errors()[:5]
        )
        raise BundleError(f"{file} is not a valid manifest: {problems}. Export the bundle again.") from None


def _check_listed(folder: Path, manifest: Manifest, names: Sequence[str]) -> None:
    for name in names:
        if name not in manifest.files:
            raise BundleError(f"{folder / MANIFEST_FILE} gives no size and sha256 of {name}. Export again.")


def _check_file(file: Path, record: FileRecord) -> None:
    _refuse_link(file)
    if not file.is_file():
        raise BundleError(f"{file} is missing. Copy or export the bundle again.")
    size = file.stat().st_size
    if size != record.size:
        raise BundleError(
            f"{file} has {size:,} bytes, not the {record.size:,} that the manifest records: "
            "cut short or changed. Copy or export the bundle again."
        )
    if hash_file(file) != record:
        raise BundleError(
            f"{file} was changed: its sha256 is not the manifest's. Copy or export the bundle again."
        )


def _refuse_link(file: Path) -> None:
    """Links lead out of the folder, where anybody may change what was checked."""
    if file.is_symlink():
        raise BundleError(f"{file} is a symbolic link; copy the bundle with `cp -rL` so that it is complete.")
