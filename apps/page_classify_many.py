"""Part of the page for texts: many of them, pasted or in a file, and a file with labels out."""

from __future__ import annotations

import html
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from kzoo.apps import page
from kzoo.apps.classifying import Classifier
from kzoo.apps.tables import KINDS, Table, Value, read_lines, read_table, shown
from kzoo.errors import KzooError
from kzoo.text import Text

MAX_FILE = 4_000_000  # bytes
MAX_ROWS = 20_000
MAX_PASTED = 200_000  # characters
_SHOWN = 20  # rows on the page
_CELL = 160  # characters of a cell on the page
_DIGITS = 3
_SAMPLED = 100  # rows that say which column has the texts
_WITH_NAMES = (".csv", ".tsv")

Upload = Mapping[str, Any]


@dataclass(frozen=True)
class _Form:
    """The widgets that say what is to be labelled, and by what."""

    model: gr.Dropdown
    lines: gr.Textbox
    file: gr.File
    named: gr.Checkbox
    first: gr.Dropdown
    second: gr.Dropdown


@dataclass(frozen=True)
class _Asked:
    """What a browser sent for each of them."""

    classifier: Classifier
    lines: str
    file: Upload | None
    named: bool
    first: Any
    second: Any

    def table(self) -> Table:
        """Return what is to be labelled.

        Raises:
            KzooError: if it cannot be read, or is too much.
        """
        if self.file is not None:
            name, _, content = page.read_upload(self.file, MAX_FILE)
            table = read_table(name, content, named=bool(self.named))
        elif len(self.lines) > MAX_PASTED:
            raise KzooError(
                f"The lines have more than the {MAX_PASTED:,} characters that this box takes. Save them as a file."
            )
        else:
            table = read_lines(self.lines, 2 if self.classifier.pairs else 1)
        if len(table.rows) > MAX_ROWS:
            raise KzooError(
                f"{table.name} has {len(table.rows):,} rows; this page labels up to {MAX_ROWS:,} at a time. Split it."
            )
        return table

    def columns(self, table: Table) -> list[int]:
        """Return which columns hold the texts.

        Raises:
            KzooError: if that was not said, or the file has too few.
        """
        needed = 2 if self.classifier.pairs else 1
        if self.file is None:
            return list(range(needed))
        if len(table.columns) < needed:
            raise KzooError(f"{table.name} has one column of texts; this model reads two texts a row.")
        # A file of one column has none to pick.
        first = self.first if len(table.columns) > 1 else 0
        picked = [first] if self.classifier.pairs is False or self.second is None else [first, self.second]
        if len(picked) < needed:
            raise KzooError("Pick the column of the second texts.")
        return [
            page.checked_index(place, table.columns, "the cross at the file, drop it") for place in picked
        ]


def build(known: dict[str, Classifier]) -> None:
    """Draw the tab: lines or a file in, a bar that grows, the first rows, and the file to take away."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280):
            form = _draw_form(known)
            with gr.Row():
                button = gr.Button("Classify all", variant="primary", scale=3, min_width=160)
                cancel = gr.Button("Cancel", scale=1, min_width=80)
        with gr.Column(min_width=280):
            result = gr.File(label="With labels", interactive=False, height=120)
            status = gr.Markdown(elem_classes="status", latex_delimiters=[])
    rows = gr.Markdown(elem_classes="rows", latex_delimiters=[])
    outputs = [result, status, rows]

    def label(name: str, *values: Any) -> Iterator[tuple[str | None, str, str]]:
        try:
            yield from _label(_Asked(known[name], *values), Path(result.GRADIO_CACHE))
        except KzooError as error:
            yield None, page.line(str(error), "problem"), ""

    run = button.click(
        label,
        [*vars(form).values()],
        outputs,
        show_progress_on=status,
        preprocess=False,
        **page.RUNS_FILE,
    )
    page.stop_with(cancel, [run], outputs, [None, page.line("Cancelled; no file was made.", "remark"), ""])
    _wire_form(known, form, outputs)


def _draw_form(known: dict[str, Classifier]) -> _Form:
    first = next(iter(known.values()))
    return _Form(
        gr.Dropdown(
            list(known), value=first.pipeline.name, label="Model", visible=len(known) > 1, filterable=False
        ),
        gr.Textbox(
            label="Texts, one a line",
            info=_how_pairs_stand(first),
            lines=6,
            max_lines=12,
            max_length=MAX_PASTED + 1,  # one more than is taken, so that the answer says so
        ),
        gr.File(label=f"Or a file: {KINDS}", height=120),
        gr.Checkbox(True, label="The first line names the columns", visible=False),
        gr.Dropdown([], label="Column of the texts", visible=False, filterable=False),
        gr.Dropdown([], label="Column of the second texts", visible=False, filterable=False),
    )


def _how_pairs_stand(classifier: Classifier) -> str | None:
    return "Two texts a line, with a tab between them" if classifier.pairs else None


def _wire_form(known: dict[str, Classifier], form: _Form, outputs: Sequence[Any]) -> None:
    """Have a file say which columns it has, and clear away what is of another file or bundle."""
    changing = [form.lines, form.named, form.first, form.second, *outputs]

    def look(name: str, *values: Any) -> list[Any]:
        asked = _Asked(known[name], *values)
        hidden = gr.update(visible=False, value=None)
        lines = gr.update(visible=asked.file is None, info=_how_pairs_stand(asked.classifier))
        if asked.file is None:
            return [lines, gr.update(visible=False, value=True), hidden, hidden, None, "", ""]
        path = Path(asked.file["path"])
        names = gr.update(visible=path.suffix.lower() in _WITH_NAMES)
        try:
            table = asked.table()
        except KzooError as error:
            return [lines, names, hidden, hidden, None, page.line(str(error), "problem"), ""]
        return [lines, names, *_pickers(asked.classifier, table), None, "", ""]

    wiring: dict[str, Any] = {
        "fn": look,
        "inputs": [*vars(form).values()],
        "outputs": changing,
        "api_visibility": "private",
        "show_progress": "hidden",
        "preprocess": False,
    }
    for event in (form.file.upload, form.file.clear, form.named.input, form.model.input):
        event(**wiring)


def _pickers(classifier: Classifier, table: Table) -> list[Any]:
    """Return updates of both pickers of columns: the columns with the longest texts are likely to be meant."""
    sizes = [
        sum(len(row.cells[place] or "") for row in table.rows[:_SAMPLED])
        for place in range(len(table.columns))
    ]
    longest = sorted(range(len(sizes)), key=lambda place: -sizes[place])
    likely = sorted(longest[:2]) if classifier.pairs else [longest[0], None]
    choices: list[tuple[str, int | None]] = [(name, place) for place, name in enumerate(table.columns)]
    several = len(choices) > 1
    second = [*choices] if classifier.pairs else [("none", None), *choices]
    return [
        gr.update(choices=choices, value=likely[0], visible=several),
        gr.update(choices=second, value=likely[-1], visible=several and classifier.pairs is not False),
    ]


def _label(asked: _Asked, folder: Path) -> Iterator[tuple[str | None, str, str]]:
    """Yield how far it is, and at the end the file's path, what there is to say, and the first rows."""
    table = asked.table()
    columns = asked.columns(table)
    sides = [table.texts(column) for column in columns]
    texts = [_text_of(parts) for parts in zip(*sides, strict=True)]
    there = [text for text in texts if text is not None]
    if not there:
        raise KzooError(f"There are no texts in {table.name}.")
    start = time.perf_counter()
    for found in asked.classifier.label_many(texts):
        yield None, page.progress(len(found), len(texts), "texts"), ""
    seconds = time.perf_counter() - start
    added = {table.new_name(name): values for name, values in asked.classifier.columns(found).items()}
    content, changed = table.write(added)
    stem = "lines"
    if asked.file is not None:
        path = Path(asked.file["path"])
        folder, stem = path.parent, path.stem
    device = asked.classifier.pipeline.device.upper()
    said = page.line(
        f"{len(there):,} texts, {1000 * seconds:,.0f} ms on {device}: {len(there) / seconds:,.0f} texts a second",
        "took",
    )
    for remark in _remarks(asked.classifier, there, len(texts) - len(there), changed):
        said += page.line(remark, "remark")
    written = page.write_download(folder, f"{stem}.labelled{table.ending}", content)
    yield written, said, _first_rows(table, columns, added)


def _text_of(parts: tuple[str, ...]) -> Text | None:
    """Return a row's text or pair; None where there is nothing to read."""
    if not all(part.strip() for part in parts):
        return None
    return parts[0] if len(parts) == 1 else (parts[0], parts[1])


def _remarks(classifier: Classifier, texts: Sequence[Text], empty: int, changed: int) -> Iterator[str]:
    if empty:
        yield f"{empty:,} {'row has' if empty == 1 else 'rows have'} no text, and no label."
    cut = page.remark_on_length(classifier.pipeline, classifier.inputs(texts))
    if cut:
        yield cut
    if changed:
        cells = "1 cell begins" if changed == 1 else f"{changed:,} cells begin"
        yield (
            f"{cells} as formulas do, with =, +, - or @: an apostrophe was put before, so that no spreadsheet runs "
            "them. A .jsonl file stays as it is."
        )


def _first_rows(table: Table, columns: Sequence[int], added: Mapping[str, Sequence[Value]]) -> str:
    """Return HTML for the first rows: their texts, and what was added."""
    heads = ["", *(table.columns[column] for column in columns), *added]
    drawn = []
    for place, row in enumerate(table.rows[:_SHOWN]):
        texts = "".join(f'<td class="long">{_brief(row.cells[column] or "")}</td>' for column in columns)
        given = "".join(f"<td>{_brief(shown(values[place], _DIGITS))}</td>" for values in added.values())
        drawn.append(f"<tr><td>{row.line}</td>{texts}{given}</tr>")
    said = f"The first {_SHOWN} of {len(table.rows):,} rows." if len(table.rows) > _SHOWN else ""
    head = "".join(f"<th>{_brief(name)}</th>" for name in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(drawn)}</tbody></table>" + (
        page.line(said, "took") if said else ""
    )


def _brief(cell: str) -> str:
    """Return a cell as one line of HTML, cut where it is long."""
    text = " ".join(cell[: _CELL + 1].split())
    return html.escape(text[:_CELL] + "…" if len(text) > _CELL else text)
