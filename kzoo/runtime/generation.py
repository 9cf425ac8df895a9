"""Tasks that write text token by token: translation and generation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kzoo.errors import BundleError, KzooError
from kzoo.runtime.bundle import Bundle
from kzoo.runtime.inputs import Batch, TextReader
from kzoo.runtime.manifest import GraphSpec
from kzoo.runtime.pipeline import Pipeline
from kzoo.runtime.session import Session
from kzoo.search import greedy, sample

_PAST, _PRESENT = "past_key_values.", "present."


class CachedStep:
    """A step function (see `kzoo.search`) over a graph whose key/value cache goes in and comes out.

    Args:
        session: the graph; takes `past_key_values.*` and gives `present.*` and `logits` (batch, step, vocab).
        tokens_name: the graph's input for token ids.
        state: everything else that the graph takes, one row for each sequence.
        mask_grows: whether `attention_mask` covers the tokens written so far.
    """

    def __init__(
        self, session: Session, tokens_name: str, state: Mapping[str, np.ndarray], mask_grows: bool = False
    ):
        self._session = session
        self._tokens_name = tokens_name
        self._state = dict(state)
        self._mask_grows = mask_grows

    def __call__(self, tokens: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Append `tokens` (rows, step) to what `rows` have, and return the next logits (rows, vocab)."""
        state = self._state
        if not np.array_equal(rows, np.arange(len(state["attention_mask"]))):
            state = {name: value[rows] for name, value in state.items()}
        outputs = self._session.run({**state, self._tokens_name: tokens})
        state |= _renamed(outputs)
        if self._mask_grows:
            state["attention_mask"] = np.pad(state["attention_mask"], ((0, 0), (0, 1)), constant_values=1)
        self._state = state
        return outputs["logits"][:, -1].astype(np.float32)


def _renamed(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turn a graph's `present.*` outputs into the next call's `past_key_values.*` inputs."""
    return {
        _PAST + name.removeprefix(_PRESENT): value
        for name, value in outputs.items()
        if name.startswith(_PRESENT)
    }


def _empty_past(graph: GraphSpec, batch: int) -> dict[str, np.ndarray]:
    """Make the cache of step 0 from input shapes `["batch", heads, "past", head_dim]`."""
    empty = {}
    for tensor in graph.inputs:
        if tensor.name.startswith(_PAST) and ".encoder." not in tensor.name:
            match tensor.shape:
                case [_, int(heads), _, int(head_dim)]:
                    empty[tensor.name] = np.zeros((batch, heads, 0, head_dim), np.float32)
                case _:
                    raise BundleError(
                        f"{graph.file}: input '{tensor.name}' has shape {tensor.shape}; expected "
                        "['batch', heads, 'past', head_dim] with two numbers. Export the bundle again."
                    )
    return empty


class Translation(Pipeline):
    """A text for each text, by an encoder and a decoder."""

    outputs = {"encoder": (), "decoder": ("logits",)}
    reader: TextReader

    def __init__(self, bundle: Bundle, sessions: Mapping[str, Session]):
        super().__init__(bundle, sessions)
        self.reader = self._text_reader()
        self._defaults = self._generation_defaults()
        if self._defaults.start_id is None:
            raise BundleError(f"{bundle.folder}: the manifest has no generation.start_id. Export it again.")

    def __call__(self, inputs: Any, *, max_new_tokens: int | None = None, batch_size: int = 32) -> Any:
        """Translate each text, taking the most probable token each time.

        Args:
            inputs: a text or a list of texts.
            max_new_tokens: most tokens of a translation; the bundle's default if None.
            batch_size: texts run together; more is faster and takes more memory.

        Returns:
            `{"translation": str, "score": float}` for each text; the score is the mean log-probability of
            the translation's tokens, 0 at best.

        Raises:
            KzooError: if an input is no string, or the list is empty.
        """
        limit = self._defaults.max_new_tokens if max_new_tokens is None else max_new_tokens
        limit = min(limit, self.reader.max_length)

        def compute(batch: Batch) -> list[dict[str, Any]]:
            mask = batch.feeds["attention_mask"]
            memory = _renamed(self._sessions["encoder"].run(batch.feeds))
            past = _empty_past(self.manifest.graphs["decoder"], len(mask))
            state = {"attention_mask": mask, **memory, **past}
            step = CachedStep(self._sessions["decoder"], "decoder_input_ids", state)
            start = np.full((len(mask), 1), self._defaults.start_id)
            ids, scores = greedy(step, start, end_id=self._defaults.end_id, max_new_tokens=limit)
            texts = self.reader.tokenizer.decode_batch(ids)
            return [
                {"translation": text, "score": float(score)}
                for text, score in zip(texts, scores, strict=True)
            ]

        return self._in_batches(self.reader, inputs, batch_size, compute)


class TextGeneration(Pipeline):
    """What follows a text, by a causal language model."""

    outputs = {"model": ("logits",)}
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
            batch_size: prompts run together; more is faster and takes more memory.

        Returns:
            `{"text": str}` for each prompt: the continuation without the prompt.

        Raises:
            KzooError: if an input is no string, the list is empty, or an argument is out of range.
        """
        if temperature == 0 and (top_k is not None or top_p is not None):
            raise KzooError(
                "top_k and top_p are for drawing: give a temperature above 0 too, for example 0.8."
            )
        length = self.reader.max_length
        limit = self._defaults.max_new_tokens if max_new_tokens is None else max_new_tokens
        reader = TextReader(self.reader.tokenizer, length - max(1, min(limit, length // 2)), keep="last")
        if seed is not None and seed < 0:
            raise KzooError(f"seed is {seed}; it must be 0 or greater.")
        random = np.random.default_rng(seed)  # one for all batches, so that they draw different numbers

        def compute(batch: Batch) -> list[dict[str, Any]]:
            prompts, mask = self._left_padded(batch.feeds["input_ids"], batch.feeds["attention_mask"])
            state = {"attention_mask": mask, **_empty_past(self.manifest.graphs["model"], len(mask))}
            step = CachedStep(self._sessions["model"], "input_ids", state, mask_grows=True)
            end_id, room = self._defaults.end_id, min(limit, length - prompts.shape[1])
            if temperature == 0:
                ids, _ = greedy(step, prompts, end_id=end_id, max_new_tokens=room)
            else:
                ids, _ = sample(
                    step,
                    prompts,
                    end_id=end_id,
                    max_new_tokens=room,
                    temperature=temperature,
                    top_k=top_k,
                    top_p=top_p,
                    seed=random,
                )
            return [{"text": text} for text in self.reader.tokenizer.decode_batch(ids)]

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
