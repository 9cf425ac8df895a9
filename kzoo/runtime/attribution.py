"""How much each word counts: the arithmetic of explanations, in numpy, whatever runs the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kzoo.text import Encoding, Text

# Gauss and Legendre's points between -1 and 1, each with its share of the whole, which is 2: exact for polynomials up
# to the 63rd degree, so that a few do what takes hundreds at equal distances.
_NODES, _SHARES = np.polynomial.legendre.leggauss(32)


class Word(NamedTuple):
    """A word of a text: its characters, from `start` to before `end`, and which of a pair's texts they are in."""

    text: str
    start: int
    end: int
    part: int = 0


def words_of(text: Text, encoding: Encoding) -> list[tuple[Word, list[int]]]:
    """Return a text's words, each with the places of its tokens; what was cut off is not among them.

    Args:
        text: a string, or a pair.
        encoding: the text alone, with offsets.
    """
    offsets, parts, numbers = encoding.offsets, encoding.sequence_ids, encoding.word_ids
    if offsets is None or parts is None or numbers is None:
        raise ValueError("the tokenizer gave no offsets")
    found: list[tuple[Word, list[int]]] = []
    before = (-1, -1)
    for place in np.flatnonzero(parts[0] >= 0).tolist():
        part = int(parts[0, place])
        whole = text if isinstance(text, str) else text[part]
        start, end = offsets[0, place].tolist()
        start += len(whole[start:end]) - len(whole[start:end].lstrip())  # some tokens begin with a space
        end = start + len(whole[start:end].rstrip())
        number = (part, int(numbers[0, place]))
        # Some tokenizers take a whole text for one word: there, spaces part words too.
        if (
            found
            and number[0] == before[0]
            and (end == start or (number == before and start <= found[-1][0].end))
        ):
            word, places = found[-1]
            end = max(end, word.end)
            found[-1] = (word._replace(text=whole[word.start : end], end=end), [*places, place])
        else:
            found.append((Word(whole[start:end], start, end, part), [place]))
        before = number
    return found


def log_odds(logits: np.ndarray, column: int, exclusive: bool) -> np.ndarray:
    """Return the logarithm of a class's odds, p / (1 - p), for each row of logits (batch, classes).

    Args:
        logits: (batch, classes).
        column: which class.
        exclusive: whether the classes' probabilities add up to 1.

    Returns:
        float64 (batch,). Of a class beside which there are no others, its logit.

    Example:
        >>> log_odds(np.array([[3.0, 1.0]]), 0, exclusive=True).tolist()
        [2.0]
    """
    own = logits[:, column].astype(np.float64)
    others = np.delete(logits, column, axis=1).astype(np.float64)
    if not exclusive or not others.shape[1]:
        return own
    largest = others.max(axis=1)
    return own - largest - np.log(np.exp(others - largest[:, None]).sum(axis=1))


def without_each(
    feeds: Mapping[str, np.ndarray], groups: Sequence[Sequence[int]], pad_id: int, batch_size: int = 32
) -> Iterator[dict[str, np.ndarray]]:
    """Yield batches of a text's tokens without those of each group in turn.

    Args:
        feeds: arrays (1, length) by name, with `attention_mask`.
        groups: places of tokens.
        pad_id: the token that fills rows up.
        batch_size: most rows of a batch.
    """
    length = feeds["attention_mask"].shape[1]
    for first in range(0, len(groups), batch_size):
        kept = [np.delete(np.arange(length), group) for group in groups[first : first + batch_size]]
        width = max(1, *map(len, kept))
        batch = {}
        for name, array in feeds.items():
            rows = np.full((len(kept), width), pad_id if name == "input_ids" else 0, array.dtype)
            for row, places in zip(rows, kept, strict=True):
                row[: len(places)] = array[0, places]
            batch[name] = rows
        yield batch


def rollout(attention: np.ndarray) -> np.ndarray:
    """Return how much of each token's input reaches each position of the last layer (Abnar and Zuidema, 2020).

    A layer passes on one half through its attention, the mean of its heads, and the other beside it; the layers'
    matrices are multiplied.

    Args:
        attention: (layers, heads, length, length), rows that sum to 1.

    Returns:
        float64 (length, length), rows that sum to 1.

    Example:
        >>> rollout(np.full((2, 1, 2, 2), 0.5)).tolist()
        [[0.625, 0.375], [0.375, 0.625]]
    """
    mixed = 0.5 * attention.astype(np.float64).mean(axis=1) + 0.5 * np.eye(attention.shape[-1])
    mixed /= mixed.sum(axis=-1, keepdims=True)  # rows in half precision miss 1 by a little
    reached = mixed[0]
    for layer in mixed[1:]:
        reached = layer @ reached
    return reached


def integrate(
    slopes: Callable[[np.ndarray], np.ndarray], length: int, moved: Sequence[int], edges: Sequence[float]
) -> np.ndarray:
    """Integrate gradients along the straight line from the baseline to a text (Sundararajan et al., 2017).

    The baseline has zeros in place of the embeddings of the tokens that are `moved`. On the way each of these is
    multiplied by a scale that goes from 0 to 1: the derivative by the scale is the gradient by the embedding times
    the embedding, which is what is integrated.

    Args:
        slopes: takes scales (points, length) and returns the derivatives by them.
        length: the number of tokens.
        moved: places of the tokens that the text consists of; special tokens stay as they are.
        edges: where the line is cut, from 0 to 1; each part has 32 points.

    Returns:
        float64 (length,), 0 for tokens that stay.
    """
    starts, widths = np.asarray(edges[:-1])[:, None], np.diff(edges)[:, None]
    points = (starts + widths * (_NODES + 1) / 2).ravel()
    shares = (widths * _SHARES / 2).ravel()
    scale = np.ones((len(points), length), np.float32)
    scale[:, list(moved)] = points[:, None]
    total = shares @ slopes(scale).astype(np.float64)
    weights = np.zeros(length)
    weights[list(moved)] = total[list(moved)]
    return weights
