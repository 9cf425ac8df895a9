"""Word files: their paragraphs' text replaced where it stands, every other byte of their XML kept."""

from __future__ import annotations

import copy
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from xml.parsers import expat
from xml.sax.saxutils import escape

from kzoo.errors import KzooError

MAX_UNPACKED = 64_000_000  # bytes, of all that is in a file
_MAX_MEMBERS = 5_000
_MAIN = "word/document.xml"
# Where a reader sees text. What is said about it, comments and properties, stays as it is.
_WITH_TEXT = re.compile(r"word/(document|header\d*|footer\d*|footnotes|endnotes)\.xml")
_NAMESPACES = (
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "http://purl.oclc.org/ooxml/wordprocessingml/main",
)
# What text does not flow across.
_BREAKS = frozenset(
    {"tab", "ptab", "br", "cr", "drawing", "pict", "object", "footnoteReference", "endnoteReference"}
)
_UNWRITABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Span(NamedTuple):
    """Where an XML file has a piece of text: its element's name, the bytes that are the element, and the text."""

    tag: str
    start: int
    end: int
    text: str


def read_word(name: str, content: bytes) -> tuple[list[str], Callable[[Sequence[str]], bytes]]:
    """Take a Word file's texts out of it: paragraphs, and the parts of them between tabs, breaks and pictures.

    A text that is put back is formatted all as the longest piece of the old one was.

    Args:
        name: the file's, for messages.
        content: the file.

    Returns:
        The texts, and a function that takes as many and returns the file with these.

    Raises:
        KzooError: if it is no Word file, damaged, encrypted or, unpacked, larger than `MAX_UNPACKED`.
    """
    members = _unpack(name, content)
    places = [
        (part, spans)
        for part, (_, data) in members.items()
        if _WITH_TEXT.fullmatch(part)
        for spans in _Paragraphs(f"{name}, {part}", data).found
    ]
    texts = ["".join(span.text for span in spans) for _, spans in places]

    def write(replaced: Sequence[str]) -> bytes:
        if len(replaced) != len(places):
            raise KzooError(f"There are {len(replaced)} texts for a document of {len(places)}.")
        edits: dict[str, list[tuple[_Span, str]]] = {}
        for (part, spans), text, old in zip(places, replaced, texts, strict=True):
            if text != old:
                largest = max(spans, key=lambda span: len(span.text))
                edits.setdefault(part, []).extend((span, text if span is largest else "") for span in spans)
        return _pack(members, {part: _edited(members[part][1], spans) for part, spans in edits.items()})

    return texts, write


class _Paragraphs:
    """Finds text in a part of a Word file.

    Attributes:
        found: the spans of each stretch of text.
    """

    def __init__(self, where: str, data: bytes):
        self.found: list[list[_Span]] = []
        self._where = where
        self._data = data
        self._open: list[list[_Span]] = []  # of each paragraph around the place, the stretch that may go on
        self._text: list[str] | None = None
        self._start = 0
        if b"\0" in data:  # a parser would take it for UTF-16 and count other bytes
            raise KzooError(f"{where} is not in UTF-8, as Word files are.")
        parser = expat.ParserCreate("utf-8", " ")
        parser.namespace_prefixes = True
        parser.buffer_text = True
        parser.XmlDeclHandler = self._declare
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.StartElementHandler = self._enter
        parser.EndElementHandler = self._leave
        parser.CharacterDataHandler = self._add
        self._parser = parser
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            raise KzooError(f"{where} is damaged: {error}.") from None

    def _declare(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() != "utf-8":
            raise KzooError(f"{self._where} is in {encoding}; Word files are in UTF-8.")

    def _refuse_doctype(self, *declared: Any) -> None:
        raise KzooError(f"{self._where} declares a document type, which Word files never do.")

    def _enter(self, name: str, attributes: dict[str, str]) -> None:
        tag = _word_tag(name)
        if tag == "p":
            self._open.append([])
        elif tag in _BREAKS:
            self._close_stretch()
        elif tag == "t" and self._open:
            self._text = []
            self._start = self._parser.CurrentByteIndex

    def _add(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def _leave(self, name: str) -> None:
        tag = _word_tag(name)
        if tag == "p":
            self._close_stretch()
            self._open.pop()
        elif tag == "t" and self._text is not None:
            text = re.sub(r"[\t\r\n]", " ", "".join(self._text))
            end = self._data.index(b">", self._parser.CurrentByteIndex) + 1
            # An element without content ends where it starts.
            if text:
                prefix = name.split(" ")[2:]
                self._open[-1].append(_Span(":".join([*prefix, "t"]), self._start, end, text))
            self._text = None

    def _close_stretch(self) -> None:
        if self._open and self._open[-1]:
            self.found.append(self._open[-1])
            self._open[-1] = []


def _word_tag(name: str) -> str | None:
    """Return a tag's own name if it is one of Word's."""
    namespace, _, local = name.partition(" ")
    return local.split(" ")[0] if namespace in _NAMESPACES else None


def _edited(data: bytes, edits: list[tuple[_Span, str]]) -> bytes:
    """Return XML with other text in some elements."""
    pieces = []
    done = 0
    for span, text in sorted(edits):
        written = escape(_UNWRITABLE.sub("", text))
        element = f'<{span.tag} xml:space="preserve">{written}</{span.tag}>'
        pieces += [data[done : span.start], element.encode()]
        done = span.end
    return b"".join([*pieces, data[done:]])


def _unpack(name: str, content: bytes) -> dict[str, tuple[zipfile.ZipInfo, bytes]]:
    """Return what is in a Word file, by name."""
    members: dict[str, tuple[zipfile.ZipInfo, bytes]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            _check_entries(name, entries)
            for entry in entries:
                with archive.open(entry) as member:
                    # Given a size it unpacks no more than that at once, whatever the entry says of itself.
                    members[entry.filename] = entry, member.read(entry.file_size + 1)
    except KzooError:
        raise
    # zipfile's NotImplementedError is for entries packed in a way that it does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise KzooError(f"{name} is not a Word file, or is damaged: {error}") from None
    return members


def _check_entries(name: str, entries: list[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries]
    if _MAIN not in names:
        raise KzooError(f"{name} is not a Word file: it is an archive without {_MAIN}.")
    if len(names) > _MAX_MEMBERS or sum(entry.file_size for entry in entries) > MAX_UNPACKED:
        raise KzooError(
            f"{name} would unpack to more than {_MAX_MEMBERS:,} files or {MAX_UNPACKED:,} bytes, too much to read."
        )
    if len(set(names)) < len(names):
        raise KzooError(f"{name} is not a Word file: two of its entries have one name.")
    for entry in entries:
        if ".." in entry.filename.split("/") or entry.filename[:1] in "/\\":
            raise KzooError(f"{name} is not a Word file: it has an entry '{entry.filename[:80]}'.")
        if entry.flag_bits & 1:
            raise KzooError(f"{name} is encrypted. Save it without a password.")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise KzooError(
                f"{name} is not a Word file: '{entry.filename}' is packed in a way they never are."
            )


def _pack(members: dict[str, tuple[zipfile.ZipInfo, bytes]], replaced: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for part, (entry, data) in members.items():
            archive.writestr(copy.copy(entry), replaced.get(part, data))
    return file.getvalue()
