"""Sentences of a paragraph, told apart by their punctuation."""

from __future__ import annotations

import re

# After these a full stop ends no sentence, in English, German or French; in lower case, without their own last one.
_ABBREVIATIONS = frozenset(
    """
    mr mrs ms dr prof st jr sr vs etc approx no fig vol pp ed eds inc ltd co corp dept est e.g i.e a.m p.m u.s u.k
    hr fr frl nr bzw ca usw evtl ggf inkl str tel vgl bspw sog z.b d.h u.a s.o s.u z.t i.d.r u.u
    m mm mme mlle p.ex cf env av
    """.split()  # noqa: SIM905 # sixty quotation marks would say no more
)
# Quotation marks of either direction close in some language, and open in another.
_QUOTES = "\"'\u2018\u2019\u201c\u201d\u00ab\u00bb\u2039\u203a"
_CLOSING = _QUOTES + ")]}\u300d\u300f\uff09"
_OPENING = _QUOTES + "([{\u201a\u201e\u00bf\u00a1\u2013\u2014-"
# Full stop, exclamation and question mark, ellipsis; the Arabic question mark and the danda; the wide ones.
_MARKS = ".!?\u2026\u061f\u0964"
_END = re.compile(
    rf"(?:(?<![{_MARKS}])[{_MARKS}]++[{re.escape(_CLOSING)}]*+(?=\s)"
    rf"|[\u3002\uff01\uff1f]++[{re.escape(_CLOSING)}]*+)\s*"
)
# More characters than any abbreviation has, or than open a sentence.
_NEAR = 20
_LAST_WORD = re.compile(rf"[^\s{re.escape(_OPENING)}]*$")


def split_sentences(text: str) -> list[str]:
    """Split a paragraph into its sentences; joined, they are the paragraph again, spaces included.

    A sentence ends with a full stop, an exclamation or a question mark, an ellipsis or their like in other scripts,
    and what closes with it, before a space and anything but a small letter; with the wide marks of Chinese and
    Japanese anywhere. A full stop ends none after an initial, a number of one or two digits, or an abbreviation that
    English, German or French often have.

    Example:
        >>> split_sentences("Dr. Who came. He left.")
        ['Dr. Who came. ', 'He left.']
    """
    sentences = []
    start = 0
    for match in _END.finditer(text):
        if match.end() < len(text) and _is_end(text, start, match):
            sentences.append(text[start : match.end()])
            start = match.end()
    if start < len(text):
        sentences.append(text[start:])
    return sentences


def _is_end(text: str, start: int, match: re.Match[str]) -> bool:
    if text[match.end() : match.end() + _NEAR].lstrip(_OPENING)[:1].islower():
        return False
    if match[0].rstrip().rstrip(_CLOSING) != ".":
        return True
    found = _LAST_WORD.search(text[max(start, match.start() - _NEAR) : match.start()])
    word = found[0] if found else ""
    is_initial = len(word) == 1 and word.isalpha() and word.isupper()
    is_ordinal = word.isdecimal() and len(word) <= 2
    return not (is_initial or is_ordinal or word.lower() in _ABBREVIATIONS)
