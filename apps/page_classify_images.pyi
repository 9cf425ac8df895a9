"""Page: an image in, the likeliest labels out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
from gradio.data_classes import ImageData

from kzoo.apps import page
from kzoo.errors import KzooError

if TYPE_CHECKING:
    from kzoo.runtime import Pipeline

TITLE = "Classify images"
TASKS = frozenset({"image_classification"})
COMMAND = "kzoo train models/digits/recipe.toml --publish"
TOP_K = 5


class _UploadedImage(gr.Image):
    """Hands over the file as it came: the bundle's own preprocessing reads it, and says what is wrong."""

    is_template = True  # drawn by the front end as an Image

    def preprocess(self, payload: ImageData | None) -> Path | None:
        return None if payload is None or payload.path is None else Path(payload.path)
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component

def build(pipelines: Sequence[Pipeline], example_images: Sequence[Path]) -> None:
    """Draw the tab: an image to drop or paste, labels with their probabilities."""
    page.form(
        _classify,
        pipelines,
        given=_UploadedImage(
            label="Image", sources=["upload", "clipboard"], height=280, buttons=[], render=False
        ),
        result=gr.Label(label="Labels", num_top_classes=TOP_K, render=False),
        action="Classify",
        examples=[str(path) for path in example_images],
    )

def _classify(pipeline: Pipeline, file: Path | None) -> tuple[dict[str, float], str]:
    if file is None:
        raise KzooError("There is no image yet: drop one, or paste one.")
    return {entry["label"]: entry["score"] for entry in pipeline(file.read_bytes(), top_k=TOP_K)}, ""
