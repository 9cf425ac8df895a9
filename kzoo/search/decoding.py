"""Token by token decoding: one loop, and two ways to choose the next token."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kzoo.errors import KzooError

# step(tokens, rows) -> logits. `tokens` int64 (rows, step_length) are appended to what each row has so far;
# `rows` int64 (rows,) says which row of the previous call each one continues, so that a step function
# reorders or shrinks its cache by `cache[rows]`; logits float32 (rows, vocab) are those of the last token.
# The first call gets the whole prompt and rows 0, 1, 2, ...
Step = Callable[[np.ndarray, np.ndarray], np.ndarray]


def generate(
    step: Step,
    prompt_ids: np.ndarray,
    *,
    choose: Callable[[np.ndarray], np.ndarray],
    end_id: int | None,
    max_new_tokens: int,
) -> tuple[list[list[int]], np.ndarray]:
    """Extend prompts until the end token or the limit; finished rows leave the batch.

    Args:
        step: the model, see `Step`.
        prompt_ids: int (batch, prompt_length), at least one token each. Padding is the caller's business.
        choose: picks token ids (rows,) from logits (rows, vocab).
        end_id: the token that ends a row; None if only the limit does.
        max_new_tokens: most tokens to emit for a row, end token included.

    Returns:
        The new token ids of each row, without the prompt and the end token; and float32 (batch,) scores: the
        mean log-probability, under the model's own distribution, of the tokens emitted, end token included.

    Raises:
        KzooError: if the prompt is empty, the limit below 1, or the model's logits are not numbers.
    """
    tokens = np.asarray(prompt_ids, np.int64)
    if tokens.ndim != 2 or tokens.size == 0:
        raise KzooError(
            f"Prompts have shape {tokens.shape}; expected (batch, length), at least one token each."
        )
    if max_new_tokens < 1:
        raise KzooError(f"max_new_tokens is {max_new_tokens}; it must be at least 1.")
    batch = len(tokens)
    emitted: list[list[int]] = [[] for _ in range(batch)]
    totals, counts = np.zeros(batch), np.zeros(batch)
    active = np.arange(batch)  # which prompt each row of the shrinking batch belongs to
    rows = np.arange(batch)
    for _ in range(max_new_tokens):
        logits = step(tokens, rows)
        chosen = choose(logits)
        totals[active] += _log_probability(logits, chosen)
        counts[active] += 1
        rows = np.flatnonzero(chosen != end_id) if end_id is not None else np.arange(len(chosen))
        active, chosen = active[rows], chosen[rows]
        for prompt, token in zip(active, chosen, strict=True):
            emitted[prompt].append(int(token))
        if len(rows) == 0:
            break
        tokens = chosen[:, None].astype(np.int64)
    return emitted, (totals / counts).astype(np.float32)


def greedy(
    step: Step, prompt_ids: np.ndarray, *, end_id: int | None, max_new_tokens: int
) -> tuple[list[list[int]], np.ndarray]:
    """Take the most probable token each time. Arguments, results and errors are those of `generate`.

    Example:
        >>> def count_up(tokens, rows):
        ...     return np.eye(10, dtype=np.float32)[tokens[:, -1] + 1]
        >>> greedy(count_up, np.array([[1], [5]]), end_id=8, max_new_tokens=4)[0]
        [[2, 3, 4, 5], [6, 7]]
    """
    return generate(
        step,
        prompt_ids,
        choose=lambda logits: logits.argmax(axis=-1),
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
        >>> step = lambda tokens, rows: np.zeros((len(tokens), 5), np.float32)
        >>> ids, _ = sample(step, np.array([[0]]), end_id=None, max_new_tokens=3, seed=0)
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

    def choose(logits: np.ndarray) -> np.ndarray:
        return _draw(logits, random.random(len(logits)), temperature, top_k, top_p)

    return generate(step, prompt_ids, choose=choose, end_id=end_id, max_new_tokens=max_new_tokens)


def _draw(
    logits: np.ndarray, uniform: np.ndarray, temperature: float, top_k: int | None, top_p: float | None
) -> np.ndarray:
    """Pick one token a row, by its place in [0, 1), from what top-k and then top-p leave."""
    candidates = np.broadcast_to(np.arange(logits.shape[1]), logits.shape)
    if top_k is not None and top_k < logits.shape[1]:
        candidates = np.argpartition(-logits, top_k - 1, axis=1)[:, :top_k]
        logits = np.take_along_axis(logits, candidates, axis=1)
    if top_p is not None:
        order = np.argsort(-logits, axis=1, kind="stable")
        candidates = np.take_along_axis(candidates, order, axis=1)
        logits = np.take_along_axis(logits, order, axis=1)
    # The highest logit is taken off first, so that a small temperature overflows nowhere.
    weights = np.exp((logits.astype(np.float64) - logits.max(axis=1, keepdims=True)) / temperature)
    cumulative = weights.cumsum(axis=1)
    if top_p is not None:
        weights[cumulative - weights >= top_p * cumulative[:, -1:]] = 0
        cumulative = weights.cumsum(axis=1)
    total = cumulative[:, -1:]
    place = np.minimum(
        uniform[:, None] * total, np.nextafter(total, 0)
    )  # the product may round up to the total
    picked = (cumulative <= place).sum(axis=1)
    return np.take_along_axis(candidates, picked[:, None], axis=1)[:, 0]


def _log_probability(logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Log-softmax of `logits` (rows, vocab) at `tokens` (rows,)."""
    highest = logits.max(axis=1)
    with np.errstate(invalid="ignore"):  # not-a-number is reported below
        total = np.log(np.exp(logits - highest[:, None]).sum(axis=1, dtype=np.float64)) + highest
    if not np.isfinite(total).all():
        raise KzooError(
            "The model's logits are not numbers: were its weights damaged, or is float16 too small?"
        )
    return np.take_along_axis(logits, tokens[:, None], axis=1)[:, 0] - total
