"""Spans of words that belong together, told by the words' labels."""

from __future__ import annotations

from collections.abc import Collection, Sequence

# What stands for no span at all among the labels of words, and what labels begin with that say where in a span a word
# stands: B-PER begins one, I-PER goes on; S, L, E and U are those of richer schemes.
OUTSIDE = "O"
_BEGINS, _GOES_ON, _ENDS = frozenset("BSU"), frozenset("ILE"), frozenset("SULE")


def label_spans(labels: Sequence[str], known: Collection[str] | None = None) -> list[tuple[int, int, str]]:
    """Join neighbouring words of one kind, as CoNLL's program does.

    Args:
        labels: of words in a row. With labels such as `B-PER` and `I-PER`, or where there is an `O`, neighbours of
            one kind make one span, and `O` makes none; else each word is a span.
        known: all labels that there are, if these are not all.

    Returns:
        The first word of each span, the word after its last one, and its kind.

    Example:
        >>> label_spans(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])
        [(0, 2, 'PER'), (3, 4, 'LOC'), (4, 5, 'LOC')]
    """
    joins = OUTSIDE in (labels if known is None else known)
    spans: list[tuple[int, int, str]] = []
    is_open = False
    for place, label in enumerate(labels):
        prefix, dash, rest = label.partition("-")
        tagged = bool(dash) and prefix in _BEGINS | _GOES_ON
        kind = rest if tagged else label
        goes_on = prefix in _GOES_ON if tagged else joins
        if is_open and goes_on and spans[-1][2] == kind:
            spans[-1] = (spans[-1][0], place + 1, kind)
        elif label != OUTSIDE:
            spans.append((place, place + 1, kind))
        is_open = label != OUTSIDE and not (tagged and prefix in _ENDS)
    return spans
