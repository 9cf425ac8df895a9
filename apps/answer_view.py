"""The widgets that show what a bundle says of a text: bars for labels, a number, or parts of the text in colours."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import gradio as gr
from gradio.components import Component

from kzoo.apps.classifying import Answer, Kind, Piece

_MARK = "✓ "
# Gradio's names of colours; each label keeps its own, whatever score stands beside it.
_COLOURS = ("teal", "orange", "blue", "purple", "green", "red", "yellow", "pink", "cyan", "lime")
_HEADS = {
    Kind.LABEL: "Labels",
    Kind.LABELS: "Labels, with a mark at those that the model gives",
    Kind.NUMBER: "Score",
}


@dataclass(frozen=True)
class AnswerView:
    """Where one answer is shown.

    Attributes:
        bars: labels with their probabilities, or a number.
        pieces: the text, parts of it in colours.
    """

    bars: gr.Label
    pieces: gr.HighlightedText

    @classmethod
    def draw(cls, kind: Kind) -> Self:
        """Draw the widgets for bundles of a kind; `blank` changes them to those for another."""
        spans = kind is Kind.SPANS
        return cls(
            gr.Label(label=_HEADS.get(kind), visible=not spans, elem_classes="bars"),
            gr.HighlightedText(label="Text", visible=spans, buttons=[]),
        )

    @property
    def widgets(self) -> list[Component]:
        """Both widgets, in the order of what the other methods return."""
        return [self.bars, self.pieces]

    @staticmethod
    def blank(kind: Kind) -> list[Any]:
        """Return updates that show nothing, of a bundle of this kind."""
        spans = kind is Kind.SPANS
        return [
            gr.update(value=None, visible=not spans, label=_HEADS.get(kind)),
            gr.update(value=None, visible=spans),
        ]

    @staticmethod
    def fill(kind: Kind, answer: Answer) -> list[Any]:
        """Return updates that show an answer."""
        bars, pieces = AnswerView.blank(kind)
        if kind is Kind.SPANS:
            pieces |= _coloured(answer.pieces)
        elif answer.number is not None:
            bars |= {"value": f"{answer.number:.3f}", "show_heading": True}
        else:
            several = kind is Kind.LABELS
            shown = {(_MARK if several and bar.said else "") + bar.label: bar.score for bar in answer.bars}
            bars |= {"value": shown, "show_heading": not several}
        return [bars, pieces]


def _coloured(pieces: Sequence[Piece]) -> dict[str, Any]:
    names = dict.fromkeys(piece.label for piece in pieces if piece.label is not None)
    colours = dict(zip(names, itertools.cycle(_COLOURS), strict=False))
    shown = {piece: f"{piece.label} {piece.score:.0%}" for piece in pieces if piece.label is not None}
    return {
        "value": [(piece.text, shown.get(piece)) for piece in pieces],
        "color_map": {text: colours[piece.label] for piece, text in shown.items() if piece.label is not None},
    }
