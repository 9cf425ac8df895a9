"""Part of the page for images: many files in, and a file with their labels out."""

from __future__ import annotations

import html
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from kzoo.apps import page
from kzoo.apps.tables import Value, shown, table_of
from kzoo.errors import KzooError
from kzoo.runtime.inputs import Pixels

if TYPE_CHECKING:
    from kzoo.runtime import Pipeline

MAX_FILES = 1_000
MAX_FILE = 16_000_000  # bytes
_SHOWN = 20  # rows on the page
_AT_ONCE = 16  # images

Upload = Mapping[str, Any]


def build(known: dict[str, Pipeline]) -> None:
    """Draw the tab: files in, a bar that grows, the first rows, and the file to take away."""
    names = list(known)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280):
            model = gr.Dropdown(
                names, value=names[0], label="Model", visible=len(names) > 1, filterable=False
            )
            files = gr.File(label="Images", file_count="multiple", height=160)
            with gr.Row():
                button = gr.Button("Classify all", variant="primary", scale=3, min_width=160)
                cancel = gr.Button("Cancel", scale=1, min_width=80)
        with gr.Column(min_width=280):
            result = gr.File(label="With labels", interactive=False, height=120)
            status = gr.Markdown(elem_classes="status", latex_delimiters=[])
    rows = gr.Markdown(elem_classes="rows", latex_delimiters=[])
    outputs = [result, status, rows]

    def label(name: str, uploads: Sequence[Upload] | None) -> Iterator[tuple[str | None, str, str]]:
        try:
            yield from _label(known[name], uploads or [], Path(result.GRADIO_CACHE))
        except KzooError as error:
            yield None, page.line(str(error), "problem"), ""

    run = button.click(
        label,
        [model, files],
        outputs,
        show_progress_on=status,
        preprocess=False,
        **page.RUNS_FILE,
    )
    page.stop_with(cancel, [run], outputs, [None, page.line("Cancelled; no file was made.", "remark"), ""])


def _label(pipeline: Any, uploads: Sequence[Upload], folder: Path) -> Iterator[tuple[str | None, str, str]]:
    """Yield how far it is, and at the end the file's path, what there is to say, and the first rows."""
    if not uploads:
        raise KzooError("There are no images yet: drop some.")
    if len(uploads) > MAX_FILES:
        raise KzooError(f"There are {len(uploads):,} images; this page takes up to {MAX_FILES:,} at a time.")
    names: list[str] = []
    columns: dict[str, list[Value]] = {"label": [], "score": [], "problem": []}
    started = time.perf_counter()
    for first in range(0, len(uploads), _AT_ONCE):
        yield None, page.progress(first, len(uploads), "images"), ""
        for name, answer, problem in _labelled(pipeline, uploads[first : first + _AT_ONCE]):
            names.append(name)
            columns["label"].append(answer["label"] if answer else "")
            columns["score"].append(answer["score"] if answer else "")
            columns["problem"].append(problem)
    seconds = time.perf_counter() - started
    content, _ = table_of("image", names).write(columns)
    bad = sum(map(bool, columns["problem"]))
    said = page.line(
        f"{len(names):,} files, {1000 * seconds:,.0f} ms on {pipeline.device.upper()}, reading them included",
        "took",
    )
    if bad:
        said += page.line(f"{bad:,} of them could not be read; the column “problem” says why.", "remark")
    yield page.write_download(folder, "images.labelled.csv", content), said, _first_rows(names, columns)


def _labelled(pipeline: Any, uploads: Sequence[Upload]) -> Iterator[tuple[str, dict[str, Any] | None, str]]:
    """Yield each file's name, its best label, and what is wrong with it."""
    names, images, problems = [], [], []
    for upload in uploads:
        names.append(str(upload.get("orig_name") or Path(upload["path"]).name))
        try:
            _, _, content = page.read_upload(upload, MAX_FILE)
            images.append(Pixels(pipeline.reader.read([content], 0).feeds["pixel_values"][0]))
            problems.append("")
        except KzooError as error:
            problems.append(str(error).removeprefix("Image 0 "))
    answers = iter(pipeline(images)) if images else iter(())
    for name, problem in zip(names, problems, strict=True):
        yield name, None if problem else next(answers), problem


def _first_rows(names: Sequence[str], columns: Mapping[str, Sequence[Value]]) -> str:
    """Return HTML for the first rows."""
    head = "".join(f"<th>{title}</th>" for title in ("image", *columns))
    drawn = []
    for place, name in enumerate(names[:_SHOWN]):
        cells = [name, *(shown(values[place], 3) for values in columns.values())]
        drawn.append("".join(f"<td>{html.escape(' '.join(cell.split()))}</td>" for cell in cells))
    body = "".join(f"<tr>{row}</tr>" for row in drawn)
    more = f"The first {_SHOWN} of {len(names):,} files." if len(names) > _SHOWN else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" + (
        page.line(more, "took") if more else ""
    )
