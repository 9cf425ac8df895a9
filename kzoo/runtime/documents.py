"""Texts of many lines: what of them is translated, and what stays as it is."""

from __future__ import annotations

import re
from collections.abc import Callable

from kzoo.text.sentences import split_sentences

# What opens a line without being said: indentation, the marks of lists, headings and quotations.
_OPENING = re.compile(r"\s*(?:(?:[-*+•#>]+|\d{1,3}[.)])\s+)*")
_TAG = re.compile(r"(<[^<>\n]*>)")
_LETTER = re.compile(r"[^\W\d_]")


def translate_lines(text: str, translate: Callable[[list[str]], list[str]]) -> str:
    """Return a text with as many lines, translated.

    Args:
        text: lines, ended by `\\n` or `\\r\\n`, the last one perhaps by nothing.
        translate: gives a translation for each of some sentences, in their order. It is called once.

    Example:
        >>> translate_lines("# One. Two.\\n\\n3 <b>four</b>", lambda texts: [text.upper() for text in texts])
        '# ONE. TWO.\\n\\n3 <b>FOUR</b>'
    """
    parts = [part for line in re.split(r"(\r?\n)", text) for part in _parts(line)]
    places = [place for place, (_, said) in enumerate(parts) if said]
    translated = [part for part, _ in parts]
    if places:
        results = translate([parts[place][0] for place in places])
        for place, result in zip(places, results, strict=True):
            # What would end a line here is none of the document's lines.
            translated[place] = " ".join(result.split())
    return "".join(translated)


def _parts(line: str) -> list[tuple[str, bool]]:
    """Return a line in parts, and of each whether it is translated."""
    opening = _OPENING.match(line)
    first = opening.end() if opening else 0
    parts = [(line[:first], False)]
    for piece in _TAG.split(line[first:]):
        for sentence in [piece] if _TAG.fullmatch(piece) else split_sentences(piece):
            if _TAG.fullmatch(sentence) or not _LETTER.search(sentence):
                parts.append((sentence, False))
                continue
            inner = sentence.strip()
            before, _, after = sentence.partition(inner)
            parts += [(before, False), (inner, True), (after, False)]
    return parts
