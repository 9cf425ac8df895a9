"""Page: a text in one language in, the same in another out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from kzoo.apps import page
from kzoo.errors import KzooError

if TYPE_CHECKING:
    from kzoo.runtime import Pipeline
    from kzoo.runtime.translation import Translation

TITLE = "Translate"
TASKS = frozenset({"seq2seq"})
COMMAND = "kzoo train recipe.toml --publish   # docs/recipes.md, translation"
EXAMPLES = (
    "A dog runs through the snow.",
    "Two children are playing football in the park.",
    "A woman in a red coat is waiting for the train.",
)
MAX_LINES = 20


def build(pipelines: Sequence[Pipeline], example_images: Sequence[Path]) -> None:
    """Draw the tab: a text, examples to click, its translation line by line."""
    page.form(
        _translate,
        pipelines,
        given=gr.Textbox(
            label="Text", placeholder="One sentence a line", lines=5, max_length=page.MAX_TEXT, render=False
        ),
        result=gr.Textbox(label="Translation", lines=5, interactive=False, buttons=["copy"], render=False),
        action="Translate",
        examples=EXAMPLES,
    )


def _translate(pipeline: Translation, text: str) -> tuple[str, str]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise KzooError("There is no text yet: type one, or click an example.")
    if len(lines) > MAX_LINES:
        raise KzooError(f"The text has {len(lines)} lines; this page translates up to {MAX_LINES} at a time.")
    remark = page.remark_on_length(pipeline, lines)
    return "\n".join(result["translation"] for result in pipeline(lines)), remark
