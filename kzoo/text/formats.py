"""Files whose text can be replaced: plain text, subtitles (SRT) and Word (docx)."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from kzoo.errors import KzooError, did_you_mean
from kzoo.text.word import read_word

_END_OF_LINE = re.compile("(\r\n|\n|\r)")
_TIMES = re.compile(r"\s*\d+:\d\d:\d\d[,.]\d{1,3}\s*-->\s*\d+:\d\d:\d\d[,.]\d{1,3}(\s.*)?")
_SPEAKER = re.compile(r"\s*[-\u2013\u2014\u266a]")
# A word to keep on one line: tags have spaces of their own.
_WORD = re.compile(r"(?:<[^<>]*>|\S)+")
_NOTHING_SHOWN = "\u200b"


@dataclass(frozen=True)
class Document:
    """A file's texts, and the way back to a file.

    Attributes:
        texts: what may be replaced, none of them with a line's end in it.
        write: takes as many texts, and returns the file with these in place of its own. Texts of several lines
            become one line.
    """

    texts: list[str]
    write: Callable[[Sequence[str]], bytes]


def read_document(name: str, content: bytes) -> Document:
    """Take a file's texts out of it.

    Everything else of the file stays as it is: of plain text the ends of lines; of subtitles their numbers and
    times, and how many lines each has; of Word its paragraphs, with their styles, pictures and tables.

    Args:
        name: the file's, which says by its ending what it is: `.txt`, `.srt` or `.docx`.
        content: the file.

    Raises:
        KzooError: if the name ends otherwise; or the file is empty, damaged, not what its name says, or, unpacked,
            too large.

    Example:
        >>> document = read_document("a.txt", b"A dog.\\r\\nA cat.")
        >>> document.texts
        ['A dog.', 'A cat.']
        >>> document.write(["Ein Hund.", "Ein Kater."])
        b'Ein Hund.\\r\\nEin Kater.'
    """
    ending = PurePath(name).suffix.lower()
    if ending not in READERS:
        hint = " Save it as .docx first." if ending == ".doc" else did_you_mean(ending, READERS)
        raise KzooError(f"{name} is of a kind that cannot be read: its name must end in {_KINDS}.{hint}")
    if not content.strip():
        raise KzooError(f"{name} is empty.")
    return READERS[ending](name, content)


def _read_plain(name: str, content: bytes) -> Document:
    mark, lines = _lines(name, content)

    def write(texts: Sequence[str]) -> bytes:
        written = list(lines)
        written[::2] = _checked(texts, len(written[::2]))
        return mark + "".join(written).encode()

    return Document(lines[::2], write)


def _read_subtitles(name: str, content: bytes) -> Document:
    mark, lines = _lines(name, content)
    spoken = _spoken(name, lines[::2])
    said = [" ".join(lines[2 * place].strip() for place in places) for places in spoken]

    def write(texts: Sequence[str]) -> bytes:
        written = list(lines)
        for places, old, text in zip(spoken, said, _checked(texts, len(spoken)), strict=True):
            if text == old:
                continue
            for place, line in zip(places, _wrapped(text, len(places)), strict=True):
                # An empty line would end the subtitle.
                written[2 * place] = line or _NOTHING_SHOWN
        return mark + "".join(written).encode()

    return Document(said, write)


READERS: dict[str, Callable[[str, bytes], Document]] = {
    ".txt": _read_plain,
    ".srt": _read_subtitles,
    ".docx": lambda name, content: Document(*read_word(name, content)),
}
_KINDS = ", ".join(list(READERS)[:-1]) + f" or {list(READERS)[-1]}"


def _spoken(name: str, lines: list[str]) -> list[list[int]]:
    """Return the places of the lines that are spoken, those together that one voice speaks."""
    times = [_TIMES.fullmatch(line) is not None for line in lines]
    if not any(times):
        raise KzooError(f"{name} holds no subtitles: no line is like '00:00:01,000 --> 00:00:04,000'.")
    spoken: list[list[int]] = []
    for place, line in enumerate(lines):
        is_number = line.strip().isdecimal() and times[place + 1 : place + 2] == [True]
        if times[place] or is_number or not line.strip():
            continue
        if not any(times[:place]):
            raise KzooError(f"{name}, line {place + 1}: text before the first subtitle's times.")
        goes_on = bool(spoken) and spoken[-1][-1] == place - 1 and not _SPEAKER.match(line)
        if goes_on:
            spoken[-1].append(place)
        else:
            spoken.append([place])
    return spoken


def _wrapped(text: str, count: int) -> list[str]:
    """Split a text to lines of about the same length, the last ones empty if there are too few words."""
    words = _WORD.findall(text)
    lines: list[str] = []
    for left in range(count, 1, -1):
        wanted = len(" ".join(words)) / left
        taken = min(1, len(words))
        # A word goes on the line that would have the greater part of it; each later line needs one, too.
        while (
            len(words) - taken >= left and len(" ".join(words[: taken + 1])) - len(words[taken]) / 2 <= wanted
        ):
            taken += 1
        lines.append(" ".join(words[:taken]))
        words = words[taken:]
    return [*lines, " ".join(words)]


def decode(name: str, content: bytes) -> tuple[bytes, str]:
    """Return the mark that some programs put in front of UTF-8, and the text behind it.

    Raises:
        KzooError: naming file and line, if it is not UTF-8, or holds bytes that are 0.
    """
    mark = BOM_UTF8 if content.startswith(BOM_UTF8) else b""
    try:
        text = content[len(mark) :].decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, len(mark) + error.start) + 1
        raise KzooError(
            f"{name}, line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8. Save the file as UTF-8."
        ) from None
    if "\0" in text:
        raise KzooError(f"{name} is not a text: it has bytes that are 0.")
    return mark, text


def _lines(name: str, content: bytes) -> tuple[bytes, list[str]]:
    """Return what `decode` does, the text as lines in turn with their ends."""
    mark, text = decode(name, content)
    return mark, _END_OF_LINE.split(text)


def _checked(texts: Sequence[str], count: int) -> list[str]:
    """Return the texts, a line each."""
    if len(texts) != count:
        raise KzooError(f"There are {len(texts)} texts for a document of {count}.")
    return [_END_OF_LINE.sub(" ", text) for text in texts]
