"""Token by token decoding: one loop, and two ways to choose the next token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from kzoo.errors import KzooError
from kzoo.search.steps import Step, check_numbers, check_prompts

Choice = Callable[[np.ndarray], np.ndarray]


class Emitted(NamedTuple):
    """The tokens of one step.

    Attributes:
        prompts: int (rows,), which prompt each token continues.
        tokens: int (rows,), end tokens among them.
        log_probs: float32 (rows,).
    """

    prompts: np.ndarray
    tokens: np.ndarray
    log_probs: np.ndarray


def emit(
    step: Step,
    prompt_ids: np.ndarray,
    *,
    choose: Choice,
    top_k: int | None,
    end_id: int | None,
    max_new_tokens: int,
) -> Iterator[Emitted]:
    """Extend prompts until the end token or the limit, and yield each step's tokens; finished rows leave the batch.

    Args:
        step: the model, see `Step`.
        prompt_ids: int (batch, prompt_length), at least one token each. Padding is the caller's business.
        choose: picks a column (rows,) from the log-probabilities (rows, tokens) of those that the step gives.
        top_k: how many most probable tokens are chosen from; None for all.
        end_id: the token that ends a row; None if only the limit does.
        max_new_tokens: most tokens to emit for a row, end token included.

    Raises:
        KzooError: if the prompt is empty, the limit below 1, or the model's logits are not numbers.
    """
    tokens = check_prompts(prompt_ids, max_new_tokens)
    active = rows = rows_of = np.arange(len(tokens))
    for _ in range(max_new_tokens):
        ids, log_probs = step(tokens, rows, top_k)
        check_numbers(log_probs)
        places = rows_of[: len(ids)], choose(log_probs)
        chosen = ids[places]
        yield Emitted(active, chosen, log_probs[places])
        rows = np.flatnonzero(chosen != end_id) if end_id is not None else np.arange(len(chosen))
        if len(rows) == 0:
            break
        active, tokens = active[rows], chosen[rows, None]


def generate(
    step: Step,
    prompt_ids: np.ndarray,
    *,
    choose: Choice,
    top_k: int | None,
    end_id: int | None,
    max_new_tokens: int,
) -> tuple[list[list[int]], np.ndarray]:
    """Extend prompts until the end token or the limit. Arguments and errors are those of `emit`.

    Returns:
        The new token ids of each row, without the prompt and the end token; and float32 (batch,) scores: the
        mean log-probability, under the model's own distribution, of the tokens emitted, end token included.
    """
    emitted: list[list[int]] = [[] for _ in prompt_ids]
    totals, counts = np.zeros(len(emitted)), np.zeros(len(emitted))
    for prompts, tokens, log_probs in emit(
        step, prompt_ids, choose=choose, top_k=top_k, end_id=end_id, max_new_tokens=max_new_tokens
    ):
        totals[prompts] += log_probs
        counts[prompts] += 1
        for prompt, token in zip(prompts, tokens, strict=True):
            if token != end_id:
                emitted[prompt].append(int(token))
    return emitted, (totals / counts).astype(np.float32)


def greedy(
    step: Step, prompt_ids: np.ndarray, *, end_id: int | None, max_new_tokens: int
) -> tuple[list[list[int]], np.ndarray]:
    """Take the most probable token each time. Arguments, results and errors are those of `generate`.

    Example:
        >>> def count_up(tokens, rows, top_k):
        ...     return tokens[:, -1:] + 1, np.zeros((len(tokens), 1), np.float32)
        >>> greedy(count_up, np.array([[1], [5]]), end_id=8, max_new_tokens=4)[0]
        [[2, 3, 4, 5], [6, 7]]
    """
    return generate(
        step,
        prompt_ids,
        choose=most_probable,
        top_k=1,
        end_id=end_id,
        max_new_tokens=max_new_tokens,
    )


def sample(
    step: Step,
    prompt_ids: np.ndarray,
    *,
    end_id: int | None,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | np.random.Generator | None = None,
) -> tuple[list[list[int]], np.ndarray]:
    """Draw each token at random. Further arguments, results and errors are those of `generate`.

    Args:
        temperature: logits are divided by it; above 0, and below 1 for safer tokens.
        top_k: draw among this many most probable tokens.
        top_p: draw among the fewest tokens whose probabilities add up to this; above 0, at most 1.
        seed: the same seed and prompts give the same tokens.

    Example:
        >>> def even(tokens, rows, top_k):
        ...     return np.tile(np.arange(5), (len(tokens), 1)), np.full((len(tokens), 5), -np.log(5))
        >>> ids, _ = sample(even, np.array([[0]]), end_id=None, max_new_tokens=3, seed=0)
        >>> len(ids[0])
        3
    """
    choose = drawing(temperature, top_k, top_p, seed)
    return generate(
        step, prompt_ids, choose=choose, top_k=top_k, end_id=end_id, max_new_tokens=max_new_tokens
    )


def most_probable(log_probs: np.ndarray) -> np.ndarray:
    """Choose the first column, (rows,): the most probable token, where the step gives the best ones."""
    return np.zeros(len(log_probs), np.int64)


def drawing(
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | np.random.Generator | None = None,
) -> Choice:
    """Return what chooses columns at random; the arguments are those of `sample`.

    Raises:
        KzooError: if one is out of range.
    """
    if not temperature > 0:
        raise KzooError(f"temperature is {temperature}; sampling needs one above 0 (use greedy for 0).")
    if top_k is not None and top_k < 1:
        raise KzooError(f"top_k is {top_k}; it must be at least 1.")
    if top_p is not None and not 0 < top_p <= 1:
        raise KzooError(f"top_p is {top_p}; it must be above 0 and at most 1.")
    if isinstance(seed, int) and seed < 0:
        raise KzooError(f"seed is {seed}; it must be 0 or greater.")
    random = np.random.default_rng(seed)
    return lambda log_probs: _draw(log_probs, random.random(len(log_probs)), temperature, top_p)


def _draw(log_probs: np.ndarray, uniform: np.ndarray, temperature: float, top_p: float | None) -> np.ndarray:
    """Pick one column a row, by its place in [0, 1), from what top-p leaves."""
    order = np.argsort(-log_probs, axis=1, kind="stable") if top_p is not None else None
    if order is not None:
        log_probs = np.take_along_axis(log_probs, order, axis=1)
    # The highest is taken off first, so that a small temperature overflows nowhere.
    highest = log_probs.max(axis=1, keepdims=True)
    weights = np.exp((log_probs.astype(np.float64) - highest) / temperature)
    cumulative = weights.cumsum(axis=1)
    if top_p is not None:
        weights[cumulative - weights >= top_p * cumulative[:, -1:]] = 0
        cumulative = weights.cumsum(axis=1)
    total = cumulative[:, -1:]
    # The product may round up to the total.
    place = np.minimum(uniform[:, None] * total, np.nextafter(total, 0))
    picked = (cumulative <= place).sum(axis=1)
    return picked if order is None else np.take_along_axis(order, picked[:, None], axis=1)[:, 0]
