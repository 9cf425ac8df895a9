"""Page: an image in, the likeliest labels out, and which parts of it they come from; or many images at once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from kzoo.apps import about, links, page, page_classify_many_images
from kzoo.errors import KzooError
from kzoo.runtime.explanation import ROLLOUT, attention_maps, methods
from kzoo.runtime.image_explanation import as_seen, explain_image, patch_weights, reading_row
from kzoo.runtime.shading import shade

if TYPE_CHECKING:
    from kzoo.runtime import Pipeline

NAME, TITLE = "images", "Classify images"
TASKS = frozenset({"image_classification"})
COMMAND = "kzoo demo --no-serve && kzoo serve runs/digits/*"
TOP_K = 5
MAX_FILE = 16_000_000  # bytes
_ATTENTION = "attention"
_KEPT = 600  # seconds that a browser's last image stays

Upload = Mapping[str, Any]


@dataclass(frozen=True)
class _Asked:
    """What was asked last: of which bundle, the image, and the labels that came back, in the order of their bars."""

    pipeline: Any
    upload: Upload
    labels: tuple[str, ...]


@dataclass(frozen=True)
class _Why:
    """The widgets that show where an answer comes from.

    Attributes:
        asked: what was asked last.
        panel: all of them.
        method: how to explain.
        layer: whose attention is shown, from 1.
        head: likewise.
        place: that of the label that is explained.
        picture: the image in colours.
        said: a line about it.
    """

    asked: gr.State
    panel: gr.Column
    method: gr.Dropdown
    layer: gr.Slider
    head: gr.Slider
    place: gr.State
    picture: gr.Image
    said: gr.Markdown


def build(pipelines: Sequence[Pipeline], surroundings: page.Surroundings) -> None:
    """Draw the tab: one image, from a file, the clipboard or a camera; and many."""
    known = {pipeline.name: pipeline for pipeline in pipelines}
    with gr.Tabs():
        with gr.Tab("One image"):
            _build_one(known, surroundings)
        with gr.Tab("Many images"):
            page_classify_many_images.build(known)


def _build_one(known: dict[str, Pipeline], surroundings: page.Surroundings) -> None:
    names = list(known)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280):
            model = gr.Dropdown(
                names, value=names[0], label="Model", visible=len(names) > 1, filterable=False
            )
            given = gr.Image(label="Image", sources=["upload", "webcam", "clipboard"], height=280, buttons=[])
            button = gr.Button("Classify", variant="primary")
        with gr.Column(min_width=280):
            bars = gr.Label(label="Labels", num_top_classes=TOP_K, elem_classes="bars")
            status = gr.Markdown(elem_classes="status", latex_delimiters=[])
            why = _draw_why()

    def ask(name: str, upload: Upload | None) -> list[Any]:
        try:
            if upload is None:
                raise KzooError("There is no image yet: drop one, paste one, or take one.")
            pipeline: Any = known[name]
            _, _, image = page.read_upload(upload, MAX_FILE)
            started = time.perf_counter()
            found = pipeline(image, top_k=TOP_K)
            milliseconds = 1000 * (time.perf_counter() - started)
        except KzooError as error:
            return [None, page.line(str(error), "problem"), *_nothing_to_explain()]
        took = page.line(f"{milliseconds:.1f} ms on {pipeline.device.upper()}", "took")
        asked = _Asked(pipeline, upload, tuple(entry["label"] for entry in found))
        return [{entry["label"]: entry["score"] for entry in found}, took, *_to_explain(asked)]

    wiring: dict[str, Any] = {
        "fn": ask,
        "inputs": [model, given],
        "outputs": [bars, status, *vars(why).values()],
        # Images stay the files they are: the bundle's own reading says what is wrong with one, Gradio's not.
        "preprocess": False,
        "show_progress_on": status,
        **page.RUNS_MODEL,
    }
    button.click(**wiring)
    if surroundings.example_images:
        files = [[str(path)] for path in surroundings.example_images]
        examples = gr.Examples(files, [given], cache_examples=False)
        examples.load_input_event.then(**wiring)
    _wire_why(bars, why)
    # An image is no part of a link: it would have to stay here.
    surroundings.entrances[NAME] = links.Entrance([model], lambda fields: [links.chosen(fields, known)])
    about.draw(NAME, known, model, [given], _call, surroundings)


def _call(pipeline: Pipeline, upload: Upload | None) -> about.Call:
    name = Path(str((upload or {}).get("orig_name") or "image.png")).name
    return about.Call("/classify/images", name, {"top_k": TOP_K}, file=name)


def _draw_why() -> _Why:
    asked, place = gr.State(None, time_to_live=_KEPT), gr.State(0)
    with gr.Column(visible=False) as panel:
        method = gr.Dropdown([], label="Click a label for what speaks for it, found by", filterable=False)
        with gr.Row():
            layer = gr.Slider(1, 2, 1, step=1, label="Layer", visible=False)
            head = gr.Slider(1, 2, 1, step=1, label="Head", visible=False)
        picture = gr.Image(
            label="Explanation", interactive=False, format="png", height=280, buttons=["download"]
        )
        said = gr.Markdown(elem_classes="status", latex_delimiters=[])
    return _Why(asked, panel, method, layer, head, place, picture, said)


def _nothing_to_explain() -> list[Any]:
    """Return what the widgets of `_Why` show while there is no answer."""
    return [None, gr.update(visible=False), gr.skip(), gr.skip(), gr.skip(), 0, None, ""]


def _to_explain(asked: _Asked) -> list[Any]:
    """Return what the widgets of `_Why` show of an answer that nobody asked the reasons of yet."""
    ways = list(methods(asked.pipeline))
    if ROLLOUT in ways:
        ways.append(_ATTENTION)
    choices = [(way.replace("_", " "), way) for way in ways]
    picked = gr.update(choices=choices, value=ways[0], interactive=len(ways) > 1)
    hidden = gr.update(visible=False, value=1)
    return [asked, gr.update(visible=True), picked, hidden, hidden, 0, None, ""]


def _wire_why(bars: gr.Label, why: _Why) -> None:
    def draw(asked: _Asked | None, way: str, layer: Any, head: Any, place: Any) -> list[Any]:
        try:
            if asked is None:
                raise KzooError("This image was too long ago: press Classify again.")
            _, _, image = page.read_upload(asked.upload, MAX_FILE)
            place = page.checked_index(place, asked.labels, "Classify")
            if way == _ATTENTION:
                return [*_attention(asked.pipeline, image, layer, head), place]
            return [*_explained(asked, image, way, place), place]
        except KzooError as error:
            return [gr.skip(), gr.skip(), None, page.line(str(error), "problem"), 0]

    wiring: dict[str, Any] = {
        "outputs": [why.layer, why.head, why.picture, why.said, why.place],
        "show_progress_on": why.said,
        "preprocess": False,
        **page.RUNS_MODEL,
    }
    chosen = [why.asked, why.method, why.layer, why.head]

    def picked(asked: Any, way: Any, layer: Any, head: Any, event: gr.SelectData) -> list[Any]:
        return draw(asked, way, layer, head, event.index)

    bars.select(picked, chosen, **wiring)
    why.method.input(draw, [*chosen, why.place], **wiring)
    for slider in (why.layer, why.head):
        slider.release(draw, [*chosen, why.place], **wiring)


def _explained(asked: _Asked, image: bytes, way: str, place: int) -> list[Any]:
    """Return updates of layer and head, the picture, and what is said of it."""
    found = explain_image(asked.pipeline, image, label=asked.labels[place], method=way)
    said = f"“{found.label}” has a probability of {found.score:.1%}. "
    if way == ROLLOUT:
        said += "A stronger colour: more of the model's attention comes from there, whatever the label."
    else:
        said += "Blue speaks for it, orange against it."
    hidden = gr.update(visible=False)
    return [hidden, hidden, shade(found.image, found.weights), page.line(said, "took")]


def _attention(pipeline: Any, image: bytes, layer: Any, head: Any) -> list[Any]:
    maps = attention_maps(pipeline, image)
    layers, heads = maps.shape[:2]
    layer, head = (min(max(int(value), 1), most) for value, most in ((layer, layers), (head, heads)))
    weights = patch_weights(reading_row(maps[layer - 1, head - 1]))
    said = (
        f"How much of each patch reaches what the label is read from, in layer {layer} of {layers}, head {head} of "
        f"{heads}."
    )
    return [
        gr.update(visible=layers > 1, maximum=max(layers, 2), value=layer),
        gr.update(visible=heads > 1, maximum=max(heads, 2), value=head),
        shade(as_seen(pipeline, image), np.asarray(weights)),
        page.line(said, "took"),
    ]
