"""A recipe's data: found, checked, read, and split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.data import (
    NUMBER_TASKS,
    CleaningReport,
    Examples,
    class_names,
    clean_pairs,
    digits,
    locate,
    read_documents,
    read_image_archive,
    read_image_folder,
    read_image_table,
    read_npz,
    read_pair_table,
    read_pairs,
    read_texts,
    sentence_pairs,
    split,
    split_documents,
)
from kzoo.errors import KzooError
from kzoo.recipes.data.tables import Tables, check_targets, describe_classes, labels_of, read_tables
from kzoo.recipes.schema.config import STREAMED, Recipe
from kzoo.recipes.schema.data_kinds import (
    AlignedData,
    ArchiveData,
    FolderData,
    ImageTableData,
    PairTableData,
    PlainTextData,
    TableData,
    TarData,
    listed,
)
from kzoo.recipes.training.checkpoints import find_pretrained
from kzoo.runtime import hash_file

_PARTS = ("train", "validation", "test")
# Finds a file or folder by its name in the recipe.
Find = Callable[[str], Path]


@dataclass(frozen=True)
class Parts:
    """The examples to train, validate and test on.

    Attributes:
        train: what the model learns from.
        validation: what the best epoch is chosen on, if anything.
        test: what the bundle is measured on; nothing, where folds of the training data are.
        labels: the classes' names in order; None where targets are texts or numbers.
        checksums: sha256 of everything read, by its name in the recipe.
        cleaned: what was dropped from pairs of texts to learn from.
        notes: what a user should know of tables, a line each: the columns that were found, the classes, what was
            dropped.
    """

    train: Examples
    validation: Examples | None
    test: Examples
    labels: list[str] | None
    checksums: dict[str, str]
    cleaned: CleaningReport | None = None
    notes: list[str] = field(default_factory=list)


def load_parts(recipe: Recipe, beside: Path) -> Parts:
    """Read all data that a recipe names.

    Args:
        recipe: the recipe.
        beside: the folder that it lies in.

    Raises:
        KzooError: a file is missing or wrong, a split is impossible, or there is nothing to test on.
    """
    checksums: dict[str, str] = {}

    def find(name: str) -> Path:
        path = locate(name, beside)
        checksums[name] = checksum(path)
        return path

    if recipe.model.tokenizer is not None:
        find(recipe.model.tokenizer)
    for bundle in (recipe.text.augment.back_translation if recipe.text is not None else None) or []:
        find(bundle)
    for folder in recipe.pretraining.unlabelled if recipe.pretraining is not None else []:
        find(folder)
    if recipe.model.pretrained is not None:
        checksums[recipe.model.pretrained] = checksum(find_pretrained(recipe.model.pretrained, beside))
    data, cleaned, tables = recipe.data, None, None
    if isinstance(data, TableData):
        tables = read_tables(data, find)
        parts = tables.parts
    elif isinstance(data, AlignedData | PairTableData):
        parts = _read_pairs(data, find)
        parts["train"], cleaned = clean_pairs(parts["train"], data.clean)
    elif isinstance(data, PlainTextData):
        parts = _read_texts(data, find)
    elif isinstance(data, ArchiveData):
        parts = read_npz(find(data.train))
    elif isinstance(data, TarData):
        parts = read_image_archive(find(data.train))
    elif isinstance(data, FolderData | ImageTableData):
        parts = _read_image_parts(data, find)
    else:
        parts = dict(zip(("train", "test"), digits(), strict=True))
        checksums["digits"] = _checksum_of_arrays(parts)
    train, validation, test = _split(recipe, parts)
    if recipe.task not in STREAMED:
        check_targets(train, recipe.task)
    labels, notes = _labels(recipe, tables, train, [validation, test])
    return Parts(train, validation, test, labels, checksums, cleaned, notes)


def amount(examples: Examples | None, recipe: Recipe) -> int:
    """Return how many examples there are, or of plain text how many characters."""
    if examples is None:
        return 0
    return sum(map(len, examples.targets)) if recipe.learns_language else len(examples)


def _split(recipe: Recipe, parts: dict[str, Examples]) -> tuple[Examples, Examples | None, Examples]:
    """Return what is trained, validated and tested on, of what was read."""
    folds = recipe.training.folds
    train, test = _held_out("test", parts, recipe)
    train, validation = _held_out("validation", {**parts, "train": train}, recipe)
    if folds is not None and test is not None:
        raise KzooError(
            "training.folds is for data without a test part, and this comes with one: leave it out."
        )
    if folds is not None:
        test = Examples([], [])
    if test is None:
        raise KzooError(
            "There is nothing to test on: set data.test, data.test_share = 0.1, or training.folds = 5."
        )
    if isinstance(recipe.data, PlainTextData) and recipe.data.pairs is not None:
        kind = recipe.data.pairs
        train, test = (
            sentence_pairs(train.targets, kind),
            sentence_pairs(test.targets, kind) if len(test) else test,
        )
        validation = sentence_pairs(validation.targets, kind) if validation is not None else None
    return train, validation, test


def _labels(
    recipe: Recipe, tables: Tables | None, train: Examples, held_out: list[Examples | None]
) -> tuple[list[str] | None, list[str]]:
    """Return the classes in order, if targets are classes, and what is to be said of the data."""
    notes = tables.notes if tables is not None else []
    if recipe.task in STREAMED or (isinstance(recipe.data, TableData) and recipe.data.task in NUMBER_TASKS):
        return None, notes
    found = labels_of([train, *held_out])
    if tables is None:
        return class_names(list(found)), notes
    labels = [name for name in tables.classes if name in found] or class_names(list(found))
    return labels, [*notes, *describe_classes(train, labels, tables.classes)]


def _read_pairs(data: AlignedData | PairTableData, find: Find) -> dict[str, Examples]:
    parts: dict[str, Examples] = {}
    for part in _PARTS:
        # What is measured on is taken as it is, or not at all.
        raw = part == "train"
        name = getattr(data, part)
        if name is not None and isinstance(data, AlignedData):
            parts[part] = read_pairs(*map(find, name), allow_empty=raw)
        elif name is not None and isinstance(data, PairTableData):
            columns = {"source": data.source, "target": data.target}
            parts[part] = read_pair_table(find(name), **columns, format=data.format, allow_empty=raw)
    return parts


def _read_texts(data: PlainTextData, find: Find) -> dict[str, Examples]:
    parts: dict[str, Examples] = {}
    for part in _PARTS:
        names = getattr(data, part)
        if names is not None:
            files = [find(name) for name in ([names] if isinstance(names, str) else names)]
            if data.text is None:
                documents = read_documents(files, data.breaks)
            else:
                documents = [text for file in files for text in read_texts(file, listed(data.text))]
            parts[part] = _as_examples(documents)
    return parts


def _as_examples(documents: list[str]) -> Examples:
    """Return texts that are their own targets."""
    return Examples(documents, documents)


def _read_image_parts(data: FolderData | ImageTableData, find: Find) -> dict[str, Examples]:
    parts: dict[str, Examples] = {}
    for part in _PARTS:
        name = getattr(data, part)
        if name is not None:
            known = set(parts["train"].targets) if parts else None
            if isinstance(data, FolderData):
                parts[part] = read_image_folder(find(name), known_labels=known)
            else:
                columns: Any = {"image": data.image, "label": data.label, "label_names": data.label_names}
                parts[part] = read_image_table(find(name), **columns, known_labels=known)
    return parts


def _held_out(part: str, parts: dict[str, Examples], recipe: Recipe) -> tuple[Examples, Examples | None]:
    """Return the training examples and a part: the one that was read, or a share of the former."""
    share = getattr(recipe.data, f"{part}_share")
    if share is None:
        return parts["train"], parts.get(part)
    if part in parts:
        raise KzooError(f"The data comes with a {part} part: leave data.{part}_share out.")
    if isinstance(recipe.data, PlainTextData):
        rest, held = split_documents(parts["train"].targets, share)
        return _as_examples(rest), _as_examples(held)
    return split(parts["train"], share, stratify=recipe.task != "seq2seq")


def checksum(path: Path) -> str:
    """Return the sha256 of a file, or of the names and sha256 of all files in a folder."""
    if path.is_file():
        return hash_file(path).sha256
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()} {hash_file(file).sha256}\n".encode())
    return digest.hexdigest()


def _checksum_of_arrays(parts: dict[str, Examples]) -> str:
    digest = hashlib.sha256()
    for examples in parts.values():
        digest.update(np.asarray(examples.inputs).tobytes())
        digest.update(" ".join(examples.targets).encode())
    return digest.hexdigest()
