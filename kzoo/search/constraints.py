"""Steps that discourage what was written already."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kzoo.errors import KzooError
from kzoo.search.steps import Step

_NONE = -1  # stands for no token


@dataclass(frozen=True)
class Constraints:
    """What may not be written again, or less gladly.

    Attributes:
        repetition_penalty: the log-probability of a token that the text or its prompt has already is multiplied by
            this: above 1 for fewer repetitions (Keskar et al., 2019, section 4.1), 1 for no difference.
        no_repeat_ngram: no this many tokens come up twice in a row in one text, prompt included; 0 for no such rule.

    Raises:
        KzooError: if one is out of range.
    """

    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.repetition_penalty < np.inf:
            raise KzooError(f"repetition_penalty is {self.repetition_penalty}; it must be above 0.")
        if self.no_repeat_ngram < 0:
            raise KzooError(f"no_repeat_ngram is {self.no_repeat_ngram}; it must be 0, for none, or more.")

    def applied(self, step: Step, mask: np.ndarray | None = None) -> Step:
        """Return a step function that keeps to these; the very same one if there are none.

        Args:
            step: the model.
            mask: int (rows, length), 0 for the prompts' padding, which is no text.
        """
        return step if self == Constraints() else ConstrainedStep(step, self, mask)


class ConstrainedStep:
    """A step function that asks another one for more candidates than are wanted, and ranks them anew.

    No more tokens than were written can lose their places, so that with as many candidates more the best are among
    them whatever happens; where tokens may gain, all of them are asked for.
    """

    def __init__(self, step: Step, constraints: Constraints, mask: np.ndarray | None = None):
        self._step = step
        self._constraints = constraints
        self._mask = mask
        self._written: np.ndarray | None = None

    def __call__(
        self, tokens: np.ndarray, rows: np.ndarray, top_k: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Append `tokens` (rows, length) to what `rows` have; see `Step`."""
        if self._written is None:
            self._written = tokens if self._mask is None else np.where(self._mask == 1, tokens, _NONE)
        else:
            self._written = np.concatenate([self._written[rows], tokens], axis=1)
        penalty = self._constraints.repetition_penalty
        penalised = self._written if penalty != 1 else self._written[:, :0]
        banned = _closing_ngrams(self._written, self._constraints.no_repeat_ngram)
        more = penalised.shape[1] + int((banned != _NONE).sum(axis=1).max(initial=0))
        asked = None if top_k is None or penalty < 1 else top_k + more
        ids, log_probs = self._step(tokens, rows, asked)
        log_probs = np.where(_are_among(ids, penalised, asked), log_probs * np.float32(penalty), log_probs)
        log_probs[_are_among(ids, banned, asked)] = -np.inf
        return (ids, log_probs) if top_k is None else best(ids, log_probs, top_k)


def best(ids: np.ndarray, log_probs: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `top_k` best of some candidates (rows, candidates), best first, where equal the first of them."""
    order = np.argsort(-log_probs, axis=1, kind="stable")[:, :top_k]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(log_probs, order, axis=1)


def _closing_ngrams(written: np.ndarray, size: int) -> np.ndarray:
    """Return the tokens (rows, n) that would end a row with `size` tokens that it has already; `_NONE` elsewhere."""
    if size == 0 or written.shape[1] < size:
        return written[:, :0]
    windows = np.lib.stride_tricks.sliding_window_view(written, size, axis=1)
    last = written[:, None, written.shape[1] - size + 1 :]
    same = ((windows[:, :, :-1] == last) & (last != _NONE)).all(axis=2)
    return np.where(same, windows[:, :, -1], _NONE)


def _are_among(ids: np.ndarray, tokens: np.ndarray, asked: int | None) -> np.ndarray:
    """Return which of the candidates `ids` (rows, candidates) are among each row's `tokens` (rows, n)."""
    if asked is not None:
        return (ids[:, :, None] == tokens[:, None, :]).any(axis=2)
    # All tokens, in the order of their ids; one more place is for those that are none.
    found = np.zeros((len(ids), ids.shape[1] + 1), bool)
    np.put_along_axis(found, tokens, True, axis=1)
    return found[:, :-1]
