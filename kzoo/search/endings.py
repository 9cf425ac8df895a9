"""Continuations that end at the limit as others do: with the end token."""

from __future__ import annotations

import numpy as np

from kzoo.search.steps import Step


class EndingStep:
    """A step function that has nothing but the end token to say once there is room for one more token only.

    Some models were published with this rule: what reaches the limit loses its last token, and pays nothing for the
    end token.

    Args:
        step: the model.
        end_id: the token that ends a continuation.
        max_new_tokens: the limit, end token included.

    Example:
        >>> from kzoo.search import greedy
        >>> def count_up(tokens, rows, top_k):
        ...     return tokens[:, -1:] + 1, np.zeros((len(tokens), 1), np.float32)
        >>> greedy(EndingStep(count_up, 99, 3), np.array([[1]]), end_id=99, max_new_tokens=3)[0]
        [[2, 3]]
    """

    def __init__(self, step: Step, end_id: int, max_new_tokens: int):
        self._step = step
        self._end_id = end_id
        self._remaining = max_new_tokens

    def __call__(
        self, tokens: np.ndarray, rows: np.ndarray, top_k: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Append `tokens` (rows, length) to what `rows` have; see `Step`."""
        self._remaining -= 1
        if self._remaining == 0 and top_k is not None:
            return np.full((len(tokens), 1), self._end_id), np.zeros((len(tokens), 1), np.float32)
        ids, log_probs = self._step(tokens, rows, top_k)
        if self._remaining == 0:
            log_probs = np.where(ids == self._end_id, np.float32(0), np.float32(-np.inf))
        return ids, log_probs
