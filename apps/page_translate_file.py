"""Part of the page for translation: a file in, a file of the same kind out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr

from kzoo.apps import page, translating
from kzoo.apps.languages import Direction
from kzoo.errors import KzooError
from kzoo.text.formats import read_document

MAX_FILE = 4_000_000  # bytes
MAX_CHARACTERS = 200_000
_KINDS = "Text (.txt), subtitles (.srt) or Word (.docx)"


def build(known: dict[str, Direction], label: gr.Dropdown, beams: gr.Slider) -> None:
    """Draw the tab: a file to drop, a bar that grows, and the file to take away."""
    with gr.Row(equal_height=True):
        given = gr.File(label=_KINDS, height=160, min_width=280)
        result = gr.File(label="Translated", interactive=False, height=160, min_width=280)
    with gr.Row():
        button = gr.Button("Translate file", variant="primary", scale=3)
        cancel = gr.Button("Cancel", scale=1, min_width=80)
    status = gr.Markdown(elem_classes="status", latex_delimiters=[])

    def translate(
        picked: str, width: float, upload: Mapping[str, Any] | None
    ) -> Iterator[tuple[str | None, str]]:
        try:
            yield from _translate(known[picked], int(width), upload)
        except KzooError as error:
            yield None, page.line(str(error), "problem")

    # What is left of another file would pass for this one's.
    given.clear(lambda: (None, ""), None, [result, status], **page.AT_ONCE)
    run = button.click(
        translate,
        [label, beams, given],
        [result, status],
        show_progress_on=status,
        preprocess=False,
        **page.RUNS_FILE,
    )
    page.stop_with(
        cancel, [run], [result, status], [None, page.line("Cancelled; no file was made.", "remark")]
    )


def _translate(
    direction: Direction, beams: int, upload: Mapping[str, Any] | None
) -> Iterator[tuple[str | None, str]]:
    """Yield how far it is, and at the end the file's path."""
    if upload is None:
        raise KzooError("There is no file yet: drop one on the left.")
    name, path, content = page.read_upload(upload, MAX_FILE)
    document = read_document(name, content)
    text = "\n".join(document.texts)
    if len(text) > MAX_CHARACTERS:
        raise KzooError(
            f"{name} has {len(text):,} characters; this page translates up to {MAX_CHARACTERS:,} at a time. Split it."
        )
    start = time.perf_counter()
    begun = translating.begin(direction, text, beams)
    if not begun.sentences:
        raise KzooError(f"There are no words to translate in {name}.")
    for work in translating.in_batches(begun):
        yield None, page.progress(len(work.translations), len(work.sentences), "sentences")
    seconds = time.perf_counter() - start
    title = f"{path.stem}.{direction.target or 'translated'}{path.suffix}"
    written = page.write_download(path.parent, title, document.write(work.result.split("\n")))
    remark = page.remark_on_length(direction.pipeline, work.sentences)
    said = page.line(translating.speed(work, seconds), "took")
    yield written, said + (page.line(remark, "remark") if remark else "")
