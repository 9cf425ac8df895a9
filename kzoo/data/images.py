"""Labelled images: embedded digits, npz archives, folders."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import numpy as np

from kzoo.data.examples import Examples, split
from kzoo.errors import KzooError, MissingDependencyError, did_you_mean

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm"})


def digits() -> tuple[Examples, Examples]:
    """Return scikit-learn's handwritten digits, which need no network: 1,437 to train on, 360 to test.

    Returns:
        Two times images, uint8 (n, 8, 8, 1), and labels "0" to "9"; the split is always the same.

    Raises:
        MissingDependencyError: scikit-learn is not installed.

    Example:
        >>> train, test = digits()
        >>> train.inputs.shape, len(test)
        ((1437, 8, 8, 1), 360)
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingDependencyError(
            "The digits come with scikit-learn: pip install 'kzoo[train]'."
        ) from None
    data = load_digits()
    images = np.round(data.images[..., None] * (255 / data.images.max())).astype(np.uint8)
    return split(Examples(images, [str(label) for label in data.target]), 0.2)


def read_npz(path: str | os.PathLike[str]) -> dict[str, Examples]:
    """Read an archive of images, as Keras' own data sets come.

    Args:
        path: holds `x_train`, uint8 (n, height, width) or (n, height, width, channels), and `y_train`, numbers
            or names of classes (n,); perhaps `x_test` and `y_test`, `x_validation` and `y_validation`; perhaps
            `classes`, the names of the numbers.

    Returns:
        The parts by name: `"train"`, and `"test"` and `"validation"` if there.

    Raises:
        KzooError: the file is no such archive; the message names the array.
    """
    file = Path(path)
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib and numpy each fail in their own way
        raise KzooError(f"{file} cannot be read as an npz archive: {error}.") from None
    parts = {
        name: _part(file, arrays, name) for name in ("train", "validation", "test") if f"x_{name}" in arrays
    }
    if "train" not in parts:
        raise KzooError(f"{file} has no array x_train; it has {', '.join(arrays) or 'none at all'}.")
    known = set(parts["train"].targets)
    for name, part in parts.items():
        for index, label in enumerate(part.targets):
            if label not in known:
                raise KzooError(f"{file}: y_{name}[{index}] is '{label}', which y_train never is.")
    return parts


def read_image_folder(path: str | os.PathLike[str], known_labels: Collection[str] | None = None) -> Examples:
    """Find the images in a folder that has a folder for each class.

    Args:
        path: the folder of the classes' folders; the images may lie deeper in these.
        known_labels: the only classes that may come up.

    Returns:
        The images' paths, sorted, and their classes, named as the folders are.

    Raises:
        KzooError: there are no such folders, one has no image, or a class is not known.
    """
    root = Path(path)
    folders = sorted(folder for folder in root.glob("[!.]*") if folder.is_dir())
    if not folders:
        raise KzooError(f"{root} has no folders: put the images of each class into a folder of its name.")
    files: list[Path] = []
    labels: list[str] = []
    for folder in folders:
        if known_labels is not None and folder.name not in known_labels:
            raise KzooError(
                f"{folder}: the class '{folder.name}' does not occur in the training data."
                f"{did_you_mean(folder.name, known_labels)}"
            )
        found = find_images(folder)
        files += found
        labels += [folder.name] * len(found)
    return Examples(files, labels)


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the image files in a folder and below it, sorted, told by what their names end in.

    Raises:
        KzooError: there are none.

    Example:
        >>> find_images("nowhere")
        Traceback (most recent call last):
        kzoo.errors.KzooError: nowhere has no images (...).
    """
    found = sorted(file for file in Path(folder).rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise KzooError(f"{folder} has no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    return found


def _part(file: Path, arrays: dict[str, np.ndarray], name: str) -> Examples:
    images, labels = arrays[f"x_{name}"], arrays.get(f"y_{name}")
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3, 4) or not images.size:
        raise KzooError(
            f"{file}: x_{name} is {images.dtype} {images.shape}; expected uint8 (n, height, width) or (n, height, "
            "width, channels)."
        )
    if labels is not None and labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels is None or labels.shape != images.shape[:1]:
        shape = "missing" if labels is None else f"of shape {labels.shape}"
        raise KzooError(f"{file}: y_{name} is {shape}; x_{name} has {len(images)} images.")
    classes = arrays.get("classes")
    if classes is not None and labels.dtype.kind in "iu":
        if labels.min() < 0 or labels.max() >= len(classes):
            raise KzooError(
                f"{file}: y_{name} runs from {labels.min()} to {labels.max()}; there are {len(classes)} classes."
            )
        labels = classes[labels]
    return Examples(images, [str(label) for label in labels])
