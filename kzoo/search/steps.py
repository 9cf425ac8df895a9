"""What decoding asks of a model: the most probable next tokens, from one step to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from kzoo.errors import KzooError

PAST, PRESENT = "past_key_values.", "present."


class Step(Protocol):
    """A model that is asked for next tokens again and again.

    Each call's `tokens`, int64 (rows, length), are appended to what the rows have so far; `rows`, int64 (rows,), says
    which row of the previous call each one continues, so that rows can leave, change places and multiply. The first
    call gets the whole prompts and rows 0, 1, 2, ... Where rows share something, such as a sentence that is
    translated, they stand one after another, and as many for each.

    The answer is the `top_k` most probable next tokens of each row, best first, all if the model has no more, and
    their log-probabilities: int64 and float32 (rows, top_k). With `top_k` None it is all tokens in the order of
    their ids.
    """

    def __call__(
        self, tokens: np.ndarray, rows: np.ndarray, top_k: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return next tokens and their log-probabilities."""
        ...


class Runner(Protocol):
    """A graph that runs: in ONNX Runtime, or in Keras."""

    def run_kept(self, feeds: Mapping[str, Any], outputs: Sequence[str]) -> dict[str, Any]:
        """Return the outputs of these names, in whatever form they are best fed again."""
        ...

    def to_numpy(self, tensor: Any) -> np.ndarray:
        """Return an output as an array."""
        ...


class CachedStep:
    """A step function over a graph whose key and value cache goes in and comes out.

    The cache is never looked at here, only handed on: the graph itself puts its rows in order.

    Args:
        runner: the graph, see `kzoo.models.graphs`; takes `past_key_values.*`, `beam_idx`, `logits_to_keep` and
            `top_k`, and gives `present.*`, `log_probs`, `top_ids` and `top_log_probs`.
        tokens_name: the graph's input for token ids.
        cache: `past_key_values.*` of the first step, without any tokens.
        vocab_size: number of tokens.
        memory: what the graph takes with one row for several of the tokens' rows: the sentences that are
            translated, and their `attention_mask`. Sentences whose rows have all left leave too.
        mask: int64 (rows, length) of 1 for the prompts' real tokens, for a graph whose `attention_mask` grows.
    """

    def __init__(
        self,
        runner: Runner,
        tokens_name: str,
        cache: Mapping[str, Any],
        vocab_size: int,
        *,
        memory: Mapping[str, Any] | None = None,
        mask: np.ndarray | None = None,
    ):
        self._runner = runner
        self._tokens_name = tokens_name
        self._cache = dict(cache)
        self._presents = tuple(PRESENT + name.removeprefix(PAST) for name in cache)
        self._vocab_size = vocab_size
        self._memory = dict(memory or {})
        self._mask = mask
        self._sentences = self._rows = 0

    def __call__(
        self, tokens: np.ndarray, rows: np.ndarray, top_k: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Append `tokens` (rows, length) to what `rows` have; see `Step`."""
        self._follow(rows)
        feeds = {self._tokens_name: tokens, "beam_idx": rows, **self._memory, **self._cache}
        if self._mask is not None:
            feeds["attention_mask"] = self._mask
        feeds["logits_to_keep"] = np.array(1)
        feeds["top_k"] = np.array(min(top_k or 1, self._vocab_size))
        wanted = ("log_probs",) if top_k is None else ("top_ids", "top_log_probs")
        outputs = self._runner.run_kept(feeds, wanted + self._presents)
        self._cache = {
            name: outputs[present] for name, present in zip(self._cache, self._presents, strict=True)
        }
        *ids, log_probs = (self._runner.to_numpy(outputs[name])[:, -1] for name in wanted)
        if top_k is None:
            ids = [np.broadcast_to(np.arange(log_probs.shape[1]), log_probs.shape)]
        return ids[0].astype(np.int64, copy=False), log_probs

    def _follow(self, rows: np.ndarray) -> None:
        """Choose what else goes in with these rows of the previous call's."""
        previous, self._rows = self._rows, len(rows)
        if previous == 0:
            self._sentences = len(rows)
            return
        if self._mask is not None:
            self._mask = np.pad(self._mask[rows], ((0, 0), (0, 1)), constant_values=1)
        # All rows of a single sentence are its own.
        if self._memory and self._sentences > 1:
            owners = rows // (previous // self._sentences)
            if np.array_equal(owners, np.repeat(np.arange(self._sentences), len(rows) // self._sentences)):
                return
            kept = np.unique(owners)
            if not np.array_equal(owners, np.repeat(kept, len(rows) // len(kept))):
                raise KzooError(
                    "The rows of a sentence must stand one after another, as many for each sentence."
                )
            if len(kept) < self._sentences:
                self._memory = {
                    name: self._runner.to_numpy(value)[kept] for name, value in self._memory.items()
                }
                self._sentences = len(kept)


def check_prompts(prompt_ids: np.ndarray, max_new_tokens: int) -> np.ndarray:
    """Return prompts as int64 (batch, length).

    Raises:
        KzooError: if they are empty or the limit is below 1.
    """
    tokens = np.asarray(prompt_ids, np.int64)
    if tokens.ndim != 2 or tokens.size == 0:
        raise KzooError(
            f"Prompts have shape {tokens.shape}; expected (batch, length), at least one token each."
        )
    if max_new_tokens < 1:
        raise KzooError(f"max_new_tokens is {max_new_tokens}; it must be at least 1.")
    return tokens


def check_numbers(log_probs: np.ndarray) -> None:
    """Refuse log-probabilities (rows, tokens) of which not one is a number.

    Raises:
        KzooError: they come from a model that is damaged, or too large for its precision.
    """
    if not np.isfinite(log_probs.max(axis=1)).all():
        raise KzooError(
            "The model's logits are not numbers: were its weights damaged, or is float16 too small?"
        )
