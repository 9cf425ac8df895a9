"""Part of the page for texts: two bundles side by side on the same text."""

from __future__ import annotations

from typing import Any

import gradio as gr

from kzoo.apps import page
from kzoo.apps.answer_view import AnswerView
from kzoo.apps.classifying import Answer, Classifier, Kind, comparable, latencies
from kzoo.apps.text_boxes import TextBoxes
from kzoo.errors import KzooError

_BARS = 10  # for each bundle


def build(known: dict[str, Classifier]) -> None:
    """Draw the tab: two bundles to pick, a text, and both answers; or a word on what is missing."""
    others = comparable(list(known.values()))
    if not others:
        gr.Markdown(
            "It takes two bundles that say the same kind of thing of a text to compare them; there are none yet."
        )
        return
    name = next(iter(others))
    kind = known[name].kind
    with gr.Row():
        first = gr.Dropdown(list(others), value=name, label="First model", min_width=280, filterable=False)
        second = gr.Dropdown(
            others[name], value=others[name][0], label="Second model", min_width=280, filterable=False
        )
    boxes = TextBoxes.draw(known[name])
    button = gr.Button("Compare", variant="primary")
    together = gr.Markdown(elem_classes="status", latex_delimiters=[])
    with gr.Row():
        sides = [_draw_side(kind) for _ in range(2)]
    boxes.examples.render()
    outputs = [
        together,
        *(note for note, _ in sides),
        *(widget for _, view in sides for widget in view.widgets),
    ]

    def compare(one: str, other: str, text: str, more: str) -> list[Any]:
        try:
            if other not in others[one]:
                raise KzooError(
                    f"'{one}' and '{other}' do not say the same kind of thing. Pick another model."
                )
            return _compared([known[one], known[other]], text, more)
        except KzooError as error:
            return _nothing(known[one].kind, page.line(str(error), "problem"))

    boxes.wire(known, button, compare, [first, second], outputs, together)

    def switch(picked: str) -> list[Any]:
        partners = gr.update(choices=others[picked], value=others[picked][0])
        return [partners, *boxes.switched(known[picked]), *_nothing(known[picked].kind, "")]

    first.input(switch, first, [second, *boxes.changing, *outputs], **page.AT_ONCE)


def _draw_side(kind: Kind) -> tuple[gr.Markdown, AnswerView]:
    with gr.Column(min_width=280):
        return gr.Markdown(elem_classes="status", latex_delimiters=[]), AnswerView.draw(kind)


def _nothing(kind: Kind, said: str) -> list[Any]:
    """Return what the tab shows while there are no answers."""
    return [said, "", "", *AnswerView.blank(kind), *AnswerView.blank(kind)]


def _compared(pair: list[Classifier], text: str, more: str) -> list[Any]:
    """Return what the tab shows of two bundles' answers."""
    # One that takes both, texts and pairs, takes what the other does.
    read = min(pair, key=lambda each: each.pairs is None).read(text, more)
    answers = [each.answer(read, _BARS) for each in pair]
    notes = []
    for each, milliseconds in zip(pair, latencies(pair, read), strict=True):
        said = f"{each.pipeline.name}: {milliseconds:.1f} ms on {each.pipeline.device.upper()}"
        remark = page.remark_on_length(each.pipeline, each.inputs([read]))
        notes.append(page.line(said, "took") + (page.line(remark, "remark") if remark else ""))
    shown = [update for answer in answers for update in AnswerView.fill(pair[0].kind, answer)]
    return [page.line(_difference(pair[0].kind, *answers), "remark"), *notes, *shown]


def _difference(kind: Kind, one: Answer, other: Answer) -> str:
    """Say whether two answers agree."""
    if kind is Kind.NUMBER and one.number is not None and other.number is not None:
        return f"They differ by {abs(one.number - other.number):.3f}."
    if kind is Kind.SPANS:
        one_says, other_says = (
            [(piece.text, piece.label) for piece in answer.pieces] for answer in (one, other)
        )
        return f"They label {'the same parts alike' if one_says == other_says else 'parts of the text differently'}."
    said = [
        " and ".join(bar.label for bar in answer.bars if bar.said) or "nothing" for answer in (one, other)
    ]
    return (
        f"Both say {said[0]}." if said[0] == said[1] else f"The first says {said[0]}, the second {said[1]}."
    )
