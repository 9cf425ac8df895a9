"""Page: a text in, the likeliest labels out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from kzoo.apps import page
from kzoo.errors import KzooError

if TYPE_CHECKING:
    from kzoo.runtime import Pipeline
    from kzoo.runtime.prediction import Classification

TITLE = "Classify text"
TASKS = frozenset({"classification"})
COMMAND = "kzoo train recipe.toml --publish   # docs/recipes.md, text and labels"
EXAMPLES = (
    "Shares fell sharply on Monday after the bank warned of lower profits.",
    "The striker scored twice in the last ten minutes of the match.",
    "Engineers taught the probe to steer itself around craters.",
    "Ministers met for a second day to end the dispute over the border.",
)
TOP_K = 5


def build(pipelines: Sequence[Pipeline], example_images: Sequence[Path]) -> None:
    """Draw the tab: a text, examples to click, labels with their probabilities."""
    page.form(
        _classify,
        pipelines,
        given=gr.Textbox(
            label="Text",
            placeholder="A sentence or a paragraph",
            lines=5,
            max_length=page.MAX_TEXT,
            render=False,
        ),
        result=gr.Label(label="Labels", num_top_classes=TOP_K, render=False),
        action="Classify",
        examples=EXAMPLES,
    )


def _classify(pipeline: Classification, text: str) -> tuple[dict[str, float], str]:
    if not text.strip():
        raise KzooError("There is no text yet: type one, or click an example.")
    remark = page.remark_on_length(pipeline, [text])
    return {entry["label"]: entry["score"] for entry in pipeline(text, top_k=TOP_K)}, remark
