"""Text generation: what follows a text, by a causal language model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kzoo.errors import KzooError
from kzoo.runtime.bundle import Bundle
from kzoo.runtime.caches import NEXT_TOKENS, empty_cache, vocab_size
from kzoo.runtime.inputs import Batch, TextReader
from kzoo.runtime.pipeline import Pipeline
from kzoo.runtime.searching import Search, generator
from kzoo.runtime.session import Session
from kzoo.search import CachedStep, Constraints


class TextGeneration(Pipeline):
    """What follows a text, by a causal language model."""

    outputs = {"model": NEXT_TOKENS}
    spinning = False
    reader: TextReader

    def __init__(self, bundle: Bundle, sessions: Mapping[str, Session]):
        super().__init__(bundle, sessions)
        self.reader = self._text_reader()
        self._defaults = self._generation_defaults()

    def __call__(
        self,
        inputs: Any,
        *,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        num_beams: int = 1,
        num_return: int | None = None,
        length_penalty: float = 1.0,
        length_offset: float = 0.0,
        repetition_penalty: float = 1.0,
        no_repeat_ngram: int = 0,
        batch_size: int = 32,
    ) -> Any:
        """Continue each prompt.

        A prompt and its continuation share the model's length. The last tokens of a long prompt are kept, so
        that there is room for `max_new_tokens`, though for at most half of the model's length.

        Args:
            inputs: a prompt or a list of prompts.
            max_new_tokens: most tokens of a continuation; the bundle's default if None.
            temperature: 0 takes the most probable token each time; above 0 draws, and less is safer.
            top_k: draw among this many most probable tokens.
            top_p: draw among the fewest tokens whose probabilities add up to this.
            seed: the same seed and inputs give the same continuations.
            num_beams: continuations kept side by side while they grow; 1 keeps one.
            num_return: how many continuations of each prompt to return, `num_beams` at most; None for the best one.
            length_penalty: see `Translation`; counts the continuation's tokens.
            length_offset: see `Translation`.
            repetition_penalty: see `kzoo.search.Constraints`; applied to log-probabilities.
            no_repeat_ngram: see `kzoo.search.Constraints`.
            batch_size: prompts run together; more is faster and takes more memory.

        Returns:
            `{"text": str}` for each prompt: the continuation without the prompt. With `num_return` a list of
            `{"text": str, "score": float}`, best first.

        Raises:
            KzooError: if an input is no string, the list is empty, or an argument is out of range.
        """
        search = Search(
            num_beams,
            num_return,
            length_penalty,
            length_offset,
            temperature,
            top_k,
            top_p,
            generator(seed),
            Constraints(repetition_penalty, no_repeat_ngram),
        )
        length = self.reader.max_length
        limit = self._defaults.max_new_tokens if max_new_tokens is None else max_new_tokens
        reader = TextReader(self.reader.tokenizer, length - max(1, min(limit, length // 2)), keep="last")
        graph = self.manifest.graphs["model"]

        def compute(batch: Batch) -> list[Any]:
            prompts, mask = self._left_padded(batch.feeds["input_ids"], batch.feeds["attention_mask"])
            cache = empty_cache(graph, len(mask))
            step = CachedStep(self._sessions["model"], "input_ids", cache, vocab_size(graph), mask=mask)
            end_id, room = self._defaults.end_id, min(limit, length - prompts.shape[1])
            found = search.run(step, prompts, end_id, room, mask)
            kept = [hypotheses[: num_return or 1] for hypotheses in found]
            rows = [hypothesis.ids for hypotheses in kept for hypothesis in hypotheses]
            texts = iter(self.reader.tokenizer.decode_batch(rows))
            results = [
                [{"text": next(texts), "score": hypothesis.score} for hypothesis in hypotheses]
                for hypotheses in kept
            ]
            return [{"text": result[0]["text"]} for result in results] if num_return is None else results

        return self._in_batches(reader, inputs, batch_size, compute)

    def _left_padded(
        self, input_ids: np.ndarray, attention_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Move the padding to the left, so that all prompts end where their continuations begin."""
        tokenizer = self.reader.tokenizer
        prompts = []
        for ids, size in zip(input_ids.tolist(), attention_mask.sum(axis=1), strict=True):
            prompt = ids[:size]
            if prompt and prompt[-1] == tokenizer.end_id:  # a template that closes texts; this one goes on
                prompt.pop()
            if not prompt and self._defaults.start_id is None:
                raise KzooError("A prompt is empty, and this model has no start token; give it some text.")
            prompts.append(prompt or [self._defaults.start_id])
        length = max(map(len, prompts))
        padding = [length - len(prompt) for prompt in prompts]
        ids = np.array([[tokenizer.pad_id] * n + prompt for n, prompt in zip(padding, prompts, strict=True)])
        mask = np.array([[0] * n + [1] * (length - n) for n in padding])
        return ids, mask
