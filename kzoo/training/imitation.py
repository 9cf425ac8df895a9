"""What a student is to have in common with its teacher: which layers, and how far outputs are apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from kzoo.errors import KzooError, did_you_mean

STRATEGIES = ("uniform", "last", "first")
EMBEDDING_LOSSES = ("cosine", "mse")


def map_layers(layers: str | Sequence[int], student: int, teacher: int) -> list[int]:
    """Return for each of a student's layers the teacher's layer, both counted from 1, that it learns from.

    Args:
        layers: `"uniform"`, every so many of the teacher's, the last one among them; `"last"` or `"first"`, those at
            one end; or the teacher's layers themselves, one for each of the student's.
        student: number of the student's layers.
        teacher: number of the teacher's layers.

    Raises:
        KzooError: an unknown strategy, a student with more layers than the teacher, or a layer that is none.

    Example:
        >>> map_layers("uniform", 3, 12), map_layers("last", 2, 6)
        ([4, 8, 12], [5, 6])
    """
    if not isinstance(layers, str):
        if len(layers) != student or not all(1 <= layer <= teacher for layer in layers):
            raise KzooError(
                f"layers={list(layers)}: name one of the teacher's {teacher} layers, counted from 1, for each of the "
                f"student's {student}."
            )
        return list(layers)
    if layers not in STRATEGIES:
        raise KzooError(
            f"Unknown layers '{layers}'.{did_you_mean(layers, STRATEGIES)} Or give a list of numbers."
        )
    if student > teacher:
        raise KzooError(
            f"The student has {student} layers and the teacher {teacher}: say by a list which of the teacher's layer "
            "each of the student's learns from."
        )
    if layers == "uniform":
        return [-(-layer * teacher // student) for layer in range(1, student + 1)]
    first = teacher - student if layers == "last" else 0
    return [first + layer for layer in range(1, student + 1)]


def softened_loss(student: Any, teacher: Any, temperature: float) -> Any:
    """Return the divergence of two softened distributions, times the temperature squared (Hinton et al., 2015).

    Args:
        student: logits (..., classes).
        teacher: logits of the same shape.
        temperature: what both are divided by.

    Returns:
        (...), 0 where the two agree.
    """
    wanted = ops.log_softmax(teacher / temperature, axis=-1)
    got = ops.log_softmax(student / temperature, axis=-1)
    return temperature**2 * ops.sum(ops.exp(wanted) * (wanted - got), axis=-1)


def softened_binary_loss(student: Any, teacher: Any, temperature: float) -> Any:
    """Return the same of labels that are each a yes or no: logits (..., labels) to the mean over labels (...)."""
    got, wanted = (ops.stack([logits, ops.zeros_like(logits)], axis=-1) for logits in (student, teacher))
    return ops.mean(softened_loss(got, wanted, temperature), axis=-1)


def states_loss(student: Any, teacher: Any, real: Any) -> Any:
    """Return the mean squared difference of hidden states over a text's real tokens (Jiao et al., 2020, 3.1).

    Args:
        student: (batch, length, width).
        teacher: the same shape.
        real: (batch, length), 1 for tokens and 0 for padding; None where all are tokens.

    Returns:
        (batch,).
    """
    return mean_of_counted(ops.mean(ops.square(student - teacher), axis=-1), real, axis=-1)


def attention_loss(student: Any, teacher: Any, real: Any) -> Any:
    """Return the divergence of attention maps, the mean over heads and a text's real tokens (Jiao et al., 2020).

    They are compared as the distributions that they are (Wang et al., 2020, section 3.1).

    Args:
        student: (batch, heads, length, length).
        teacher: the same shape.
        real: (batch, length), 1 for tokens and 0 for padding; None where all are tokens.

    Returns:
        (batch,).
    """
    ratio = ops.log(ops.maximum(teacher, 1e-6)) - ops.log(ops.maximum(student, 1e-6))
    return mean_of_counted(ops.mean(ops.sum(teacher * ratio, axis=-1), axis=1), real, axis=-1)


def mean_of_counted(each: Any, counted: Any, axis: int | None = None) -> Any:
    """Return the mean of what counts, 0 where nothing does.

    Args:
        each: numbers.
        counted: 1 for those that count and 0 for others, of the same shape; None where all do.
        axis: over which the mean is; over all unless given.
    """
    if counted is None:
        return ops.mean(each, axis=axis)
    return ops.sum(each * counted, axis=axis) / ops.maximum(ops.sum(counted, axis=axis), 1.0)


def embedding_loss(student: Any, teacher: Any, kind: str = "cosine") -> Any:
    """Return how far vectors (batch, width) are apart, (batch,).

    Args:
        student: vectors.
        teacher: vectors of the same width.
        kind: `"cosine"`, one less the cosine; or `"mse"`, the squared length of the difference.
    """
    if kind == "mse":
        return ops.sum(ops.square(student - teacher), axis=-1)
    return 1.0 - ops.sum(ops.normalize(student, axis=-1) * ops.normalize(teacher, axis=-1), axis=-1)
