"""Page: an image in, the likeliest labels out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from kzoo.apps import page
from kzoo.errors import KzooError

if TYPE_CHECKING:
    from kzoo.runtime import Pipeline
    from kzoo.runtime.prediction import Classification

TITLE = "Classify images"
TASKS = frozenset({"image_classification"})
COMMAND = "kzoo demo --no-serve && kzoo serve runs/digits/*"
TOP_K = 5


def build(pipelines: Sequence[Pipeline], example_images: Sequence[Path]) -> None:
    """Draw the tab: an image to drop or paste, labels with their probabilities."""
    page.form(
        _classify,
        pipelines,
        given=gr.Image(label="Image", sources=["upload", "clipboard"], height=280, buttons=[], render=False),
        result=gr.Label(label="Labels", num_top_classes=TOP_K, render=False),
        action="Classify",
        examples=[str(path) for path in example_images],
    )


def _classify(pipeline: Classification, upload: Mapping[str, Any] | None) -> tuple[dict[str, float], str]:
    if upload is None:
        raise KzooError("There is no image yet: drop one, or paste one.")
    image = Path(upload["path"]).read_bytes()
    return {entry["label"]: entry["score"] for entry in pipeline(image, top_k=TOP_K)}, ""
