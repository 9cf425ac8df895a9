"""Several models that decide on each token together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kzoo.search.constraints import best
from kzoo.search.steps import Step


class AveragedStep:
    """A step function of the mean of other ones' probabilities, all over the same tokens."""

    def __init__(self, steps: Sequence[Step]):
        self._steps = steps

    def __call__(
        self, tokens: np.ndarray, rows: np.ndarray, top_k: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Append `tokens` (rows, length) to what `rows` have; see `Step`."""
        answers = [step(tokens, rows, None) for step in self._steps]
        ids, log_probs = answers[0][0], average([log_probs for _, log_probs in answers])
        return (ids, log_probs) if top_k is None else best(ids, log_probs, top_k)


def average(log_probs: Sequence[np.ndarray]) -> np.ndarray:
    """Return the logarithm of the mean of probabilities whose logarithms are given, arrays of one shape.

    Example:
        >>> float(np.exp(average([np.log([0.5]), np.log([0.1])]))[0].round(6))
        0.3
    """
    total = log_probs[0]
    for each in log_probs[1:]:
        total = np.logaddexp(total, each)
    return total - total.dtype.type(np.log(len(log_probs)))
