"""Tasks that write text token by token: translation and generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo.errors import BundleError, KzooError
from kzoo.runtime.bundle import Bundle
from kzoo.runtime.caches import NEXT_TOKENS, as_past, empty_cache, vocab_size
from kzoo.runtime.inputs import Batch, TextReader
from kzoo.runtime.pipeline import Pipeline
from kzoo.runtime.session import Session
from kzoo.search import CachedStep, Hypothesis, beam_search, greedy, sample
from kzoo.search.steps import PRESENT
from kzoo.text import Tokenizer


@dataclass(frozen=True)
class _Beams:
    """How the best continuation is searched for, and how many are wanted."""

    num_beams: int
    num_return: int | None
    length_penalty: float
    length_offset: float

    def __post_init__(self) -> None:
        if self.num_beams < 1:
            raise KzooError(f"num_beams is {self.num_beams}; it must be at least 1.")
        if self.num_return is not None and not 1 <= self.num_return <= self.num_beams:
            raise KzooError(
                f"num_return is {self.num_return}; it must be at least 1, and at most num_beams, which is "
                f"{self.num_beams}."
            )

    def search(
        self, step: CachedStep, prompts: np.ndarray, end_id: int | None, max_new_tokens: int
    ) -> list[list[Hypothesis]]:
        """Return each prompt's best continuations, as many as are wanted."""
        if self.num_beams == 1:
            ids, scores = greedy(step, prompts, end_id=end_id, max_new_tokens=max_new_tokens)
            return [[Hypothesis(row, float(score))] for row, score in zip(ids, scores, strict=True)]
        found = beam_search(
            step,
            prompts,
            num_beams=self.num_beams,
            end_id=end_id,
            max_new_tokens=max_new_tokens,
            length_penalty=self.length_penalty,
            length_offset=self.length_offset,
        )
        return [hypotheses[: self.num_return or 1] for hypotheses in found]

    def results(
        self, tokenizer: Tokenizer, found: list[list[Hypothesis]], name: str
    ) -> list[list[dict[str, Any]]]:
        """Return `{name: text, "score": score}` for each continuation of each prompt."""
        texts = iter(tokenizer.decode_batch([ids for hypotheses in found for ids, _ in hypotheses]))
        return [
            [{name: next(texts), "score": float(score)} for _, score in hypotheses] for hypotheses in found
        ]


class Translation(Pipeline):
    """A text for each text, by an encoder and a decoder."""

    outputs = {"encoder": (), "decoder": NEXT_TOKENS}
    reader: TextReader

    def __init__(self, bundle: Bundle, sessions: Mapping[str, Session]):
        super().__init__(bundle, sessions)
        self.reader = self._text_reader()
        self._defaults = self._generation_defaults()
        if self._defaults.start_id is None:
            raise BundleError(f"{bundle.folder}: the manifest has no generation.start_id. Export it again.")

    def __call__(
        self,
        inputs: Any,
        *,
        num_beams: int = 1,
        num_return: int | None = None,
        length_penalty: float = 1.0,
        length_offset: float = 0.0,
        max_new_tokens: int | None = None,
        batch_size: int = 32,
    ) -> Any:
        """Translate each text.

        Args:
            inputs: a text or a list of texts.
            num_beams: translations kept side by side while they grow; 1 takes the most probable token each time.
            num_return: how many translations of each text to return, `num_beams` at most; None for the best one.
            length_penalty: with beams, a translation's score is its log-probability over
                `((length_offset + n) / (length_offset + 1)) ** length_penalty`, for n tokens. 0 favours short
                ones; 1 is fair.
            length_offset: 0 takes powers of the length; 5 is the penalty of Wu et al., 2016.
            max_new_tokens: most tokens of a translation; the bundle's default if None.
            batch_size: texts run together; more is faster and takes more memory.

        Returns:
            `{"translation": str, "score": float}` for each text; the score is the mean log-probability of
            the translation's tokens, 0 at best, unless `length_penalty` says otherwise. With `num_return` a list
            of these, best first.

        Raises:
            KzooError: if an input is no string, the list is empty, or an argument is out of range.
        """
        beams = _Beams(num_beams, num_return, length_penalty, length_offset)
        limit = self._defaults.max_new_tokens if max_new_tokens is None else max_new_tokens
        limit = min(limit, self.reader.max_length)

        graph = self.manifest.graphs["decoder"]
        encoder, decoder = self._sessions["encoder"], self._sessions["decoder"]
        memory_names = [name for name in encoder.outputs if name.startswith(PRESENT)]

        def compute(batch: Batch) -> list[Any]:
            mask = batch.feeds["attention_mask"]
            encoded = as_past(encoder.run_kept(batch.feeds, memory_names))
            step = CachedStep(
                decoder,
                "decoder_input_ids",
                empty_cache(graph, len(mask)),
                vocab_size(graph),
                memory={"attention_mask": mask, **encoded},
            )
            start = np.full((len(mask), 1), self._defaults.start_id)
            found = beams.search(step, start, self._defaults.end_id, limit)
            results = beams.results(self.reader.tokenizer, found, "translation")
            return [result[0] for result in results] if num_return is None else results

        return self._in_batches(self.reader, inputs, batch_size, compute)


class TextGeneration(Pipeline):
    """What follows a text, by a causal language model."""

    outputs = {"model": NEXT_TOKENS}
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
            batch_size: prompts run together; more is faster and takes more memory.

        Returns:
            `{"text": str}` for each prompt: the continuation without the prompt. With `num_return` a list of
            `{"text": str, "score": float}`, best first.

        Raises:
            KzooError: if an input is no string, the list is empty, or an argument is out of range.
        """
        if temperature == 0 and (top_k is not None or top_p is not None):
            raise KzooError(
                "top_k and top_p are for drawing: give a temperature above 0 too, for example 0.8."
            )
        if temperature != 0 and num_beams != 1:
            raise KzooError("num_beams is for a search: leave the temperature at 0, or num_beams at 1.")
        beams = _Beams(num_beams, num_return, length_penalty, length_offset)
        length = self.reader.max_length
        limit = self._defaults.max_new_tokens if max_new_tokens is None else max_new_tokens
        reader = TextReader(self.reader.tokenizer, length - max(1, min(limit, length // 2)), keep="last")
        if seed is not None and seed < 0:
            raise KzooError(f"seed is {seed}; it must be 0 or greater.")
        random = np.random.default_rng(seed)  # one for all batches, so that they draw different numbers

        graph = self.manifest.graphs["model"]

        def compute(batch: Batch) -> list[Any]:
            prompts, mask = self._left_padded(batch.feeds["input_ids"], batch.feeds["attention_mask"])
            cache = empty_cache(graph, len(mask))
            step = CachedStep(self._sessions["model"], "input_ids", cache, vocab_size(graph), mask=mask)
            end_id, room = self._defaults.end_id, min(limit, length - prompts.shape[1])
            if temperature == 0:
                found = beams.search(step, prompts, end_id, room)
            else:
                ids, scores = sample(
                    step,
                    prompts,
                    end_id=end_id,
                    max_new_tokens=room,
                    temperature=temperature,
                    top_k=top_k,
                    top_p=top_p,
                    seed=random,
                )
                found = [[Hypothesis(row, float(score))] for row, score in zip(ids, scores, strict=True)]
            results = beams.results(self.reader.tokenizer, found, "text")
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
