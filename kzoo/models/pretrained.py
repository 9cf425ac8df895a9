"""Models from public checkpoints: config, weights, tokenizer and image preprocessing."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Collection, Mapping
from typing import Any, Literal

import numpy as np

from kzoo.errors import KzooError
from kzoo.models.backbone import Backbone
from kzoo.models.base import TransformerModel
from kzoo.models.bert import Bert
from kzoo.models.gpt2 import GPT2
from kzoo.models.registry import build
from kzoo.models.tasks import TASKS
from kzoo.models.vit import ViT
from kzoo.vision import ImagePreprocessing
from kzoo.weights import Checkpoint, Family, Table, find_family, read_json

_BACKBONES: dict[str, type[Backbone]] = {"bert": Bert, "gpt2": GPT2, "vit": ViT}

_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
_PREPROCESSOR_FILE = "preprocessor_config.json"
# Pillow's numbers for the ways of resizing.
_RESAMPLE: dict[int, Literal["nearest", "bilinear", "bicubic"]] = {0: "nearest", 2: "bilinear", 3: "bicubic"}
_LISTED = 10


def from_pretrained(
    directory: str | os.PathLike[str], *, task: str | None = None, **overrides: Any
) -> TransformerModel:
    """Build the model that a local checkpoint holds, with its weights.

    The folder is in the common format: config.json, and model.safetensors or an index of several such files;
    tokenizer.json or vocab.txt, and preprocessor_config.json, are taken when there. BERT, GPT-2 and ViT are
    read. Every field of config.json that changes the results is honoured, or refused by name.

    A classification head is loaded when the checkpoint has one, the task asks for one, and `num_classes=` or
    `labels=` do not ask for another number of classes. Otherwise it starts fresh, and a warning says so.

    Args:
        directory: the checkpoint's folder.
        task: what the model is to do; by default what the checkpoint was made for, or else the family's default.
        **overrides: as for a variant: fields of the config, and options of `TransformerModel`.

    Raises:
        KzooError: a folder that is no checkpoint, a config that kzoo does not compute, or tensors that do not
            fit: those missing and those unexpected are listed.

    Example:
        >>> from_pretrained("bert-base-uncased")
        Traceback (most recent call last):
        kzoo.errors.KzooError: 'bert-base-uncased' is not a folder. Checkpoints are read from a local folder ...
    """
    checkpoint = Checkpoint(directory)
    family = find_family(checkpoint.config)
    backbone = _BACKBONES[family.model_type]
    tensors = _by_canonical_name(checkpoint, family)

    made_for = _made_for(checkpoint.config, family)
    task = task or (made_for if made_for in backbone.tasks else backbone.tasks[0])
    classes = (
        _head_classes(checkpoint, family, tensors) if task in TASKS and TASKS[task].has_classes else None
    )
    head: dict[str, Any] = {}
    if classes is not None and _wanted_classes(overrides) in (None, classes):
        labels = None if "labels" in overrides else _labels(checkpoint.config, classes)
        head = {"num_classes": classes, "labels": labels}
    if head and made_for not in backbone.tasks:
        raise KzooError(
            f"config.json says problem_type='{checkpoint.config['problem_type']}', a task that kzoo's "
            f"{family.model_type} does not have: pass num_classes= for a fresh head, or task='features' for none."
        )
    config = backbone.Config(**family.knobs(checkpoint.config, settled=overrides))
    inputs = _input_options(checkpoint, config, overrides)
    model = build(backbone, config, task=task, **{"name": family.model_type, **head, **inputs, **overrides})
    _assign(model, checkpoint, family, tensors, with_head=bool(head))
    return model


def _by_canonical_name(checkpoint: Checkpoint, family: Family) -> dict[str, str]:
    tensors: dict[str, str] = {}
    for name in checkpoint.names:
        canonical = family.canonical(name)
        if canonical in tensors:
            raise KzooError(
                f"{checkpoint.directory} has '{tensors[canonical]}' and '{name}': only one can be meant."
            )
        tensors[canonical] = name
    return tensors


def _made_for(config: Mapping[str, Any], family: Family) -> str | None:
    """Return the task of the checkpoint's own head, or None if it is none of kzoo's."""
    architectures = config.get("architectures") or list(family.heads)
    task = next((family.heads[name] for name in architectures if name in family.heads), None)
    if task is None or not TASKS[task].has_classes:
        return task
    problem = config.get("problem_type") or "single_label_classification"
    return {"single_label_classification": task, "multi_label_classification": "multilabel"}.get(problem)


def _head_classes(checkpoint: Checkpoint, family: Family, tensors: Mapping[str, str]) -> int | None:
    """Return the number of classes of the checkpoint's head; None if it has no head, or that of another task."""
    architectures = checkpoint.config.get("architectures") or list(family.heads)
    kernel = next((source.tensor for source in family.head.values() if source.tensor in tensors), None)
    if kernel is None or not family.heads.keys() & set(architectures):
        return None
    return len(checkpoint.read(tensors[kernel]))


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


def _input_options(checkpoint: Checkpoint, config: Any, overrides: Collection[str]) -> dict[str, Any]:
    """Return the tokenizer or image preprocessing that the folder holds, unless the caller gave another."""
    directory = checkpoint.directory
    if hasattr(config, "vocab_size") and "tokenizer" not in overrides:
        found = any((directory / name).is_file() for name in _TOKENIZER_FILES)
        return {"tokenizer": directory} if found else {}
    if hasattr(config, "image_size") and "image_preprocessing" not in overrides:
        file = directory / _PREPROCESSOR_FILE
        return {"image_preprocessing": _preprocessing(read_json(file), config)} if file.is_file() else {}
    return {}


def _preprocessing(settings: Mapping[str, Any], config: Any) -> ImagePreprocessing:
    """Return what preprocessor_config.json says, in kzoo's terms."""
    side = config.image_size

    def refuse(name: str, reason: str) -> KzooError:
        return KzooError(
            f"{_PREPROCESSOR_FILE} says {name}={settings[name]!r}; {reason}. Pass "
            "image_preprocessing=kzoo.vision.ImagePreprocessing(...) to say how images are to be made."
        )

    def is_side(size: Any) -> bool:
        return size in (side, [side, side], {"height": side, "width": side})

    if not is_side(settings.get("size", side)):
        raise refuse("size", f"kzoo resizes to the model's {side} by {side}, whatever the image's shape")
    if settings.get("do_center_crop") and not is_side(settings.get("crop_size", side)):
        raise refuse("crop_size", "kzoo does not crop")
    if not settings.get("do_rescale", True):
        raise refuse("do_rescale", "kzoo divides by 255")
    if not math.isclose(settings.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-3):
        raise refuse("rescale_factor", "kzoo divides by 255")
    if settings.get("resample", 2) not in _RESAMPLE:
        raise refuse("resample", f"kzoo knows {_RESAMPLE}")
    normalize = settings.get("do_normalize", True)
    try:
        return ImagePreprocessing(
            height=side,
            width=side,
            channels=config.num_channels,
            mean=settings.get("image_mean", [0.5]) if normalize else [0.0],
            std=settings.get("image_std", [0.5]) if normalize else [1.0],
            resample=_RESAMPLE[settings.get("resample", 2)],
        )
    except ValueError as error:
        raise refuse("image_mean", str(error)) from None


def _assign(
    model: TransformerModel,
    checkpoint: Checkpoint,
    family: Family,
    tensors: Mapping[str, str],
    with_head: bool,
) -> None:
    """Put the tensors into the model's variables, one at a time."""
    table = family.sources(model.backbone.config.num_layers, with_head)
    if not with_head:
        table = _without_missing_layers(table, family, tensors)
    _check_names(checkpoint, family, table, tensors)
    for tensor, twin in family.tied.items():
        if tensor in tensors and not np.array_equal(
            checkpoint.read(tensors[tensor]), checkpoint.read(tensors[twin])
        ):
            raise KzooError(
                f"{checkpoint.directory}: '{tensors[tensor]}' differs from '{tensors[twin]}', but kzoo's "
                f"{family.model_type} has one table for both, so these weights are not loaded."
            )
    fresh = set()
    for variable in model.weights:
        path = variable.path.removeprefix(f"{model.name}/")
        if path not in table:
            fresh.add(path.rsplit("/", 1)[0])
            continue
        name = tensors[table[path].tensor]
        array = checkpoint.read(name)
        try:
            value = table[path].transform(array)
        except ValueError:
            value = array
        if value.shape != tuple(variable.shape):
            raise KzooError(
                f"{checkpoint.directory}: the tensor '{name}' has shape {array.shape}, which does not fit the "
                f"model's {path} {tuple(variable.shape)}: config.json, or an override, does not belong to it."
            )
        variable.assign(value)
    if fresh:
        warnings.warn(
            f"{checkpoint.directory} has no weights for {' and '.join(sorted(fresh))}, which start fresh: train "
            "the model before you trust what comes out of them.",
            stacklevel=3,
        )


def _without_missing_layers(table: Table, family: Family, tensors: Collection[str]) -> Table:
    """Return the table without the layers that may start fresh and of which the checkpoint has nothing."""
    absent = [
        layer
        for layer in family.may_be_missing
        if not any(source.tensor in tensors for path, source in table.items() if path.startswith(f"{layer}/"))
    ]
    return {
        path: source
        for path, source in table.items()
        if not any(path.startswith(f"{layer}/") for layer in absent)
    }


def _check_names(checkpoint: Checkpoint, family: Family, table: Table, tensors: Mapping[str, str]) -> None:
    used = {source.tensor for source in table.values()}
    problems = {
        "missing": sorted(used - set(tensors)),
        "unexpected": sorted(
            name
            for canonical, name in tensors.items()
            if canonical not in used and not family.is_known(canonical)
        ),
    }
    if any(problems.values()):
        told = "; ".join(
            f"{kind}: {', '.join(names[:_LISTED])}"
            + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
            for kind, names in problems.items()
            if names
        )
        raise KzooError(
            f"{checkpoint.directory} does not hold the tensors of the {family.model_type} that its config.json "
            f"describes. {told}."
        )
