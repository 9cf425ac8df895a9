"""What the translation page does with a text, sentence by sentence, without a page."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kzoo.apps.languages import Direction
from kzoo.errors import BundleError, KzooError
from kzoo.runtime.documents import translate_lines

MAX_BEAMS = 8
_ALTERNATIVES = 8
_AT_ONCE = 16  # sentences between two looks at whether to go on
_PAUSE = 0.05  # seconds between two pictures of what grows
_HALF = re.compile("[\ud800-\udfff]")
_WORD = re.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]+")  # noqa: RUF001


@dataclass(frozen=True)
class Work:
    """A text and its translation, and the sentence of it that is looked at.

    Attributes:
        direction: from which language to which, and by what.
        beams: translations kept side by side.
        text: what is translated.
        sentences: those parts of it that are.
        translations: theirs.
        place: which sentence is looked at.
        found: its translations as a call gives them, best first.
        picked: which of these stands in the text.
    """

    direction: Direction
    beams: int
    text: str
    sentences: list[str]
    translations: list[str]
    place: int = 0
    found: list[dict[str, Any]] = field(default_factory=list)
    picked: int = 0

    @property
    def result(self) -> str:
        """The text with its sentences translated, those that are not yet left out."""
        rest = [""] * (len(self.sentences) - len(self.translations))
        return translate_lines(self.text, lambda _: [*self.translations, *rest])

    @property
    def chosen(self) -> str:
        """The translation of the sentence that is looked at."""
        return self.translations[self.place] if self.translations else ""

    @property
    def alignment(self) -> dict[str, Any] | None:
        """Where the tokens of that come from, if its model says so."""
        return self.found[self.picked].get("alignment") if self.found else None

    def look(self, place: int, prefix: str = "") -> Work:
        """Return the same with another sentence looked at, its translations beginning with a prefix."""
        if not self.sentences:
            return self
        options: dict[str, Any] = {
            "num_beams": self.beams,
            "num_return": self.beams,
            "prefix": prefix,
            "target_language": self.direction.target_language,
        }
        sentence = self.sentences[place]
        try:
            found = self.direction.pipeline(sentence, **options, return_alignment=True)
        except BundleError:  # made before decoders said where they look
            found = self.direction.pipeline(sentence, **options)
        distinct: dict[str, dict[str, Any]] = {}
        for each in found:  # different tokens may make the same text
            distinct.setdefault(each["translation"], each)
        return replace(self, place=place, found=list(distinct.values())).pick(0)

    def pick(self, index: int) -> Work:
        """Return the same with another of the sentence's translations in the text."""
        translations = list(self.translations)
        translations[self.place] = self.found[index]["translation"]
        return replace(self, translations=translations, picked=index)

    def words(self) -> list[str]:
        """Return the words and signs of the translation that is looked at."""
        return _WORD.findall(self.chosen)

    def alternatives(self, index: int) -> list[tuple[str, float, str]]:
        """Return what might stand where a word does: its text, probability, and the beginning up to and with it."""
        start = list(_WORD.finditer(self.chosen))[index].start()
        prefix = self.chosen[:start].rstrip()
        ways = self.direction.pipeline.alternatives(
            self.sentences[self.place],
            prefix,
            count=_ALTERNATIVES,
            target_language=self.direction.target_language,
        )
        found: dict[str, tuple[str, float, str]] = {}
        for way in ways:
            if not way["token"] or not way["word"]:  # an end, or a token that no text shows
                continue
            goes_on = bool(prefix) and not way["token"][:1].isspace() and way["word"][:1].isalnum()
            shown = (prefix.split()[-1] if goes_on else "") + way["word"]
            space = " " if prefix and way["token"][:1].isspace() else ""
            found.setdefault(shown, (shown, way["probability"], prefix + space + way["word"]))
        return list(found.values())


def begin(direction: Direction, text: str, beams: int) -> Work:
    """Return what is to do of a text.

    Raises:
        KzooError: if it has what is no character, or the beams are too few or too many.
    """
    if _HALF.search(text):
        raise KzooError("The text has half of a surrogate pair, which is no character. Delete it.")
    sentences: list[str] = []

    def note(said: list[str]) -> list[str]:
        sentences.extend(said)
        return said

    translate_lines(text, note)
    if not 1 <= beams <= MAX_BEAMS:
        raise KzooError(f"There may be 1 to {MAX_BEAMS} beams, not {beams}.")
    return Work(direction, beams, text, sentences, [])


def stream(work: Work) -> Iterator[Work]:
    """Translate token by token; yield the work as it is first, as it grows every now and then, and at the end."""
    return _now_and_then(work, _grown)


def in_batches(work: Work) -> Iterator[Work]:
    """Translate some sentences at once; yield the work as `stream` does."""
    return _now_and_then(work, _by_batches)


def _now_and_then(work: Work, steps: Callable[[Work], Iterator[Work]]) -> Iterator[Work]:
    yield work
    latest = work
    shown = time.monotonic()
    for latest in steps(work):
        if time.monotonic() - shown > _PAUSE:
            yield latest
            shown = time.monotonic()
    yield latest


def _grown(work: Work) -> Iterator[Work]:
    for sentence in work.sentences:
        done = work.translations
        for text in work.direction.pipeline.stream(sentence, target_language=work.direction.target_language):
            work = replace(work, translations=[*done, text])
            yield work


def _by_batches(work: Work) -> Iterator[Work]:
    for start in range(0, len(work.sentences), _AT_ONCE):
        found = work.direction.pipeline(
            work.sentences[start : start + _AT_ONCE],
            num_beams=work.beams,
            target_language=work.direction.target_language,
        )
        work = replace(work, translations=[*work.translations, *(each["translation"] for each in found)])
        yield work


def speed(work: Work, seconds: float) -> str:
    """Say how much was done, and how fast."""
    tokens = count_tokens(work.direction, work.translations)
    count = len(work.sentences)
    sentences = "1 sentence" if count == 1 else f"{count:,} sentences"
    return (
        f"{sentences}, {tokens:,} tokens, {1000 * seconds:,.0f} ms on {work.direction.pipeline.device.upper()}: "
        f"{tokens / seconds:,.0f} tokens a second"
    )


def count_tokens(direction: Direction, texts: Sequence[str]) -> int:
    """Return how many tokens these translations have."""
    if not texts:
        return 0
    reader = direction.pipeline.reader
    return int(reader.tokenizer.encode(list(texts), max_length=reader.max_length).attention_mask.sum())
