"""A checkpoint's tensors into a model's variables."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Collection, Mapping

import numpy as np

from kzoo.errors import KzooError
from kzoo.models.base import TransformerModel
from kzoo.weights import Checkpoint, Family, Head, Table

_LISTED = 10


def by_canonical_name(checkpoint: Checkpoint, family: Family) -> dict[str, str]:
    """Return the checkpoint's names of its tensors, by the names that the family's tables use."""
    tensors: dict[str, str] = {}
    for name in checkpoint.names:
        canonical = family.canonical(name)
        if canonical in tensors:
            raise KzooError(
                f"{checkpoint.directory} has '{tensors[canonical]}' and '{name}': only one can be meant."
            )
        tensors[canonical] = name
    return tensors


def variables(model: TransformerModel) -> dict[str, object]:
    """Return the model's variables by their path below its name."""
    return {variable.path.removeprefix(f"{model.name}/"): variable for variable in model.weights}


def model_lines(model: TransformerModel, family: Family, head: Head | None) -> Table:
    """Return the lines of the tables that the model has variables for.

    Raises:
        KzooError: a variable of the backbone has no line.
    """
    paths = variables(model)
    lines = family.lines(dataclasses.asdict(model.backbone.config), head)
    unknown = [path for path in paths if path not in lines and path.startswith("backbone/")]
    if unknown:
        raise KzooError(
            f"The checkpoints of model_type='{family.model_type}' have no tensor for {', '.join(unknown[:_LISTED])}: "
            "the config, or an override, describes another model."
        )
    return {path: lines[path] for path in paths if path in lines}


def assign(
    model: TransformerModel,
    checkpoint: Checkpoint,
    family: Family,
    tensors: Mapping[str, str],
    head: Head | None,
    stacklevel: int,
) -> None:
    """Put the tensors into the model's variables, one at a time, and warn of variables that start fresh.

    Args:
        model: the model.
        checkpoint: what is read.
        family: whose tables hold.
        tensors: the checkpoint's names by canonical name.
        head: the head that is loaded, if any.
        stacklevel: of the warning.

    Raises:
        KzooError: tensors are missing, unexpected, of another shape, or differ where kzoo has one variable.
    """
    lines = model_lines(model, family, head)
    tensors = _settle_ties(checkpoint, family, tensors, head, {source.tensor for source in lines.values()})
    lines = _without_missing_layers(lines, family, tensors)
    _check_names(checkpoint, family, lines, tensors)
    fresh = set()
    for path, variable in variables(model).items():
        if path not in lines:
            fresh.add(path.rsplit("/", 1)[0])
            continue
        name = tensors[lines[path].tensor]
        array = checkpoint.read(name)
        try:
            value = lines[path].read(array)
        except ValueError:
            value = array
        if value.shape != tuple(variable.shape):
            raise KzooError(
                f"{checkpoint.directory}: the tensor '{name}' has shape {array.shape}, which does not fit the "
                f"model's {path} {tuple(variable.shape)}: config.json, or an override, does not belong to it."
            )
        variable.assign(value)
    fresh -= set(head.without if head is not None else ())
    if fresh:
        warnings.warn(
            f"{checkpoint.directory} has no weights for {' and '.join(sorted(fresh))}, which start fresh: train "
            "the model before you trust what comes out of them.",
            stacklevel=stacklevel,
        )


def _settle_ties(
    checkpoint: Checkpoint,
    family: Family,
    tensors: Mapping[str, str],
    head: Head | None,
    used: Collection[str],
) -> dict[str, str]:
    """Let a tensor's twin stand in where only that is stored, and see that the two agree where both are."""
    settled = dict(tensors)
    for name, twin in {**family.tied, **(head.tied if head is not None else {})}.items():
        if name in used or name not in tensors:
            continue
        if twin not in settled:
            settled[twin] = tensors[name]
        elif not np.array_equal(checkpoint.read(tensors[name]), checkpoint.read(settled[twin])):
            raise KzooError(
                f"{checkpoint.directory}: '{tensors[name]}' differs from '{settled[twin]}', but kzoo's "
                f"{family.model_type} has one table for both, so these weights are not loaded."
            )
    return settled


def _without_missing_layers(lines: Table, family: Family, tensors: Collection[str]) -> Table:
    """Return the lines without the layers that may start fresh and of which the checkpoint has nothing."""
    absent = [
        layer
        for layer in family.may_be_missing
        if not any(source.tensor in tensors for path, source in lines.items() if path.startswith(f"{layer}/"))
    ]
    return {
        path: source
        for path, source in lines.items()
        if not any(path.startswith(f"{layer}/") for layer in absent)
    }


def _check_names(checkpoint: Checkpoint, family: Family, lines: Table, tensors: Mapping[str, str]) -> None:
    used = {source.tensor for source in lines.values()}
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
