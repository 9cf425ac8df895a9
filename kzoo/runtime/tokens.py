"""Tasks whose results lie inside a text: labelled spans, answers, filled-in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kzoo.errors import BundleError, KzooError
from kzoo.runtime.bundle import Bundle
from kzoo.runtime.inputs import Batch, TextReader
from kzoo.runtime.pipeline import Pipeline
from kzoo.runtime.session import Session
from kzoo.runtime.spans import OUTSIDE, label_spans


@dataclass(frozen=True)
class Guesses:
    """How well a model guesses the hidden tokens of a part of a text.

    Attributes:
        log_probability: natural logarithm of the probability of all of them, each from what is not hidden.
        tokens: how many these are.
        right: how many of them the model takes for the most probable ones.
    """

    log_probability: float
    tokens: int
    right: int


class _Word(NamedTuple):
    """A word of a text: its tokens' first row in the batch's arrays, its characters, and its label."""

    start: int
    end: int
    label: str
    score: float


class _Part(NamedTuple):
    """A part of a text as long as a model reads: whose it is, its tokens, and the places of those to hide."""

    place: int
    ids: np.ndarray
    hidden: np.ndarray


class _TextTask(Pipeline):
    """Reads texts, and knows where their tokens come from."""

    outputs = {"model": ("logits",)}
    reader: TextReader

    def __init__(self, bundle: Bundle, sessions: Mapping[str, Session]):
        super().__init__(bundle, sessions)
        self.reader = self._text_reader(offsets=True)
        self._run = sessions["model"].run


class TokenClassification(_TextTask):
    """Labelled spans of each text, such as names of people."""

    def __call__(self, inputs: Any, *, batch_size: int = 32) -> Any:
        """Find the labelled spans of each text.

        A word has the label of its first token. With labels such as `B-PER` and `I-PER`, or where there is an `O`,
        neighbours of one kind make one span, and `O` makes none; else each word is a span.

        Args:
            inputs: a text or a list of texts.
            batch_size: texts run together; more is faster and takes more memory.

        Returns:
            For each text a list of `{"label": str, "score": float, "start": int, "end": int, "text": str}`, in
            their order; `start` and `end` count characters, and the score is the mean of the words'.

        Raises:
            KzooError: if an input is no string, or the list is empty.
        """

        def compute(batch: Batch) -> list[Any]:
            scores = _softmax(self._run(batch.feeds)["logits"])
            labels = self.class_names(scores.shape[2])
            return [
                [
                    _result(text, *span)
                    for span in _spans(list(_words(batch, row, labels, scores[row])), labels)
                ]
                for row, text in enumerate(batch.items)
            ]

        return self._in_batches(self.reader, inputs, batch_size, compute)

    def word_labels(self, texts: Any, *, batch_size: int = 32) -> Any:
        """Find the label of every word between blanks, as training data has them.

        Args:
            texts: a text or a list of texts.
            batch_size: texts run together; more is faster and takes more memory.

        Returns:
            For each text a label a word, that of the word's first token; `O` of words that were cut off.

        Raises:
            KzooError: as for a call.
        """

        def compute(batch: Batch) -> list[list[str]]:
            logits = self._run(batch.feeds)["logits"]
            best, labels = logits.argmax(axis=2), self.class_names(logits.shape[2])
            offsets, parts = _origins(batch)
            found = []
            for row, text in enumerate(batch.items):
                own = np.flatnonzero(parts[row] == 0)
                firsts = (
                    own[(offsets[row, own, 1] > word.start()) & (offsets[row, own, 0] < word.end())][:1]
                    for word in re.finditer(r"\S+", text)
                )
                found.append([labels[best[row, first[0]]] if len(first) else OUTSIDE for first in firsts])
            return found

        return self._in_batches(self.reader, texts, batch_size, compute)


class ReplacedTokens(_TextTask):
    """The tokens of each text that are not what its author wrote."""

    def __call__(self, inputs: Any, *, threshold: float = 0.5, batch_size: int = 32) -> Any:
        """Find the tokens of each text that look replaced.

        Args:
            inputs: a text or a list of texts.
            threshold: the least score, from 0 to 1, of a token that is given.
            batch_size: texts run together; more is faster and takes more memory.

        Returns:
            For each text a list of `{"label": "replaced", "score": float, "start": int, "end": int, "text": str}`,
            one a token, in their order; `start` and `end` count characters.

        Raises:
            KzooError: if an input is no string, or the list is empty.
        """

        def compute(batch: Batch) -> list[Any]:
            logits = self._run(batch.feeds)["logits"].astype(np.float64)
            scores = 0.5 + 0.5 * np.tanh(0.5 * logits)  # the sigmoid that cannot overflow
            offsets, parts = _origins(batch)
            return [
                [
                    _result(
                        text, offsets[row, token, 0], offsets[row, token, 1], "replaced", scores[row, token]
                    )
                    for token in np.flatnonzero((parts[row] == 0) & (scores[row] >= threshold))
                ]
                for row, text in enumerate(batch.items)
            ]

        return self._in_batches(self.reader, inputs, batch_size, compute)


class MaskFilling(_TextTask):
    """Words for the gaps of each text."""

    def __init__(self, bundle: Bundle, sessions: Mapping[str, Session]):
        super().__init__(bundle, sessions)
        mask_id = self.reader.tokenizer.mask_id
        if mask_id is None:
            raise BundleError(f"{bundle.folder}: its tokenizer has no mask token, which task 'mlm' needs.")
        self._mask_id = mask_id

    def __call__(self, inputs: Any, *, top_k: int = 5, batch_size: int = 32) -> Any:
        """Find the most probable tokens for each mask, as in `"The [MASK] barks."`.

        Args:
            inputs: a text with one mask token or more, or a list of such texts.
            top_k: tokens for each mask.
            batch_size: texts run together; more is faster and takes more memory.

        Returns:
            For each text a ranked list of `{"token": str, "score": float, "text": str}`, the text with this mask
            filled in; for a text with several masks a list of such lists.

        Raises:
            KzooError: if an input is no string or has no mask, or the list is empty.
        """
        if top_k < 1:
            raise KzooError(f"top_k is {top_k}; it must be at least 1.")
        tokenizer = self.reader.tokenizer
        mask = tokenizer.decode([self._mask_id], skip_special_tokens=False).strip()

        def compute(batch: Batch) -> list[Any]:
            masks = [np.flatnonzero(ids == self._mask_id) for ids in batch.feeds["input_ids"]]
            for text, found in zip(batch.items, masks, strict=True):
                if not len(found):
                    raise KzooError(
                        f"'{text[:60]}' has no {mask} within the {self.reader.max_length} tokens."
                    )
            positions = np.zeros((len(masks), max(map(len, masks))), np.int64)
            for row, found in zip(positions, masks, strict=True):
                row[: len(found)] = found
            scores = _softmax(self._run({**batch.feeds, "mask_positions": positions})["logits"])
            offsets, _ = _origins(batch)

            def fill(row: int, place: int) -> list[dict[str, Any]]:
                best = np.argsort(-scores[row, place], kind="stable")[:top_k]
                words = tokenizer.decode_batch([[token] for token in best], skip_special_tokens=False)
                text, (start, end) = batch.items[row], offsets[row, masks[row][place]]
                return [
                    {
                        "token": word.strip(),
                        "score": float(scores[row, place, token]),
                        "text": _filled(text, start, end, word.strip()),
                    }
                    for word, token in zip(words, best, strict=True)
                ]

            filled = [[fill(row, place) for place in range(len(found))] for row, found in enumerate(masks)]
            return [results[0] if len(results) == 1 else results for results in filled]

        return self._in_batches(self.reader, inputs, batch_size, compute)

    def guesses(
        self, texts: Sequence[str], *, share: float = 0.15, seed: int = 0, batch_size: int = 32
    ) -> list[list[Guesses]]:
        """Hide some tokens of each text, and say how well they are guessed from the others.

        A text that is longer than the model is read in parts as long as it. Which tokens are hidden depends on the
        seed, the text's place in the list and its tokens' number alone: bundles of one tokenizer guess the same ones.

        Args:
            texts: any number of them, of any length.
            share: how many of a text's own tokens are hidden; each behind the mask token.
            seed: where chance begins.
            batch_size: most parts that run together.

        Returns:
            For each text its parts in which anything is hidden, in order.

        Raises:
            KzooError: if an input is no string, the list is empty, or the share is none.
        """
        if not 0.0 < share < 1.0:
            raise KzooError(f"share is {share}; it must be between 0 and 1.")
        items, _ = self.reader.listed(list(texts))
        parts = [part for place, text in enumerate(items) for part in self._parts(text, place, share, seed)]
        found: list[list[Guesses]] = [[] for _ in items]
        # Parts of like length together; the order within a text is that of its parts.
        order = sorted(range(len(parts)), key=lambda index: len(parts[index].ids))
        guessed: dict[int, Guesses] = {}
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            guessed |= zip(batch, self._guess([parts[index] for index in batch]), strict=True)
        for index, part in enumerate(parts):
            found[part.place].append(guessed[index])
        return found

    def _parts(self, text: str, place: int, share: float, seed: int) -> Iterator[_Part]:
        """Yield the parts of a text in which something is hidden."""
        # As long as it is: no token takes less than a byte, and a few stand around the text.
        encoding = self.reader.tokenizer.encode(
            [text], max_length=len(text.encode("utf-8")) + 8, offsets=True
        )
        if encoding.sequence_ids is None:
            raise ValueError("the tokenizer gave no offsets")
        ids, length = encoding.input_ids[0], self.reader.max_length
        random = np.random.default_rng((seed, place))
        hidden = (random.random(len(ids)) < share) & (encoding.sequence_ids[0] >= 0)
        for first in range(0, len(ids), length):
            rows = slice(first, first + length)
            if hidden[rows].any():
                yield _Part(place, ids[rows], np.flatnonzero(hidden[rows]))

    def _guess(self, parts: Sequence[_Part]) -> list[Guesses]:
        shape = len(parts), max(len(part.ids) for part in parts)
        ids, mask = np.full(shape, self.reader.tokenizer.pad_id, np.int64), np.zeros(shape, np.int64)
        places = np.zeros((len(parts), max(len(part.hidden) for part in parts)), np.int64)
        for row, part in enumerate(parts):
            ids[row, : len(part.ids)], mask[row, : len(part.ids)] = part.ids, 1
            ids[row, part.hidden] = self._mask_id
            places[row, : len(part.hidden)] = part.hidden
        types = np.zeros(shape, np.int64)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types, "mask_positions": places}
        logits = self._run(feeds)["logits"]
        guesses = []
        for row, part in zip(logits, parts, strict=True):
            told, own = part.ids[part.hidden], row[: len(part.hidden)].astype(np.float64)
            top = own.max(axis=1)
            log_total = top + np.log(np.exp(own - top[:, None]).sum(axis=1))
            log_prob = own[np.arange(len(told)), told] - log_total
            guesses.append(Guesses(float(log_prob.sum()), len(told), int((own.argmax(axis=1) == told).sum())))
        return guesses


def _filled(text: str, start: int, end: int, word: str) -> str:
    """Put a word in the place of a mask, whose token may have taken the space before it."""
    before = text[:start] + (" " if text[start:end].startswith(" ") else "")
    if word.startswith("##"):
        return before.rstrip() + word[2:] + text[end:]
    return before + word + text[end:]


class QuestionAnswering(Pipeline):
    """The part of a context that answers a question."""

    outputs = {"model": ("start_logits", "end_logits")}
    reader: TextReader

    def __init__(self, bundle: Bundle, sessions: Mapping[str, Session]):
        super().__init__(bundle, sessions)
        self.reader = self._text_reader("pairs", offsets=True)
        self._run = sessions["model"].run

    def __call__(self, inputs: Any, *, max_answer_tokens: int = 30, batch_size: int = 32) -> Any:
        """Find the answer to each question in its context.

        A context that is too long is read in windows, each half over the one before.

        Args:
            inputs: a pair `(question, context)` as a 2-tuple, or a list of pairs.
            max_answer_tokens: most tokens of an answer.
            batch_size: pairs run together; more is faster and takes more memory.

        Returns:
            `{"answer": str, "score": float, "start": int, "end": int}` for each pair; `start` and `end` count
            characters of the context, and the score is the probability of the answer within its window.

        Raises:
            KzooError: if an input is no pair, a question leaves no room for its context, or the list is empty.
        """
        if max_answer_tokens < 1:
            raise KzooError(f"max_answer_tokens is {max_answer_tokens}; it must be at least 1.")

        def compute(batch: Batch) -> list[Any]:
            outputs = self._run(batch.feeds)
            offsets, parts = _origins(batch)
            return [
                _best_answer(
                    outputs["start_logits"][row, in_context],
                    outputs["end_logits"][row, in_context],
                    offsets[row, in_context],
                    max_answer_tokens,
                )
                for row, in_context in enumerate(parts == 1)
            ]

        pairs, bare = self.reader.listed(inputs)
        places, shifts, windows = zip(
            *(
                (place, shift, window)
                for place, pair in enumerate(pairs)
                for shift, window in self._windows(pair, place)
            ),
            strict=True,
        )
        answers: list[Any] = [None] * len(pairs)
        best = np.full(len(pairs), -np.inf)
        found = self._in_batches(self.reader, list(windows), batch_size, compute)
        for place, shift, (logit, score, start, end) in zip(places, shifts, found, strict=True):
            if answers[place] is None or logit > best[place]:
                best[place] = logit
                text, start, end = pairs[place][1], start + shift, end + shift
                start += len(text[start:end]) - len(text[start:end].lstrip())
                answers[place] = {"answer": text[start:end], "score": score, "start": start, "end": end}
        return answers[0] if bare else answers

    def _windows(self, pair: tuple[str, str], place: int) -> Iterator[tuple[int, tuple[str, str]]]:
        """Yield the parts of a pair that fit the model, each with where it begins in the context."""
        whole = self.reader.tokenizer.encode([pair], max_length=2**31, offsets=True)
        if whole.offsets is None or whole.sequence_ids is None:
            raise ValueError("the tokenizer gave no offsets")
        parts, limit = whole.sequence_ids[0], self.reader.max_length
        if len(parts) <= limit:
            yield 0, pair
            return
        others = int((parts != 1).sum())
        if others >= limit:
            raise KzooError(
                f"The question of pair {place} takes {others} of the model's {limit} tokens: there is no room for "
                "its context. Shorten it."
            )
        # A part may have a few more tokens than it had within the whole.
        room = max(1, (limit - others) * 15 // 16)
        tokens = whole.offsets[0][parts == 1]
        for first in range(0, len(tokens), max(1, room // 2)):
            window = tokens[first : first + room]
            start, end = int(window[0, 0]), int(window[-1, 1])
            yield start, (pair[0], pair[1][start:end])
            if first + room >= len(tokens):
                return


def _best_answer(
    start_logits: np.ndarray, end_logits: np.ndarray, offsets: np.ndarray, max_tokens: int
) -> tuple[float, float, int, int]:
    """Return the best answer's logit and probability, and its characters; nothing where there are no tokens."""
    size = len(offsets)
    if size == 0:
        return -np.inf, 0.0, 0, 0
    apart = np.arange(size)[None] - np.arange(size)[:, None]
    allowed = (apart >= 0) & (apart < max_tokens)
    logits = np.where(allowed, start_logits.astype(np.float64)[:, None] + end_logits[None], -np.inf)
    first, last = np.unravel_index(int(logits.argmax()), logits.shape)
    score = float(_softmax(start_logits)[first] * _softmax(end_logits)[last])
    return float(logits[first, last]), score, int(offsets[first, 0]), int(offsets[last, 1])


def _softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _origins(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Return the offsets and sequence ids of a batch's tokens."""
    encoding = batch.encoding
    if encoding is None or encoding.offsets is None or encoding.sequence_ids is None:
        raise ValueError("the reader was not asked for offsets")
    return encoding.offsets, encoding.sequence_ids


def _result(text: str, start: int, end: int, label: str, score: float) -> dict[str, Any]:
    start, end = int(start), int(end)
    start += len(text[start:end]) - len(text[start:end].lstrip())  # some tokens begin with a space
    return {"label": label, "score": float(score), "start": start, "end": end, "text": text[start:end]}


def _words(batch: Batch, row: int, labels: Sequence[str], scores: np.ndarray) -> Iterator[_Word]:
    offsets, parts = _origins(batch)
    words = batch.encoding.word_ids[row]  # type: ignore[union-attr, index] # as _origins has made sure
    tokens = np.flatnonzero(parts[row] == 0)
    firsts = np.flatnonzero(np.diff(words[tokens], prepend=-1))
    for group in np.split(tokens, firsts[1:]):
        if len(group):
            best = int(scores[group[0]].argmax())
            start, end = offsets[row, group[0], 0], offsets[row, group[-1], 1]
            yield _Word(start, end, labels[best], float(scores[group[0], best]))


def _spans(words: Sequence[_Word], labels: Sequence[str]) -> Iterator[tuple[int, int, str, float]]:
    """Join neighbouring words of one kind; see `TokenClassification`."""
    for first, end, kind in label_spans([word.label for word in words], labels):
        span = words[first:end]
        yield span[0].start, span[-1].end, kind, sum(word.score for word in span) / len(span)
