"""Text generation: what follows a text, by a causal language model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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

_HALF = "\ufffd"  # what the bytes of half a character are shown as
# Most probabilities that are held at once, where whole texts are told token by token.
_HELD = 8_000_000


@dataclass(frozen=True)
class Likelihood:
    """How probable a part of a text is to a model, and how long it is.

    Attributes:
        log_probability: natural logarithm of the probability of its tokens, each after those before it in the part.
        tokens: how many these are.
        characters: how many characters they are.
        size: how many bytes these are in UTF-8.
    """

    log_probability: float
    tokens: int
    characters: int
    size: int


def sum_of(parts: Sequence[Likelihood]) -> Likelihood:
    """Return what several parts are together."""
    return Likelihood(
        sum(part.log_probability for part in parts),
        sum(part.tokens for part in parts),
        sum(part.characters for part in parts),
        sum(part.size for part in parts),
    )


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

        return self._in_batches(self._prompt_reader(limit), inputs, batch_size, compute)

    def stream(
        self,
        prompt: str,
        *,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> Iterator[str]:
        """Continue one prompt, and yield the continuation as it grows: each time all of it so far.

        Arguments and errors are those of a call; but `max_new_tokens` may be more than the model's length: when that
        is full, its second half is read again, and what was before is forgotten. Up to there, what is yielded last is
        what a call gives.
        """
        search = Search(temperature=temperature, top_k=top_k, top_p=top_p, random=generator(seed))
        limit = self._defaults.max_new_tokens if max_new_tokens is None else max_new_tokens
        if limit < 1:
            raise KzooError(f"max_new_tokens is {limit}; it must be at least 1.")
        items, bare = self.reader.listed(prompt)
        if not bare:
            raise KzooError("stream takes one prompt; call the model for several.")
        batch = self._prompt_reader(limit).read(items, 0)
        (prompt_ids, _) = self._left_padded(batch.feeds["input_ids"], batch.feeds["attention_mask"])
        return self._stream(prompt_ids[0].tolist(), search, limit)

    def _stream(self, prompt: list[int], search: Search, limit: int) -> Iterator[str]:
        written: list[int] = []
        shown = None
        for token in self._tokens(prompt, search, limit):
            written.append(token)
            text = self.reader.tokenizer.decode(written).rstrip(_HALF)
            if text != shown:
                shown = text
                yield text
        whole = self.reader.tokenizer.decode(written)
        if whole != shown:
            yield whole

    def _tokens(self, prompt: list[int], search: Search, limit: int) -> Iterator[int]:
        """Yield the tokens that follow a prompt, at most so many, without the one that ends it."""
        graph, length = self.manifest.graphs["model"], self.reader.max_length
        seen = list(prompt)
        while limit > 0:
            seen = seen if len(seen) < length else seen[-max(1, length // 2) :]
            mask = np.ones((1, len(seen)), np.int64)
            step = CachedStep(
                self._sessions["model"], "input_ids", empty_cache(graph, 1), vocab_size(graph), mask=mask
            )
            room = min(limit, length - len(seen))
            for emitted in search.stream(step, np.array([seen]), self._defaults.end_id, room):
                token = int(emitted.tokens[0])
                if token == self._defaults.end_id:
                    return
                seen.append(token)
                yield token
            limit -= room

    def likelihoods(self, texts: Sequence[str], *, batch_size: int = 32) -> list[list[Likelihood]]:
        """Say how probable each text is, told token by token.

        A text that is longer than the model is read in parts as long as it: each begins with the last token of the
        one before, and knows no more of that. A text's first token is told from nothing, and not counted.

        Args:
            texts: any number of them, of any length.
            batch_size: most parts that run together.

        Returns:
            For each text its parts, in order; none of a text of one token.

        Raises:
            KzooError: if an input is no string, or the list is empty.
        """
        items, _ = self.reader.listed(list(texts))
        return [self._likelihoods(text, batch_size) for text in items]

    def _likelihoods(self, text: str, batch_size: int) -> list[Likelihood]:
        # As long as it is: no token takes less than a byte, and a few stand around the text.
        most = len(text.encode("utf-8")) + 8
        encoding = self.reader.tokenizer.encode([text], max_length=most, offsets=True)
        ids, offsets = encoding.input_ids[0].astype(np.int64), encoding.offsets
        # Special tokens stand nowhere in the text: they end where the token before does.
        ends = np.maximum.accumulate(offsets[0, :, 1]) if offsets is not None else np.zeros(len(ids), int)
        length = self.reader.max_length
        rows = max(1, min(batch_size, _HELD // (length * vocab_size(self.manifest.graphs["model"]))))
        places = range(0, len(ids) - 1, length)
        found: list[Likelihood] = []
        for first in range(0, len(places), rows):
            batch = places[first : first + rows]
            log_probs = self._log_probabilities([ids[place : place + length + 1] for place in batch])
            for place, log_prob in zip(batch, log_probs, strict=True):
                last = min(place + length, len(ids) - 1)
                told = text[ends[place] : ends[last]]
                found.append(Likelihood(log_prob, last - place, len(told), len(told.encode("utf-8"))))
        return found

    def _log_probabilities(self, parts: list[np.ndarray]) -> list[float]:
        """Return the log-probability of each part's tokens but the first."""
        sizes = np.array([len(part) - 1 for part in parts])
        mask = np.arange(sizes.max()) < sizes[:, None]
        read, told = np.zeros(mask.shape, np.int64), np.zeros(mask.shape, np.int64)
        read[mask] = np.concatenate([part[:-1] for part in parts])
        told[mask] = np.concatenate([part[1:] for part in parts])
        graph = self.manifest.graphs["model"]
        feeds = {
            "input_ids": read,
            "attention_mask": mask.astype(np.int64),
            "beam_idx": np.arange(len(parts)),
            "logits_to_keep": np.array(mask.shape[1]),
            "top_k": np.array(1),
            **empty_cache(graph, len(parts)),
        }
        log_probs = self._sessions["model"].run(feeds, ["log_probs"])["log_probs"]
        found = np.take_along_axis(log_probs, told[..., None], axis=2)[..., 0]
        return np.where(mask, found, 0).sum(axis=1, dtype=np.float64).tolist()

    def prompt_length(self, max_new_tokens: int) -> int:
        """Return how many tokens of a prompt are read, of a longer one the last: the others are new, or half are."""
        length = self.reader.max_length
        return length - max(1, min(max_new_tokens, length // 2))

    def _prompt_reader(self, limit: int) -> TextReader:
        return TextReader(self.reader.tokenizer, self.prompt_length(limit), keep="last")

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
