"""Models from public checkpoints: config, weights, tokenizer and image preprocessing."""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from kzoo.errors import KzooError
from kzoo.models import tensors
from kzoo.models.backbone import Backbone
from kzoo.models.base import TransformerModel
from kzoo.models.initialization import initialized_by
from kzoo.models.preprocessor import PREPROCESSOR_FILE, read_preprocessing
from kzoo.models.registry import build
from kzoo.models.sentence import check_case, encoder_folder, is_sentence_model, read_modules
from kzoo.models.sources import find_checkpoint
from kzoo.text import has_tokenizer
from kzoo.weights import Checkpoint, Family, Head, find_family, read_json, tasks_of

# What config.json's `problem_type` says of a classifier's head, by kzoo's task.
PROBLEM_TYPES = {
    "classification": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regression": "regression",
}


def from_pretrained(
    source: str | os.PathLike[str],
    *,
    task: str | None = None,
    revision: str | None = None,
    ignore: Collection[str] = (),
    **overrides: Any,
) -> TransformerModel:
    """Build the model that a checkpoint holds, with its weights.

    The folder is in the common format: config.json, and model.safetensors or an index of several such files; its
    tokenizer and preprocessor_config.json are taken when there. Every field of config.json that may change the
    results is honoured, or refused by name. A folder of sentence-transformers gives a model for embeddings, which
    pools and normalises as its modules say.

    With `image_size=` the position embeddings are interpolated, and images made to that size.

    A head is loaded when the checkpoint has the one that the task asks for, and `num_classes=` or `labels=` do
    not ask for another number of classes. Otherwise it starts fresh, and a warning says so.

    Args:
        source: the checkpoint's folder; `package:MODULE`, an installed package that carries one, which is not run; or
            its name on the Hugging Face hub, from where it is downloaded once.
        task: what the model is to do; by default what the checkpoint was made for, or else the family's default.
        revision: branch, tag or commit on the hub.
        ignore: names of fields of config.json that are not looked at, whatever they say.
        **overrides: as for a variant: fields of the config, and options of `TransformerModel`.

    Raises:
        KzooError: a folder that is no checkpoint, a name that the hub does not have, a config that kzoo does not
            compute, or tensors that do not fit: those missing and those unexpected are listed.

    Example:
        >>> from_pretrained("./bert-base-uncased")
        Traceback (most recent call last):
        kzoo.errors.KzooError: There is no folder './bert-base-uncased'. A checkpoint is a folder that holds ...
    """
    directory = find_checkpoint(source, revision)
    sentence_options: dict[str, Any] = {}
    if is_sentence_model(directory):
        if task in (None, "embedding"):
            task, sentence_options = "embedding", read_modules(directory)
        directory = encoder_folder(directory)
    checkpoint = Checkpoint(directory)
    family = find_family(checkpoint.config)
    backbone = _backbone(family)
    names = tensors.by_canonical_name(checkpoint, family)

    heads = _own_heads(checkpoint, family, names)
    task = task or _default_task(checkpoint, heads, backbone)
    head = next((head for head in heads if task in tasks_of(head)), None)
    options: dict[str, Any] = {}
    if head is not None and head.has_classes:
        classes = _count_classes(checkpoint, head, names)
        wanted = 1 if task == "regression" else _wanted_classes(overrides)
        if wanted in (None, classes):
            _refuse_other_problem(checkpoint.config, family, task, classes)
            labels = None if "labels" in overrides else _labels(checkpoint.config, classes)
            options = {"num_classes": classes, "labels": labels} if task != "regression" else {}
        else:
            head = None
    implied = tensors.implied_knobs(checkpoint, names, head)
    moved = {name: checkpoint.decoding[name] for name in family.decoding if name in checkpoint.decoding}
    knobs = family.knobs({**checkpoint.config, **moved}, settled={**implied, **overrides}, ignore=ignore)
    names_of_knobs = {field.name for field in dataclasses.fields(backbone.Config)}
    own = {name: value for name, value in overrides.items() if name in names_of_knobs}
    config = backbone.Config(**{**knobs, **implied, **own})
    options |= _input_options(directory, config, overrides) | sentence_options
    loading = tensors.Loading(checkpoint, family, names, head, resize="image_size" in overrides)
    with initialized_by(loading.initializers):
        model = build(backbone, config, task=task, **{"name": family.model_type, **options, **overrides})
    if sentence_options and model.tokenizer is not None:
        check_case(directory, model.tokenizer)
    loading.warn(stacklevel=2)
    return model


def _backbone(family: Family) -> type[Backbone]:
    # By name, since every architecture comes with a module of its own and the tables know none of them.
    return getattr(importlib.import_module("kzoo.models"), family.backbone)


def _own_heads(checkpoint: Checkpoint, family: Family, names: Collection[str]) -> list[Head]:
    """Return the heads of the checkpoint's architectures, or where it names none, those that its tensors fit."""
    architectures = checkpoint.config.get("architectures")
    return [
        head
        for head in family.heads
        if not head.table
        or (
            head.architecture in architectures
            if architectures
            else all(source.tensor in names for source in head.table.values())
        )
    ]


def _default_task(checkpoint: Checkpoint, heads: list[Head], backbone: type[Backbone]) -> str:
    """Return what the checkpoint was made for, or the family's default where that is no task of kzoo's."""
    usual = backbone.tasks[0]
    architectures = checkpoint.config.get("architectures")
    made_for = list(
        dict.fromkeys(
            head.task
            for head in heads
            if (head.architecture in architectures if architectures else bool(head.table))
        )
    )
    if not architectures and len(made_for) > 1 and usual in made_for:
        raise KzooError(
            f"config.json names no architectures, and the tensors may be those of {' or '.join(made_for)}: "
            "pass task=..."
        )
    task = made_for[0] if made_for and (architectures or len(made_for) == 1) else usual
    if task == "classification":
        problem = checkpoint.config.get("problem_type")
        task = next((name for name, own in PROBLEM_TYPES.items() if own == problem), task)
    return task if task in backbone.tasks else usual


def _count_classes(checkpoint: Checkpoint, head: Head, names: Mapping[str, str]) -> int:
    """Return the number of classes of the checkpoint's head."""
    source = next(source for path, source in head.table.items() if path.endswith("classifier/kernel"))
    if source.tensor not in names:
        raise KzooError(
            f"{checkpoint.directory} is of a {head.architecture}, but has no '{source.tensor}', its head: pass "
            "num_classes= for a fresh one, or task='features' for none."
        )
    return int(source.read(checkpoint.read(names[source.tensor])).shape[-1])


def _refuse_other_problem(config: Mapping[str, Any], family: Family, task: str, classes: int) -> None:
    """Refuse a head whose outputs are for another task."""
    problem = config.get("problem_type")
    if problem not in (None, *PROBLEM_TYPES.values()) or (problem == "regression" and task != "regression"):
        raise KzooError(
            f"config.json says problem_type='{problem}', which is not what kzoo's {family.model_type} does with "
            f"task='{task}': pass num_classes= for a fresh head, or task='features' for none."
        )
    if classes == 1 and task == "classification":
        raise KzooError(
            "The checkpoint's head has one output, so it grades texts and does not classify them: pass "
            "task='regression' for its number, task='multilabel' for a score between 0 and 1, or task='features' for "
            "no head."
        )


def _labels(config: Mapping[str, Any], num_classes: int) -> list[str] | None:
    """Return the classes' names, or None where they only count."""
    names = config.get("id2label")
    if not names:
        return None
    if not isinstance(names, dict) or set(names) != {str(index) for index in range(num_classes)}:
        raise KzooError(
            f"config.json says id2label={names!r}; the head has {num_classes} classes, so kzoo expects the keys "
            f"0 to {num_classes - 1}: pass labels=[...] to name them yourself."
        )
    labels = [str(names[str(index)]) for index in range(num_classes)]
    return None if labels == [f"LABEL_{index}" for index in range(num_classes)] else labels


def _wanted_classes(overrides: Mapping[str, Any]) -> int | None:
    labels = overrides.get("labels")
    return overrides.get("num_classes") if labels is None else len(labels)


def _input_options(directory: Path, config: Any, overrides: Collection[str]) -> dict[str, Any]:
    """Return the tokenizer and the image preprocessing that the folder holds, unless the caller gave others."""
    options: dict[str, Any] = {}
    if hasattr(config, "vocab_size") and "tokenizer" not in overrides and has_tokenizer(directory):
        options["tokenizer"] = directory
    file = directory / PREPROCESSOR_FILE
    if hasattr(config, "image_size") and "image_preprocessing" not in overrides and file.is_file():
        options["image_preprocessing"] = read_preprocessing(
            read_json(file), config, other_size="image_size" in overrides
        )
    return options
