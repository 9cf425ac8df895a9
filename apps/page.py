"""What pages of the gallery share: their outline, uploads and downloads, and lines of text."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import gradio as gr
from gradio.components import Component

from kzoo.apps.links import Entrance
from kzoo.errors import KzooError
from kzoo.runtime.inputs import TextReader

if TYPE_CHECKING:
    from kzoo.runtime import Pipeline
    from kzoo.text import Text

MAX_TEXT = 10_000  # characters
MAX_RUNNING = 2
# How a widget's event is wired. What runs a model waits in one line with all others; files, which take minutes, have
# a line of their own. What runs none does not wait.
RUNS_MODEL: Mapping[str, Any] = MappingProxyType(
    {"concurrency_id": "models", "concurrency_limit": MAX_RUNNING, "api_visibility": "private"}
)
RUNS_FILE: Mapping[str, Any] = MappingProxyType(
    {"concurrency_id": "files", "concurrency_limit": MAX_RUNNING, "api_visibility": "private"}
)
AT_ONCE: Mapping[str, Any] = MappingProxyType(
    {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
)


@dataclass(frozen=True)
class Surroundings:
    """What a page may use.

    Attributes:
        example_images: image files to click.
        has_api: whether the service's endpoints are at the page's own address.
        entrances: how links fill pages, by the pages' names; each page puts its own there.
    """

    example_images: Sequence[Path] = ()
    has_api: bool = False
    entrances: dict[str, Entrance] = field(default_factory=dict)


class Page(Protocol):
    """A module that draws one tab.

    Attributes:
        NAME: what links call it.
        TITLE: the tab's name.
        TASKS: the tasks whose bundles it shows.
        COMMAND: what makes such a bundle, shown when there is none.
    """

    NAME: str
    TITLE: str
    TASKS: frozenset[str]
    COMMAND: str

    def build(self, pipelines: Sequence[Pipeline], surroundings: Surroundings) -> None:
        """Draw the tab for at least one pipeline."""


def stop_with(
    button: gr.Button, runs: list[dict[str, Any]], outputs: Sequence[Component], values: Sequence[Any]
) -> None:
    """Have a button end what runs, and then show these values."""
    # Not at once: the last words of what runs might come after them.
    button.click(None, cancels=runs).then(
        lambda: values if len(values) > 1 else values[0],
        None,
        outputs,
        **AT_ONCE,
    )


def checked_index(value: Any, items: Sequence[Any], action: str) -> int:
    """Check what a browser sent as the place of one of these.

    Raises:
        KzooError: if there is none there; it says which button makes new ones.
    """
    if not isinstance(value, int) or not 0 <= value < len(items):
        raise KzooError(f"That is no longer there: press {action} again.")
    return value


def read_upload(upload: Mapping[str, Any], most: int) -> tuple[str, Path, bytes]:
    """Return the name that a file had, where it lies now, and what is in it.

    Raises:
        KzooError: if it has more than so many bytes, or lies there no longer.
    """
    path = Path(upload["path"])
    name = upload.get("orig_name") or path.name
    try:
        size = path.stat().st_size
        if size > most:
            raise KzooError(f"{name} has {size:,} bytes; this page takes files of up to {most:,}.")
        return name, path, path.read_bytes()
    except FileNotFoundError:
        raise KzooError(f"{name} was dropped too long ago: drop it again.") from None


def write_download(folder: Path, name: str, content: bytes) -> str:
    """Write a file to be taken away, and return where; it goes with the server's uploads."""
    folder.mkdir(parents=True, exist_ok=True)
    # A folder of its own: two of one name may be on their way.
    written = Path(tempfile.mkdtemp(dir=folder)) / name
    written.write_bytes(content)
    return str(written)


def progress(done: int, total: int, what: str) -> str:
    """Return HTML for a bar that says how much of something is done."""
    return f'<progress value="{done}" max="{total}"></progress>' + line(
        f"{done:,} of {total:,} {what}", "took"
    )


def line(text: str, kind: str) -> str:
    """Return text as one line of HTML inside Markdown, where none of it is read as either."""
    # Not gr.HTML, whose templates need a page that allows eval.
    return f'<p class="{kind}">{html.escape(" ".join(text.split()))}</p>'


def remark_on_length(pipeline: Pipeline, texts: Sequence[Text]) -> str:
    """Return a sentence that says which texts the model sees only in part, or nothing.

    Raises:
        KzooError: if the pipeline takes images; a text would be a path to it.
    """
    # The pipeline's own warning cannot be caught here: Python's warnings are shared by all threads.
    reader = pipeline.reader
    if not isinstance(reader, TextReader):
        raise KzooError(
            f"'{pipeline.name}' takes images, not text; export it with task image_classification."
        )
    cut = reader.tokenizer.encode(texts, max_length=reader.max_length).truncated
    if not cut.any():
        return ""
    which = "The text" if len(texts) == 1 else f"{cut.sum()} of {len(texts)} lines"
    return (
        f"{which} had more than the {reader.max_length} tokens that this model reads; the rest was left out."
    )
