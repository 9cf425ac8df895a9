"""Page: a text in, and out comes what a bundle says of it: labels, a number, or labelled parts; and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from kzoo.apps import about, heatmap, links, page, page_classify_compare, page_classify_many
from kzoo.apps.answer_view import AnswerView
from kzoo.apps.classifying import KINDS, MAX_BARS, Answer, Classifier, Kind
from kzoo.apps.text_boxes import TextBoxes
from kzoo.errors import KzooError
from kzoo.runtime.explanation import ROLLOUT, explain, methods
from kzoo.text import Text

if TYPE_CHECKING:
    from kzoo.runtime import Pipeline

NAME, TITLE = "text", "Classify text"
TASKS = frozenset(KINDS)
COMMAND = "kzoo train recipe.toml --publish   # docs/recipes.md, text and labels"
TOP_K = 5
_KEPT = 3_600  # seconds that a browser's last text stays in memory


@dataclass(frozen=True)
class _Asked:
    """What was asked last: of which bundle, what, and the labels that came back, in the order of their bars."""

    classifier: Classifier
    text: Text
    labels: tuple[str, ...]


@dataclass(frozen=True)
class _Told:
    """The widgets beside an answer: how long it took, what was asked, and why it is so.

    Attributes:
        status: time, and remarks.
        asked: what was asked last.
        panel: all that explains.
        method: how to explain.
        heat: the text in colours.
        explained: the place of the label that these are of.
    """

    status: gr.Markdown
    asked: gr.State
    panel: gr.Column
    method: gr.Dropdown
    heat: gr.Markdown
    explained: gr.State


def build(pipelines: Sequence[Pipeline], surroundings: page.Surroundings) -> None:
    """Draw the tab: one text, many texts, and two bundles side by side."""
    known = {pipeline.name: Classifier(pipeline) for pipeline in pipelines}
    with gr.Tabs():
        with gr.Tab("One text"):
            _build_text(known, surroundings)
        with gr.Tab("Many texts"):
            page_classify_many.build(known)
        with gr.Tab("Compare"):
            page_classify_compare.build(known)


def _build_text(known: dict[str, Classifier], surroundings: page.Surroundings) -> None:
    first = next(iter(known.values()))
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280):
            model = gr.Dropdown(
                list(known),
                value=first.pipeline.name,
                label="Model",
                visible=len(known) > 1,
                filterable=False,
            )
            facts = gr.Markdown(page.line(first.about(), "about"), elem_classes="status")
            boxes = TextBoxes.draw(first)
            most = gr.Slider(label="Labels shown", step=1, **_range_of_labels(first))
            button = gr.Button("Classify", variant="primary")
        with gr.Column(min_width=280):
            view = AnswerView.draw(first.kind)
            told = _draw_told()
    boxes.examples.render()

    def ask(name: str, count: float, one: str, other: str) -> list[Any]:
        classifier = known[name]
        try:
            text = classifier.read(one, other)
            remark = page.remark_on_length(classifier.pipeline, classifier.inputs([text]))
            answer = classifier.answer(text, _bars(classifier, count))
        except KzooError as error:
            return [*view.blank(classifier.kind), *_nothing_told(page.line(str(error), "problem"))]
        return [*view.fill(classifier.kind, answer), *_all_told(classifier, text, answer, remark)]

    def switch(name: str) -> list[Any]:
        classifier = known[name]
        changed = [page.line(classifier.about(), "about"), gr.update(**_range_of_labels(classifier))]
        return [*changed, *boxes.switched(classifier), *view.blank(classifier.kind), *_nothing_told("")]

    shown = [*view.widgets, *vars(told).values()]
    boxes.wire(known, button, ask, [model, most], shown, told.status)
    _wire_explanations(view, told)
    model.input(
        switch,
        model,
        [facts, most, *boxes.changing, *shown],
        **page.AT_ONCE,
    )

    def call(pipeline: Pipeline, one: str, other: str) -> about.Call:
        text = known[pipeline.name].read(one, other)
        link = {"text": one, "second": other}
        if pipeline.task == "embedding":
            return about.Call("/similarity", list(text), body={"pairs": [text]}, link=link)
        several = known[pipeline.name].kind in (Kind.LABEL, Kind.LABELS)
        return about.Call("/classify", text, {"top_k": TOP_K if several else None}, link=link)

    def fill(fields: Mapping[str, str]) -> list[Any]:
        name = links.chosen(fields, known)
        # The box of the second text is among what is another for another bundle.
        facts, most, second, *others = switch(name)
        second |= links.value_of(fields, "second")
        return [name, gr.update(**links.value_of(fields, "text")), facts, most, second, *others]

    entered = [model, boxes.first, facts, most, *boxes.changing, *shown]
    surroundings.entrances[NAME] = links.Entrance(entered, fill)

    pipelines = {name: classifier.pipeline for name, classifier in known.items()}
    about.draw(NAME, pipelines, model, [boxes.first, boxes.second], call, surroundings)


def _draw_told() -> _Told:
    status = gr.Markdown(elem_classes="status", latex_delimiters=[])
    asked, explained = gr.State(None, time_to_live=_KEPT), gr.State(0)
    with gr.Column(visible=False) as panel:
        method = gr.Dropdown([], label="Click a label for the words that speak for it, found by")
        heat = gr.Markdown(elem_classes="heat status", latex_delimiters=[])
    return _Told(status, asked, panel, method, heat, explained)


def _nothing_told(status: str) -> list[Any]:
    """Return what the widgets of `_Told` show while there is no answer."""
    return [status, None, gr.update(visible=False), gr.skip(), "", 0]


def _all_told(classifier: Classifier, text: Text, answer: Answer, remark: str) -> list[Any]:
    """Return what the widgets of `_Told` show of an answer."""
    said = page.line(f"{1000 * answer.seconds:.1f} ms on {classifier.pipeline.device.upper()}", "took")
    said += page.line(remark, "remark") if remark else ""
    if classifier.kind is Kind.LABELS and not any(bar.said for bar in answer.bars):
        said += page.line("No label is above its threshold.", "remark")
    ways = list(methods(classifier.pipeline))
    asked = _Asked(classifier, text, tuple(bar.label for bar in answer.bars))
    choices = [(way.replace("_", " "), way) for way in ways]
    picked = gr.update(choices=choices, value=ways[0] if ways else None, interactive=len(ways) > 1)
    return [said, asked, gr.update(visible=bool(ways)), picked, "", 0]


def _bars(classifier: Classifier, count: float) -> int:
    """Return for how many labels there are bars; a slider that is not shown may be where another bundle left it."""
    return min(max(int(count), 1), MAX_BARS) if _range_of_labels(classifier)["visible"] else TOP_K


def _range_of_labels(classifier: Classifier) -> dict[str, Any]:
    """Return from how few to how many labels there may be bars."""
    labels = len(classifier.pipeline.manifest.labels or [])
    most = max(2, min(labels, MAX_BARS))
    return {
        "minimum": 1,
        "maximum": most,
        "value": min(TOP_K, most),
        "visible": labels > TOP_K and classifier.kind in (Kind.LABEL, Kind.LABELS),
    }


def _wire_explanations(view: AnswerView, told: _Told) -> None:
    def draw(asked: _Asked | None, way: str, place: Any) -> tuple[str, int]:
        try:
            if asked is None:
                raise KzooError("This text was too long ago: press Classify again.")
            place = page.checked_index(place, asked.labels, "Classify")
            found = explain(asked.classifier.pipeline, asked.text, label=asked.labels[place], method=way)
        except KzooError as error:
            return page.line(str(error), "problem"), 0
        said = f"“{found.label}” has a probability of {found.score:.1%}. "
        if found.method == ROLLOUT:
            said += (
                "A stronger colour: more of the model's attention comes from the word, whatever the label."
            )
        else:
            said += "A stronger colour: the word counts for more."
        return page.line(said, "took") + heatmap.draw_words(found), place

    def clicked(asked: _Asked | None, way: str, event: gr.SelectData) -> tuple[str, int]:
        return draw(asked, way, event.index)

    wiring: dict[str, Any] = {
        "outputs": [told.heat, told.explained],
        "show_progress_on": told.heat,
        "preprocess": False,
        **page.RUNS_MODEL,
    }
    view.bars.select(clicked, [told.asked, told.method], **wiring)
    told.method.input(draw, [told.asked, told.method, told.explained], **wiring)
