"""Page: a text in one language in, the same in another out, and a closer look at each sentence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import gradio as gr

from kzoo.apps import about, heatmap, links, page, page_translate_file, translating
from kzoo.apps.languages import Direction, directions
from kzoo.apps.translating import Work
from kzoo.errors import KzooError

if TYPE_CHECKING:
    from kzoo.runtime import Pipeline
    from kzoo.runtime.translation import Translation

NAME, TITLE = "translate", "Translate"
TASKS = frozenset({"seq2seq"})
COMMAND = "kzoo train recipe.toml --publish   # docs/recipes.md, translation"
EXAMPLES = {
    "en": (
        "A dog runs through the snow.",
        "Two children are playing football in the park. A woman in a red coat is waiting for the train.",
        "# At the beach\n\n- A man is <b>fishing</b>.\n- Three girls jump into the water.",
    ),
    "de": ("Ein Hund rennt durch den Schnee.", "Zwei Kinder spielen im Park. Eine Frau wartet auf den Zug."),
    "fr": ("Un chien court dans la neige.", "Deux enfants jouent dans le parc. Une femme attend le train."),
}
MAX_TEXT = 5_000  # characters
_KEPT = 3_600  # seconds that a browser's last text stays in memory


@dataclass(frozen=True)
class _Closer:
    """The widgets about one sentence."""

    place: gr.Dropdown
    found: gr.Radio
    words: gr.Radio
    ways: gr.Radio
    table: gr.Markdown
    note: gr.Markdown


def build(pipelines: Sequence[Pipeline], surroundings: page.Surroundings) -> None:
    """Draw the tab: languages and beams; texts and files below; of texts, a sentence looked at closely."""
    known = directions(cast("Sequence[Translation]", pipelines))
    first = next(iter(known))
    with gr.Row():
        label = gr.Dropdown(
            list(known), value=first, label="Languages", interactive=len(known) > 1, min_width=280
        )
        beams = gr.Slider(
            1,
            translating.MAX_BEAMS,
            value=1,
            step=1,
            label="Beams",
            info="1 shows the text as it is written; more compare that many translations, and take longer",
            min_width=280,
        )
    with gr.Tabs():
        with gr.Tab("Text"):
            source, target = _build_text(known, label, beams)
        with gr.Tab("File"):
            page_translate_file.build(known, label, beams)

    def name_languages(picked: str) -> tuple[Any, Any]:
        return gr.update(label=known[picked].source_name), gr.update(label=known[picked].target_name)

    def call(pipeline: Pipeline, picked: str, count: float, text: str) -> about.Call:
        target = known[picked].target_language
        options = {"num_beams": int(count) if count > 1 else None, "target_language": target}
        link = {"to": target or "", "beams": str(int(count)) if count > 1 else "", "text": text}
        return about.Call("/translate", _checked(text), options, link=link)

    def fill(fields: Mapping[str, str]) -> list[Any]:
        name = links.chosen(fields, [direction.pipeline.name for direction in known.values()])
        fitting = [label for label, direction in known.items() if direction.pipeline.name == name]
        wanted = [label for label in fitting if known[label].target_language == fields.get("to")]
        picked = (wanted or fitting)[0]
        count = int(fields["beams"]) if fields.get("beams", "").isdecimal() else 1
        count = min(max(count, 1), translating.MAX_BEAMS)
        source_update, target_update = name_languages(picked)
        return [picked, count, source_update | links.value_of(fields, "text"), target_update]

    surroundings.entrances[NAME] = links.Entrance([label, beams, source, target], fill)
    pipelines_by_label = {name: direction.pipeline for name, direction in known.items()}
    about.draw(NAME, pipelines_by_label, label, [label, beams, source], call, surroundings)
    label.change(name_languages, label, [source, target], **page.AT_ONCE)


def _build_text(
    known: dict[str, Direction], label: gr.Dropdown, beams: gr.Slider
) -> tuple[gr.Textbox, gr.Textbox]:
    direction = next(iter(known.values()))
    state = gr.State(None, time_to_live=_KEPT)
    with gr.Row(equal_height=True):
        source = gr.Textbox(
            label=direction.source_name,
            placeholder="Words, sentences or paragraphs",
            lines=6,
            max_lines=20,
            min_width=280,
        )
        target = gr.Textbox(
            label=direction.target_name,
            lines=6,
            max_lines=20,
            min_width=280,
            interactive=False,
            buttons=["copy"],
        )
    with gr.Row():
        button = gr.Button("Translate", variant="primary", scale=3)
        stop = gr.Button("Stop", scale=1, min_width=80)
    status = gr.Markdown(elem_classes="status", latex_delimiters=[])
    examples = EXAMPLES.get(direction.source, ())
    clickable = (
        gr.Examples([[text] for text in examples], [source], cache_examples=False) if examples else None
    )
    with gr.Column(visible=False) as panel:
        closer = _build_closer()

    wiring: dict[str, Any] = {
        "fn": _translator(known, closer),
        "inputs": [label, beams, source],
        "outputs": [target, status, state, panel, *vars(closer).values()],
        "show_progress_on": status,
        "preprocess": False,
        **page.RUNS_MODEL,
    }
    runs: list[dict[str, Any]] = [button.click(**wiring), source.submit(**wiring)]
    if clickable is not None:
        runs.append(clickable.load_input_event.then(**wiring))
    page.stop_with(stop, runs, [status], [page.line("Stopped.", "remark")])
    _wire_closer(closer, state, target, status)
    return source, target


def _translator(known: dict[str, Direction], closer: _Closer) -> Callable[..., Iterator[Any]]:
    """Return what answers the button: pictures of a growing text, and at its end all there is to see of it."""

    def translate(label: str, beams: float, text: str) -> Iterator[Any]:
        silent = [None, gr.update(visible=False), *[gr.skip()] * len(vars(closer))]
        start = time.perf_counter()
        try:
            work = translating.begin(known[label], _checked(text), int(beams))
            steps = translating.stream(work) if work.beams == 1 else translating.in_batches(work)
            yield "", page.line("Translating ...", "took"), *silent
            for work in steps:
                yield work.result, gr.skip(), *silent
            seconds = time.perf_counter() - start
            remark = page.remark_on_length(work.direction.pipeline, work.sentences) if work.sentences else ""
            said = page.line(translating.speed(work, seconds), "took")
            said += page.line(remark, "remark") if remark else ""
            if not work.sentences:
                said = page.line("There are no words in this text: nothing of it changes.", "remark")
            work = work.look(0)
            yield work.result, said, work, gr.update(visible=bool(work.found)), *_picture(work)
        except KzooError as error:
            yield "", page.line(str(error), "problem"), *silent

    return translate


def _checked(text: str) -> str:
    if not text.strip():
        raise KzooError("There is no text yet: type one, or click an example.")
    if len(text) > MAX_TEXT:
        raise KzooError(
            f"The text has {len(text):,} characters; this page translates up to {MAX_TEXT:,} at a time. "
            "Save it as a file, and use the File tab."
        )
    return text


def _build_closer() -> _Closer:
    """Draw what is about one sentence."""
    place = gr.Dropdown([], label="A closer look at")
    found = gr.Radio(
        [], label="Translations, with the mean log-probability of their tokens", elem_classes="found"
    )
    words = gr.Radio([], label="Click a word for what else might stand there", elem_classes="words")
    ways = gr.Radio([], label="", visible=False, elem_classes="words")
    note = gr.Markdown(elem_classes="status", latex_delimiters=[])
    with gr.Accordion("Where each token comes from", open=True):
        table = gr.Markdown(latex_delimiters=[], elem_classes="heat")
    return _Closer(place, found, words, ways, table, note)


def _picture(work: Work) -> list[Any]:
    """Return what the widgets of `_Closer` show, in their order."""
    if not work.found:
        return [gr.skip()] * len(_Closer.__dataclass_fields__)
    sentences = [(f"{index + 1}. {text}", index) for index, text in enumerate(work.sentences)]
    found = [(f"{each['score']:.2f}  {each['translation']}", index) for index, each in enumerate(work.found)]
    words = [(word, index) for index, word in enumerate(work.words())]
    alignment = work.alignment
    table = (
        page.line("This bundle does not say; export it again to see it here.", "remark")
        if alignment is None
        else heatmap.draw(alignment)
    )
    return [
        gr.update(choices=sentences, value=work.place, visible=len(sentences) > 1),
        gr.update(choices=found, value=work.picked),
        gr.update(choices=words, value=None),
        gr.update(choices=[], value=None, visible=False),
        table,
        "",
    ]


def _wire_closer(closer: _Closer, state: gr.State, target: gr.Textbox, status: gr.Markdown) -> None:
    def wired(widget: gr.Dropdown | gr.Radio, change: Callable[[Work, Any], Work]) -> None:
        def answer(work: Work | None, value: Any) -> list[Any]:
            try:
                work = change(_kept(work), value)
            except KzooError as error:
                kept = [gr.skip()] * len(vars(closer))
                return [gr.skip(), work, *kept[:-1], page.line(str(error), "problem")]
            return [work.result, work, *_picture(work)]

        widget.input(
            answer,
            [state, widget],
            [target, state, *vars(closer).values()],
            show_progress_on=closer.note,
            preprocess=False,
            **page.RUNS_MODEL,
        )

    def show_ways(work: Work | None, index: Any) -> tuple[Any, str]:
        try:
            work = _kept(work)
            ways = work.alternatives(page.checked_index(index, work.words(), "Translate"))
        except KzooError as error:
            return gr.update(visible=False), page.line(str(error), "problem")
        choices = [(f"{text}  {_percent(probability)}", beginning) for text, probability, beginning in ways]
        word = work.words()[index]
        return gr.update(choices=choices, value=None, visible=True, label=f"Instead of “{word}”"), ""

    wired(closer.place, lambda work, value: work.look(page.checked_index(value, work.sentences, "Translate")))
    wired(closer.found, lambda work, value: work.pick(page.checked_index(value, work.found, "Translate")))
    wired(closer.ways, lambda work, value: work.look(work.place, str(value)))
    closer.words.input(
        show_ways,
        [state, closer.words],
        [closer.ways, closer.note],
        show_progress_on=closer.note,
        preprocess=False,
        **page.RUNS_MODEL,
    )


def _kept(work: Work | None) -> Work:
    if work is None:
        raise KzooError("This text was too long ago: press Translate again.")
    return work


def _percent(probability: float) -> str:
    return "<1%" if probability < 0.01 else f"{probability:.0%}"
