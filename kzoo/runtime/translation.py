"""Translation: a text for each text, by an encoder and a decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kzoo.errors import BundleError, KzooError
from kzoo.runtime.branching import branches
from kzoo.runtime.bundle import Bundle
from kzoo.runtime.caches import NEXT_TOKENS
from kzoo.runtime.documents import translate_lines
from kzoo.runtime.inputs import TextReader
from kzoo.runtime.lanes import side_by_side
from kzoo.runtime.pipeline import Pipeline
from kzoo.runtime.searching import Search, generator
from kzoo.runtime.sentences import Sentence, SentenceReader, batches, padded
from kzoo.runtime.seq2seq import ATTENTION, EncoderDecoder, Writer
from kzoo.runtime.session import Session
from kzoo.search import Constraints, EndingStep, Hypothesis, Step

Progress = Callable[[int, int], None]


class Translation(Pipeline):
    """A text for each text, by an encoder and a decoder.

    Attributes:
        languages: what `target_language` may be, for a model that has several; else empty.
    """

    outputs = {"encoder": (), "decoder": NEXT_TOKENS}
    spinning = False
    has_lanes = True
    reader: TextReader

    def __init__(self, bundle: Bundle, sessions: Mapping[str, Session]):
        super().__init__(bundle, sessions)
        self.reader = self._text_reader()
        self._tokenizer = self.reader.tokenizer
        self._defaults = self._generation_defaults()
        if self._defaults.start_id is None:
            raise BundleError(f"{bundle.folder}: the manifest has no generation.start_id. Export it again.")
        self._start_id = self._defaults.start_id
        self._writer: Writer = EncoderDecoder(
            sessions["encoder"], sessions["decoder"], self.manifest.graphs["decoder"]
        )
        self.languages = self._tokenizer.languages
        self._sentences = SentenceReader(self.reader, self.languages, self.name)

    def __call__(
        self,
        inputs: Any,
        *,
        num_beams: int = 1,
        num_return: int | None = None,
        length_penalty: float = 1.0,
        length_offset: float = 0.0,
        coverage_penalty: float = 0.0,
        repetition_penalty: float = 1.0,
        no_repeat_ngram: int = 0,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        prefix: str | Sequence[str] = "",
        target_language: str | None = None,
        return_alignment: bool = False,
        max_new_tokens: int | None = None,
        batch_size: int = 32,
        batch_tokens: int = 4096,
        progress: Progress | None = None,
    ) -> Any:
        """Translate each text.

        A text of nothing but spaces has an empty translation, and a score of 0. Of a text with more tokens than the
        model takes, the first are translated, with a `TruncationWarning`. Control characters, emoji and any script
        go to the tokenizer as they are; half of a surrogate pair is refused.

        Args:
            inputs: a text or a list of texts.
            num_beams: translations kept side by side while they grow; 1 takes the most probable token each time.
            num_return: how many translations of each text to return, `num_beams` at most; None for the best one.
            length_penalty: with beams, a translation's score is its log-probability over
                `((length_offset + n) / (length_offset + 1)) ** length_penalty`, for n tokens. 0 favours short
                ones; 1 is fair.
            length_offset: 0 takes powers of the length; 5 is the penalty of Wu et al., 2016.
            coverage_penalty: with beams, their beta: translations found are ranked by their score plus this times the
                sum, over the source's tokens, of the logarithm of the attention that each has had, 1 at most.
            repetition_penalty: see `kzoo.search.Constraints`; applied to log-probabilities.
            no_repeat_ngram: see `kzoo.search.Constraints`.
            temperature: 0 searches; above 0 draws, and less is safer.
            top_k: draw among this many most probable tokens.
            top_p: draw among the fewest tokens whose probabilities add up to this.
            seed: the same seed and inputs draw the same translations.
            prefix: what the translation begins with, one for all texts or one each; spaces at its end do not count.
            target_language: one of `languages`.
            return_alignment: add where each token of the translation comes from.
            max_new_tokens: most tokens of a translation; the bundle's default if None.
            batch_size: most texts that run together; more is faster and takes more memory.
            batch_tokens: most tokens that run together, padding included, unless a single text has more.
            progress: called with the number of texts that are done and of all, after each batch; what it raises ends
                the call.

        Returns:
            `{"translation": str, "score": float}` for each text; the score is the mean log-probability of
            the translation's tokens after the prefix, 0 at best, unless the penalties say otherwise. With
            `num_return` a list of these, best first. With `return_alignment` each has an `alignment` too: the pieces
            of text that are the tokens of `"source"` and `"target"`, and `"weights"`, float32 (target, source).

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
        limit = self._limit(max_new_tokens)
        items, bare = self.reader.listed(inputs)
        sentences = self._sentences.read(items, prefix, target_language)
        nothing = {"translation": "", "score": 0.0}
        if return_alignment:
            nothing["alignment"] = {"source": [], "target": [], "weights": np.zeros((0, 0), np.float32)}
        results = [[dict(nothing)] for _ in items]
        done = len(items) - len(sentences)

        def write(batch: list[Sentence]) -> list[list[dict[str, Any]]]:
            return self._write(batch, search, limit, coverage_penalty, return_alignment)

        # One generator draws for all batches, in their order.
        lanes = 1 if temperature else self.lanes
        todo = batches(sentences, batch_size, batch_tokens, lanes=lanes)
        for batch, written in side_by_side(write, todo, lanes):
            for sentence, found in zip(batch, written, strict=True):
                results[sentence.place] = found
            done += len(batch)
            if progress is not None:
                progress(done, len(items))
        given = [found[0] for found in results] if num_return is None else results
        return given[0] if bare else given

    def stream(
        self,
        text: str,
        *,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        repetition_penalty: float = 1.0,
        no_repeat_ngram: int = 0,
        prefix: str = "",
        target_language: str | None = None,
        max_new_tokens: int | None = None,
    ) -> Iterator[str]:
        """Translate one text, and yield the translation as it grows: each time all of it so far.

        Arguments and errors are those of a call. What is yielded last is what a call with one beam gives.
        """
        constraints = Constraints(repetition_penalty, no_repeat_ngram)
        search = Search(
            temperature=temperature, top_k=top_k, top_p=top_p, random=generator(seed), constraints=constraints
        )
        limit = self._limit(max_new_tokens)
        sentences = self._sentences.read([self._one(text)], prefix, target_language)
        return self._stream(sentences, search, limit)

    def _stream(self, sentences: list[Sentence], search: Search, limit: int) -> Iterator[str]:
        if not sentences:
            yield ""
            return
        limit = self._room(sentences, limit)
        step, prompts = self._begin(sentences, limit)
        written = list(sentences[0].target)
        shown = None
        for emitted in search.stream(step, prompts, self._defaults.end_id, limit):
            if emitted.tokens[0] != self._defaults.end_id:
                written.append(int(emitted.tokens[0]))
            text = self._tokenizer.decode(written).rstrip(_HALF)
            if text != shown:
                shown = text
                yield text
        whole = self._tokenizer.decode(written)
        if whole != shown:
            yield whole

    def alternatives(
        self,
        text: str,
        prefix: str = "",
        *,
        count: int = 5,
        target_language: str | None = None,
        max_new_tokens: int | None = None,
    ) -> list[dict[str, Any]]:
        """Say how a translation may go on after `prefix`, and what each way leads to.

        Args:
            text: the source.
            prefix: the translation's beginning, up to where alternatives are wanted.
            count: how many tokens to begin with, the most probable ones.
            target_language: one of `languages`.
            max_new_tokens: most tokens of a translation after the prefix.

        Returns:
            For each, the most probable first: `token`, its text; its `probability`; `word`, the first word after the
            prefix; the whole `translation`, the most probable token taken each time; and its `score`, the mean
            log-probability of the tokens after the prefix. An empty token is the translation's end.

        Raises:
            KzooError: if `count` is below 1, or an argument is not what a call takes.
        """
        if count < 1:
            raise KzooError(f"count is {count}; it must be at least 1.")
        limit = self._limit(max_new_tokens)
        sentences = self._sentences.read([self._one(text)], prefix, target_language)
        if not sentences:
            return []
        limit = self._room(sentences, limit)
        step, prompts = self._begin(sentences, limit)
        begun = sentences[0].target
        start = self._tokenizer.decode(begun)
        results = []
        for branch in branches(step, prompts, count, self._defaults.end_id, limit):
            token, whole = (
                self._tokenizer.decode([*begun, *ids])[len(start) :] for ids in (branch.ids[:1], branch.ids)
            )
            results.append(
                {
                    "token": token,
                    "probability": float(np.exp(branch.log_prob)),
                    "word": (whole.split() or [""])[0],
                    "translation": start + whole,
                    "score": branch.score,
                }
            )
        return results

    def score(
        self,
        sources: str | Sequence[str],
        targets: str | Sequence[str],
        *,
        target_language: str | None = None,
        batch_size: int = 32,
        batch_tokens: int = 4096,
    ) -> Any:
        """Say how probable given translations are.

        Args:
            sources: a text or a list of texts.
            targets: as many translations.
            target_language: one of `languages`.
            batch_size: most pairs that run together.
            batch_tokens: most tokens that run together, padding included, of the sources and of the targets.

        Returns:
            `{"score": float, "tokens": list, "log_probs": list}` for each pair: the mean log-probability of the
            translation's tokens, end token included, as a call with one beam scores it; the tokens' texts; and the
            log-probability of each, the end token's last.

        Raises:
            KzooError: if an input is no string, a list is empty, or they differ in length.
        """
        texts, bare = self.reader.listed(sources)
        wanted, _ = self.reader.listed(targets)
        pairs = self._sentences.read_pairs(texts, wanted, target_language)
        results: list[Any] = [None] * len(pairs)

        def follow(batch: list[Sentence]) -> list[np.ndarray]:
            return self._follow(self._read(batch), [pair.target for pair in batch], "log_probs")

        todo = batches(pairs, batch_size, batch_tokens, alike=False, lanes=self.lanes)
        for batch, found in side_by_side(follow, todo, self.lanes):
            for pair, log_probs in zip(batch, found, strict=True):
                results[pair.place] = self._scored(pair.target, log_probs)
        return results[0] if bare else results

    def translate_document(self, text: str, *, progress: Progress | None = None, **options: Any) -> str:
        """Translate a text of many lines, sentence by sentence.

        There are as many lines as before. Blank lines, lines without letters, what is indented, the marks of lists,
        headings and quotations, and tags such as `<b>` stay as they are; what is between them is translated.

        Args:
            text: the document.
            progress: called with the number of sentences that are done and of all.
            options: as for a call, but those of which results a call gives.

        Raises:
            KzooError: as a call does.
        """
        for name in ("num_return", "return_alignment", "prefix"):
            if name in options:
                raise KzooError(f"{name} is for a call on single texts; a document has one translation.")

        def translate(sentences: list[str]) -> list[str]:
            results = self(sentences, progress=progress, **options)
            return [result["translation"] for result in results]

        return translate_lines(self._one(text), translate)

    def _one(self, text: str) -> str:
        """Refuse a list where one text is wanted."""
        if not isinstance(text, str):
            raise KzooError(f"Give one text; this is of type {type(text).__name__}.")
        return self.reader.listed(text)[0][0]

    def _limit(self, max_new_tokens: int | None) -> int:
        limit = self._defaults.max_new_tokens if max_new_tokens is None else max_new_tokens
        return min(limit, self.reader.max_length)

    def _room(self, batch: Sequence[Sentence], limit: int) -> int:
        """Return how many tokens may follow the prefix, as long for all of a batch."""
        room = self.reader.max_length - len(batch[0].target)
        if room < 1:
            raise KzooError(
                f"The prefix takes all of the model's {self.reader.max_length} tokens. Shorten it."
            )
        return min(limit, room)

    def _read(self, batch: Sequence[Sentence]) -> Any:
        ids, sizes = padded([sentence.ids for sentence in batch], self._tokenizer.pad_id)
        mask = (np.arange(ids.shape[1]) < sizes[:, None]).astype(np.int64)
        return self._writer.read({"input_ids": ids, "attention_mask": mask})

    def _begin(self, batch: Sequence[Sentence], limit: int) -> tuple[Step, np.ndarray]:
        """Return a step function, and what it goes on from."""
        return self._step(self._read(batch), limit), self._prompts(batch)

    def _step(self, source: Any, limit: int) -> Step:
        step, end_id = self._writer.step(source), self._defaults.end_id
        if end_id is None or not self._defaults.ends_at_limit:
            return step
        return EndingStep(step, end_id, limit)

    def _prompts(self, batch: Sequence[Sentence]) -> np.ndarray:
        return np.array([[self._start_id, *sentence.target] for sentence in batch])

    def _write(
        self,
        batch: Sequence[Sentence],
        search: Search,
        limit: int,
        coverage_penalty: float,
        return_alignment: bool,
    ) -> list[list[dict[str, Any]]]:
        """Return the translations of each sentence of a batch, best first."""
        source = self._read(batch)
        limit = self._room(batch, limit)
        step = self._step(source, limit)
        found = search.run(step, self._prompts(batch), self._defaults.end_id, limit)
        if coverage_penalty and search.num_beams > 1:
            attention = self._attention(source, batch, found)
            found = [
                _ranked(hypotheses, attended, coverage_penalty)
                for hypotheses, attended in zip(found, attention, strict=True)
            ]
        found = [hypotheses[: search.num_return or 1] for hypotheses in found]
        written = [
            [[*sentence.target, *hypothesis.ids] for hypothesis in hypotheses]
            for sentence, hypotheses in zip(batch, found, strict=True)
        ]
        texts = iter(self._tokenizer.decode_batch([ids for rows in written for ids in rows]))
        results = [
            [{"translation": next(texts), "score": hypothesis.score} for hypothesis in hypotheses]
            for hypotheses in found
        ]
        if return_alignment:
            attention = self._attention(source, batch, found)
            for sentence, rows, kept, attended in zip(batch, written, results, attention, strict=True):
                pieces = _pieces(self._tokenizer, sentence.ids.tolist())
                for ids, result, weights in zip(rows, kept, attended, strict=True):
                    result["alignment"] = {
                        "source": pieces,
                        "target": _pieces(self._tokenizer, ids),
                        "weights": weights[:-1],
                    }
        return results

    def _attention(
        self, source: Any, batch: Sequence[Sentence], found: list[list[Hypothesis]]
    ) -> list[list[np.ndarray]]:
        """Return where each hypothesis' tokens, the last of which ends it, come from: (target, source)."""
        most = max(map(len, found))
        targets = [
            [*sentence.target, *hypothesis.ids]
            for sentence, hypotheses in zip(batch, found, strict=True)
            for hypothesis in [*hypotheses, *[Hypothesis([], 0.0)] * (most - len(hypotheses))]
        ]
        rows = self._follow(source, targets, ATTENTION)
        return [
            [row[:, : len(sentence.ids)] for row in rows[index * most :][: len(hypotheses)]]
            for index, (sentence, hypotheses) in enumerate(zip(batch, found, strict=True))
        ]

    def _follow(self, source: Any, targets: list[list[int]], output: str) -> list[np.ndarray]:
        """Return what the model says of each target's tokens and of what follows its last one."""
        rows = [np.array([self._start_id, *ids]) for ids in targets]
        ids, sizes = padded(rows, self._tokenizer.pad_id)
        found = self._writer.follow(source, ids, (output,))[output]
        return [row[:size] for row, size in zip(found, sizes, strict=True)]

    def _scored(self, ids: list[int], log_probs: np.ndarray) -> dict[str, Any]:
        """Return a target's score, from what follows each of its tokens and the start."""
        if self._defaults.end_id is not None and ids[-1:] != [self._defaults.end_id]:
            ids = [*ids, self._defaults.end_id]
        values = log_probs[np.arange(len(ids)), ids].astype(np.float64)
        return {
            "score": float(values.mean()),
            "tokens": _pieces(self._tokenizer, ids),
            "log_probs": values.tolist(),
        }


_HALF = "\ufffd"  # what the bytes of half a character are shown as


def _ranked(hypotheses: list[Hypothesis], attention: list[np.ndarray], penalty: float) -> list[Hypothesis]:
    """Add the coverage penalty of Wu et al., 2016, equation 14, to the scores, and put the best first."""
    covered = [
        hypothesis._replace(
            score=hypothesis.score
            + penalty * float(np.log(np.clip(attended.sum(axis=0, dtype=np.float64), 1e-9, 1.0)).sum())
        )
        for hypothesis, attended in zip(hypotheses, attention, strict=True)
    ]
    return sorted(covered, key=lambda hypothesis: -hypothesis.score)


def _pieces(tokenizer: Any, ids: list[int]) -> list[str]:
    """Return the text that each token adds; that of a character of several tokens comes with its last one."""
    texts = [text.rstrip(_HALF) for text in tokenizer.decode_batch([ids[:n] for n in range(len(ids) + 1)])]
    names = tokenizer.decode_batch([[token] for token in ids], skip_special_tokens=False)
    plain = tokenizer.decode_batch([[token] for token in ids])
    return [
        name if name and not own else after[len(before) :]
        for name, own, before, after in zip(names, plain, texts[:-1], texts[1:], strict=True)
    ]
