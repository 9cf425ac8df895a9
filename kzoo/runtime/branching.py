"""The ways in which a text may go on, and where each one leads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kzoo.search import Step, greedy


class Branch(NamedTuple):
    """A continuation by its first token.

    Attributes:
        log_prob: the first token's.
        ids: all tokens, the first one among them, without the end token: none where that comes at once.
        score: the mean log-probability of the tokens, end token included.
    """

    log_prob: float
    ids: list[int]
    score: float


def branches(step: Step, prompt: np.ndarray, count: int, end_id: int | None, limit: int) -> list[Branch]:
    """Return the `count` most probable next tokens, best first, each with what greedy decoding writes after it.

    Args:
        step: the model.
        prompt: int64 (1, length).
        count: how many.
        end_id: what ends a continuation.
        limit: most tokens of one.
    """
    [tokens], [log_probs] = step(prompt, np.arange(1), count)
    going = np.flatnonzero(tokens != end_id)
    found = {
        int(place): Branch(float(log_probs[place]), [], float(log_probs[place]))
        for place in range(len(tokens))
    }
    for place in going.tolist():
        found[place].ids.append(int(tokens[place]))
    if limit > 1 and len(going):
        rest, means = greedy(
            _branching(step, len(going)), tokens[going, None], end_id=end_id, max_new_tokens=limit - 1
        )
        for place, ids, mean in zip(going.tolist(), rest, means.tolist(), strict=True):
            first = found[place]
            # The end token counts, unless the limit came before it.
            size = min(len(ids) + 1, limit - 1)
            score = (first.log_prob + mean * size) / (1 + size)
            found[place] = Branch(first.log_prob, [*first.ids, *ids], score)
    return [found[place] for place in range(len(tokens))]


def _branching(step: Step, count: int) -> Step:
    """Return a step function whose first rows all continue the other's only row."""
    first = [np.zeros(count, np.int64)]

    def branched(tokens: np.ndarray, rows: np.ndarray, top_k: int | None) -> tuple[np.ndarray, np.ndarray]:
        return step(tokens, first.pop() if first else rows, top_k)

    return branched
