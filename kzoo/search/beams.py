"""Beam search: the best few continuations, kept side by side."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kzoo.errors import KzooError
from kzoo.search.steps import Step, check_numbers, check_prompts


class Hypothesis(NamedTuple):
    """A continuation of a prompt, without the end token, and its log-probability over the length penalty."""

    ids: list[int]
    score: float


def length_penalty_of(length: int, exponent: float, offset: float) -> float:
    """Return what the log-probability of `length` tokens is divided by, 1 for one token.

    With `offset` 0 it is a power of the length, and for exponent 1 the score a mean; with 5 it is that of Wu et al.,
    2016, section 7.

    Example:
        >>> length_penalty_of(7, exponent=1.0, offset=5.0)
        2.0
    """
    return ((offset + length) / (offset + 1.0)) ** exponent


def beam_search(
    step: Step,
    prompt_ids: np.ndarray,
    *,
    num_beams: int,
    end_id: int | None,
    max_new_tokens: int,
    length_penalty: float = 1.0,
    length_offset: float = 0.0,
) -> list[list[Hypothesis]]:
    """Extend each prompt by its `num_beams` best continuations at a time.

    A continuation ends by the end token, if it is then among the best `num_beams`, or by the limit. A prompt is done,
    and its rows leave the batch, when `num_beams` have ended and the best one that goes on would score no better
    than any of these if it ended where it stands; without a penalty it never could.

    Args:
        step: the model, see `Step`.
        prompt_ids: int (batch, prompt_length), at least one token each. Padding is the caller's business.
        num_beams: continuations kept; at least 1.
        end_id: the token that ends a continuation; None if only the limit does.
        max_new_tokens: most tokens of a continuation, end token included.
        length_penalty: the exponent of `length_penalty_of`, of all tokens, end token included; 0 for none, more
            for longer continuations.
        length_offset: the offset of `length_penalty_of`.

    Returns:
        For each prompt the best continuations that ended, best first, `num_beams` at most.

    Raises:
        KzooError: if an argument is out of range, or the model's logits are not numbers.

    Example:
        >>> def coin(tokens, rows, top_k):
        ...     ids, log_probs = np.array([[1, 2]]), np.log([[0.75, 0.25]], dtype=np.float32)
        ...     return np.repeat(ids, len(tokens), 0), np.repeat(log_probs, len(tokens), 0)
        >>> [best] = beam_search(coin, np.array([[0]]), num_beams=2, end_id=2, max_new_tokens=2)
        >>> [hypothesis.ids for hypothesis in best]
        [[1, 1], [1]]
    """
    tokens = check_prompts(prompt_ids, max_new_tokens)
    if num_beams < 1:
        raise KzooError(f"num_beams is {num_beams}; it must be at least 1.")
    if length_offset <= -1:
        raise KzooError(f"length_offset is {length_offset}; it must be above -1.")
    batch = len(tokens)
    ended: list[list[Hypothesis]] = [[] for _ in range(batch)]
    bars = np.full(batch, -np.inf)  # what a further continuation must surpass
    active = np.arange(batch)  # which prompt each group of rows of the shrinking batch belongs to
    rows = np.arange(batch)
    totals = np.zeros((batch, 1))
    written = np.zeros((batch, 1, 0), np.int64)
    for length in range(1, max_new_tokens + 1):
        ids, log_probs = step(tokens, rows, 2 * num_beams)
        check_numbers(log_probs)
        # Twice as many as there are beams, so that enough are left when one of each beam ends.
        group = np.arange(len(active))[:, None]
        sums = (totals[:, :, None] + log_probs.reshape(*totals.shape, -1)).reshape(len(active), -1)
        order = (-sums).argsort(axis=1, kind="stable")[:, : 2 * num_beams]
        sums, origins = sums[group, order], order // ids.shape[1]
        chosen = ids.reshape(len(active), -1)[group, order]
        ending = chosen == end_id if end_id is not None else np.zeros(chosen.shape, bool)
        penalty = length_penalty_of(length, length_penalty, length_offset)

        is_last = length == max_new_tokens
        width = num_beams
        if is_last or ending.any():
            for place, rank in zip(*(ending[:, :num_beams] | is_last).nonzero(), strict=True):
                new = written[place, origins[place, rank]].tolist()
                if not ending[place, rank]:
                    new.append(int(chosen[place, rank]))
                best = ended[active[place]]
                best.append(Hypothesis(new, float(sums[place, rank] / penalty)))
                best.sort(key=lambda hypothesis: -hypothesis.score)
                del best[num_beams:]
                if len(best) == num_beams:
                    bars[active[place]] = best[-1].score
            width = min(num_beams, int((~ending).sum(axis=1).min()))
            if is_last or width == 0:
                break
            going = ending.argsort(axis=1, kind="stable")
            sums, origins, chosen = sums[group, going], origins[group, going], chosen[group, going]
        totals, origins, chosen = (each[:, :width] for each in (sums, origins, chosen))
        rows = group * written.shape[1] + origins
        written = np.concatenate([written[group, origins], chosen[:, :, None]], axis=2)
        stays = totals[:, 0] / penalty > bars[active]
        if not stays.all():
            active, totals, chosen, rows, written = (
                each[stays] for each in (active, totals, chosen, rows, written)
            )
            if not len(active):
                break
        rows, tokens = rows.ravel(), chosen.reshape(-1, 1)
    return ended
