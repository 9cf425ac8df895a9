"""A checkpoint's tensors into a model's variables, and back."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import keras
import numpy as np

from kzoo.errors import KzooError
from kzoo.layers import resize_positions
from kzoo.models.base import TransformerModel
from kzoo.models.initialization import Initializer, variables
from kzoo.weights import Checkpoint, Family, Head, Pending, Source, Table, write

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


def implied_knobs(checkpoint: Checkpoint, tensors: Mapping[str, str], head: Head | None) -> dict[str, Any]:
    """Return the knobs of the kzoo config that a head stands for, or that its tensors tell."""
    if head is None:
        return {}
    if head.tie is None:
        return head.knobs
    both = [(name, twin) for name, twin in head.tied.items() if {name, twin} <= tensors.keys()]
    return {
        **head.knobs,
        head.tie: all(
            np.array_equal(checkpoint.read(tensors[name]), checkpoint.read(tensors[twin]))
            for name, twin in both
        ),
    }


def model_lines(model: TransformerModel, family: Family, head: Head | None) -> Table:
    """Return the lines of the tables that the model has variables for.

    Raises:
        KzooError: a variable of the backbone has no line.
    """
    paths = variables(model)
    lines = family.lines(model.backbone.config.knobs(), head)
    unknown = [path for path in paths if path not in lines and path.startswith("backbone/")]
    if unknown:
        raise KzooError(
            f"The checkpoints of model_type='{family.model_type}' have no tensor for {', '.join(unknown[:_LISTED])}: "
            "the config, or an override, describes another model."
        )
    return {path: lines[path] for path in paths if path in lines}


class Loading:
    """A checkpoint's tensors on their way into a model.

    Args:
        checkpoint: what is read.
        family: whose tables hold.
        tensors: the checkpoint's names by canonical name.
        head: the head that is loaded, if any.
        resize: whether the positions of an image's patches may be those of another size.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        family: Family,
        tensors: Mapping[str, str],
        head: Head | None,
        resize: bool,
    ) -> None:
        self.checkpoint = checkpoint
        self.family = family
        self.tensors = tensors
        self.head = head
        self.resize = resize
        self.fresh: set[str] = set()

    def initializers(self, model: TransformerModel) -> dict[str, Initializer]:
        """Return what gives the model's variables their values, by path, and note the layers that start fresh.

        Raises:
            KzooError: tensors are missing, unexpected, of another shape, or differ where kzoo has one variable.
        """
        lines = model_lines(model, self.family, self.head)
        used = {source.tensor for source in lines.values()}
        tensors = _settle_ties(self.checkpoint, self.family, self.tensors, self.head, used)
        lines = _without_missing_layers(lines, self.family, tensors)
        _check_names(self.checkpoint, self.family, lines, tensors)
        grids = {f"backbone/{path}/embeddings": size for path, size in model.backbone.position_grids.items()}
        by_path = variables(model)
        self.fresh = {path.rsplit("/", 1)[0] for path in by_path if path not in lines}
        self.fresh -= set(self.head.without if self.head is not None else ())
        return {
            path: self._initializer(
                path, lines[path], tensors[lines[path].tensor], tuple(by_path[path].shape), grids.get(path)
            )
            for path in by_path
            if path in lines
        }

    def warn(self, stacklevel: int) -> None:
        """Warn of the layers that start fresh."""
        if self.fresh:
            warnings.warn(
                f"{self.checkpoint.directory} has no weights for {' and '.join(sorted(self.fresh))}, which start "
                "fresh: train the model before you trust what comes out of them.",
                stacklevel=stacklevel + 1,
            )

    def _initializer(
        self, path: str, source: Source, name: str, wanted: tuple[int, ...], grid: int | None
    ) -> Initializer:
        stored = self.checkpoint.shape(name)
        try:
            # Zeros that take no memory tell the shape.
            shape = source.read(np.broadcast_to(np.float32(0), stored)).shape
        except ValueError:
            shape = stored
        resized = shape != wanted and self.resize and grid is not None
        if shape != wanted and not (resized and len(shape) == len(wanted) and shape[1:] == wanted[1:]):
            raise KzooError(
                f"{self.checkpoint.directory}: the tensor '{name}' has shape {stored}, which does not fit the "
                f"model's {path} {wanted}: config.json, or an override, does not belong to it."
            )

        def values(shape: Any, dtype: Any = None) -> Any:
            # A copy, because backends may keep the memory that they are given, and the file may change.
            value = np.array(source.read(self.checkpoint.read(name)), order="C")
            if resized and grid is not None:
                value = resize_positions(value, math.isqrt(wanted[0] - grid), grid)
            return keras.ops.convert_to_tensor(value, dtype=dtype)

        return values


def pending(model: TransformerModel, family: Family, head: Head | None) -> dict[str, Pending]:
    """Return the tensors that the family's class stores for a model, by name, each made when it is asked for.

    Raises:
        KzooError: the class has no place for a variable of the model.
    """
    lines = model_lines(model, family, head)
    left_out = tuple(f"{layer}/" for layer in (head.without if head is not None else ()))
    groups: dict[str, list[tuple[Source, keras.Variable]]] = {}
    for path, variable in variables(model).items():
        if path.startswith(left_out or ("/",)):
            continue
        if path not in lines:
            raise KzooError(
                f"The original library's {head.architecture if head else family.architecture} has no place for "
                f"{path}. `model.save('model.keras')` keeps every model."
            )
        name = family.full_name(path, lines[path].tensor, head)
        groups.setdefault(name, []).append((lines[path], variable))
    return {name: _pending(group) for name, group in groups.items()}


def _pending(group: list[tuple[Source, keras.Variable]]) -> Pending:
    sources = [source for source, _ in group]
    variables = [variable for _, variable in group]
    # Zeros that take no memory tell the tensor's shape.
    shapes = [np.broadcast_to(np.float32(0), tuple(variable.shape)) for variable in variables]
    written = [source.layout.write(values) for source, values in zip(sources, shapes, strict=True)]
    shape = list(written[0].shape)
    if sources[0].part is not None:
        shape[sources[0].part.axis] *= len(sources)
    return Pending(
        tuple(shape),
        str(keras.backend.standardize_dtype(variables[0].dtype)),
        lambda: write(sources, [keras.ops.convert_to_numpy(variable.value) for variable in variables]),
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
