"""Labelled images that lie together in one file: tar archives of folders, and parquet tables."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from kzoo.data.examples import Examples
from kzoo.data.images import IMAGE_SUFFIXES
from kzoo.data.labels import LabelCells
from kzoo.data.tables import parquet_rows
from kzoo.errors import KzooError, did_you_mean

# Most bytes that an archive may hold, or a table's images: they are all kept in memory, as they are encoded.
MAX_BYTES = 4 * 1024**3

# How the names of tar archives end, with or without a compression.
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

_PARTS = ("train", "validation", "test")
# By the bytes that such files begin with.
_DECOMPRESS: dict[bytes, Callable[[Path], Any]] = {
    b"\xfd7zXZ\x00": lzma.open,
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
}
# How decompressors, tarfile and files say that something is wrong.
_DAMAGE = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError)


class ImageBytes(bytes):
    """An image as it is encoded, and where it comes from.

    Attributes:
        name: a path within an archive, or a table's row.
    """

    name: str

    def __new__(cls, content: bytes, name: str) -> ImageBytes:
        """Give bytes a name."""
        self = super().__new__(cls, content)
        self.name = name
        return self


def read_image_archive(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> dict[str, Examples]:
    """Read a tar archive of images, which has a folder for each class; nothing is unpacked to the disk.

    Args:
        path: a .tar file, which gzip, bzip2 or xz may have compressed. Its folders `train` and, if there,
            `validation` and `test` have the folders of the classes; where there are no such, all is for training.
            A folder that all lies in does not count.
        max_bytes: larger archives are refused, once that much has been decompressed.

    Returns:
        The parts by name: images as they are encoded, sorted by path, and their classes.

    Raises:
        KzooError: the file is no archive, damaged or too large; an image lies in no folder, or one of a class that
            is not in the training data.
    """
    file = Path(path)
    found = dict(sorted(_members(file, max_bytes)))
    if not found:
        raise KzooError(f"{file} has no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    grouped: dict[str, list[tuple[ImageBytes, str]]] = {}
    for name, (part, label) in _places(file, list(found)).items():
        grouped.setdefault(part, []).append((ImageBytes(found[name], name), label))
    if "train" not in grouped:
        raise KzooError(f"{file} has no folder train; it has {', '.join(grouped)}.")
    known = {label for _, label in grouped["train"]}
    for image, label in (image for images in grouped.values() for image in images):
        if label not in known:
            raise KzooError(
                f"{file}, {image.name}: the class '{label}' does not occur in the training data."
                f"{did_you_mean(label, known)}"
            )
    return {
        part: Examples([image for image, _ in grouped[part]], [label for _, label in grouped[part]])
        for part in _PARTS
        if part in grouped
    }


def _places(file: Path, names: list[str]) -> dict[str, tuple[str, str]]:
    """Return the part and the class of each image, by its name."""
    folders = {name: PurePosixPath(name).parts[:-1] for name in names}
    while len({folder[:1] for folder in folders.values()}) == 1:
        first = folders[names[0]][:1]
        if not first or first[0] in _PARTS or min(map(len, folders.values())) < 2:
            break
        folders = {name: folder[1:] for name, folder in folders.items()}
    # A folder without folders is a class, even if it is called so.
    in_parts = [name for name, folder in folders.items() if len(folder) > 1 and folder[0] in _PARTS]
    for name, folder in folders.items():
        if in_parts and not (folder and folder[0] in _PARTS):
            raise KzooError(f"{file}: {name} lies in none of the folders {', '.join(_PARTS)}.")
        if len(folder) < (2 if in_parts else 1):
            raise KzooError(
                f"{file}: {name} lies in no folder of a class: put it into one of its class' name."
            )
    return {
        name: (folder[0], folder[1]) if in_parts else ("train", folder[0]) for name, folder in folders.items()
    }


def read_image_table(
    path: str | os.PathLike[str],
    *,
    image: str,
    label: str,
    label_names: Mapping[str, str] | None = None,
    known_labels: Collection[str] | None = None,
    max_bytes: int = MAX_BYTES,
) -> Examples:
    """Read labelled images from a parquet file.

    Args:
        path: the file.
        image: the column of the images: bytes, or structs with a field `bytes`, as they are encoded.
        label: the column of the classes, names or numbers.
        label_names: what the labels in the file are called; a label that is not among them is an error.
        known_labels: the only labels that may come up, after renaming.
        max_bytes: the images may have together.

    Returns:
        The images, and their classes.

    Raises:
        KzooError: naming file and row: a column that is not there, no image or label, an unknown label.
    """
    file, labels = Path(path), LabelCells(names=label_names, known=known_labels)
    images: list[ImageBytes] = []
    targets: list[str] = []
    total = 0
    for number, row in enumerate(parquet_rows(file, [image, label]), start=1):
        content = row[image].get("bytes") if isinstance(row[image], dict) else row[image]
        if not isinstance(content, bytes) or not content:
            raise KzooError(
                f"{file}, row {number}: the column '{image}' holds no image. It needs the bytes of an image file, or "
                "a struct with a field 'bytes'."
            )
        total += len(content)
        if total > max_bytes:
            raise _too_large(file, max_bytes)
        images.append(ImageBytes(content, f"{file.name}, row {number}"))
        try:
            targets.append(labels.read("" if row[label] is None else str(row[label])))
        except KzooError as error:
            raise KzooError(f"{file}, row {number}: {error}") from None
    if not images:
        raise KzooError(f"{file} has no rows.")
    return Examples(images, targets)


def _members(file: Path, max_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the images in an archive."""
    try:
        with file.open("rb") as raw:
            start = raw.read(8)
        kind: Any = next((kind for magic, kind in _DECOMPRESS.items() if start.startswith(magic)), open)
        with kind(file, "rb") as content:
            limited: Any = _Limited(content, file, max_bytes)
            with tarfile.open(fileobj=limited, mode="r|") as archive:
                for member in archive:
                    opened = archive.extractfile(member) if _is_image(member) else None
                    if opened is not None:
                        yield str(PurePosixPath(member.name)), opened.read()
    except _DAMAGE as error:
        raise KzooError(f"{file} cannot be read as a tar archive: {error}. Fetch it again.") from None


def _is_image(member: tarfile.TarInfo) -> bool:
    name = PurePosixPath(member.name)
    hidden = any(part.startswith(".") for part in name.parts)
    # What is stored with holes may be of any size.
    return member.isfile() and not member.issparse() and not hidden and name.suffix.lower() in IMAGE_SUFFIXES


class _Limited:
    """A file that so many bytes can be read from."""

    def __init__(self, content: BinaryIO, file: Path, max_bytes: int) -> None:
        self._content, self._file, self._max, self._left = content, file, max_bytes, max_bytes

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        found = self._content.read(size)
        self._left -= len(found)
        if self._left < 0:
            raise _too_large(self._file, self._max)
        return found


def _too_large(file: Path, max_bytes: int) -> KzooError:
    return KzooError(
        f"{file} holds more than {max_bytes / 1024**3:.3g} GiB, which is not kept in memory: put the images into "
        'folders, and set data.format = "folders".'
    )
