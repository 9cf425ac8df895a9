"""Token by token decoding: one loop, and two ways to choose the next token."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kzoo.errors import KzooError
from kzoo.search.steps import Step, check_numbers, check_prompts


def generate(
    step: Step,
    prompt_ids: np.ndarray,
    *,
    choose: Callable[[np.ndarray], np.ndarray],
    top_k: int | None,
    end_id: int | None,
    max_new_tokens: int,
) -> tuple[list[list[int]], np.ndarray]:
    """Extend prompts until the end token or the limit; finished rows leave the batch.

    Args:
        step: the model, see `Step`.
        prompt_ids: int (batch, prompt_length), at least one token each. Padding is the caller's business.
        choose: picks a column (rows,) from the log-probabilities (rows, tokens) of those that the step gives.
        top_k: how many most probable tokens are chosen from; None for all.
        end_id: the token that ends a row; None if only the limit does.
        max_new_tokens: most tokens to emit for a row, end token included.

    Returns:
        The new token ids of each row, without the prompt and the end token; and float32 (batch,) scores: the
        mean log-probability, under the model's own distribution, of the tokens emitted, end token included.

    Raises:
        KzooError: if the prompt is empty, the limit below 1, or the model's logits are not numbers.
    """
    tokens = check_prompts(prompt_ids, max_new_tokens)
    batch = len(tokens)
    emitted: list[list[int]] = [[] for _ in range(batch)]
    totals, counts = np.zeros(batch), np.zeros(batch)
    active = np.arange(batch)  # which prompt each row of the shrinking batch belongs to
    rows = rows_of = np.arange(batch)
    for _ in range(max_new_tokens):
        ids, log_probs = step(tokens, rows, top_k)
        check_numbers(log_probs)
        places = rows_of[: len(ids)], choose(log_probs)
        chosen = ids[places]
        totals[active] += log_probs[places]
        counts[active] += 1
        rows = np.flatnonzero(chosen != end_id) if end_id is not None else np.arange(len(chosen))
        active, chosen = active[rows], chosen[rows]
        for prompt, token in zip(active, chosen, strict=True):
            emitted[prompt].append(int(token))
        if len(rows) == 0:
            break
        tokens = chosen[:, None]
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
        choose=lambda log_probs: np.zeros(len(log_probs), np.int64),
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
    if not temperature > 0:
        raise KzooError(f"temperature is {temperature}; sampling needs one above 0 (use greedy for 0).")
    if top_k is not None and top_k < 1:
        raise KzooError(f"top_k is {top_k}; it must be at least 1.")
    if top_p is not None and not 0 < top_p <= 1:
        raise KzooError(f"top_p is {top_p}; it must be above 0 and at most 1.")
    if isinstance(seed, int) and seed < 0:
        raise KzooError(f"seed is {seed}; it must be 0 or greater.")
    random = np.random.default_rng(seed)

    def choose(log_probs: np.ndarray) -> np.ndarray:
        return _draw(log_probs, random.random(len(log_probs)), temperature, top_p)

    return generate(
        step, prompt_ids, choose=choose, top_k=top_k, end_id=end_id, max_new_tokens=max_new_tokens
    )


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
