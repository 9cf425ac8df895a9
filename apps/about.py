"""About a bundle on a page: what it is, and how a program asks it what stands on the page."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from kzoo.apps import links, page
from kzoo.errors import KzooError

if TYPE_CHECKING:
    from kzoo.runtime import Pipeline

_HOST = re.compile(r"[\w.:\[\]-]{1,100}")
_ORIGIN = re.compile(rf"https?://{_HOST.pattern}")
_MAX_CARD = 50_000  # characters
_IMAGE = re.compile(r"!\[[^\]]*\]\([^)]*\)")
_LINK_HERE = re.compile(r"\[([^\]]*)\]\((?!https?://)[^)]*\)")
_SHOWN = 12  # labels


@dataclass(frozen=True)
class Call:
    """How a program asks a bundle.

    Attributes:
        endpoint: of the service.
        inputs: what the bundle is called with.
        options: the call's other arguments; those that are None are left out.
        body: the request's JSON, where it is more than `inputs` in a list and `options`.
        file: the file that a form sends in place of JSON.
        link: what a link to the page says besides the page and the bundle.
    """

    endpoint: str
    inputs: Any
    options: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    file: str | None = None
    link: Mapping[str, str | None] = field(default_factory=dict)

    def in_python(self, name: str) -> str:
        """Return the lines of Python."""
        options = "".join(f", {key}={value!r}" for key, value in self._given().items())
        return f'import kzoo\n\nmodel = kzoo.load("bundles/{name}")\nmodel({self.inputs!r}{options})'

    def by_curl(self, name: str, host: str) -> str:
        """Return the line of a shell."""
        asked = f"curl -s http://{host}{self.endpoint}"
        if self.file is not None:
            fields = {"model": name, **self._given(), "files": f"@{self.file}"}
            return asked + "".join(f" -F {shlex.quote(f'{key}={value}')}" for key, value in fields.items())
        body = {"model": name, **(self.body or {"inputs": [self.inputs]}), **self._given()}
        data = shlex.quote(json.dumps(body, ensure_ascii=False))
        return f"{asked} -H 'content-type: application/json' \\\n  -d {data}"

    def _given(self) -> dict[str, Any]:
        return {key: value for key, value in self.options.items() if value is not None}


def draw(
    name: str,
    known: Mapping[str, Pipeline],
    picked: Component,
    widgets: Sequence[Component],
    call: Callable[..., Call],
    surroundings: page.Surroundings,
) -> None:
    """Draw a panel that opens.

    Args:
        name: the page's.
        known: bundles by what `picked` holds.
        picked: which bundle is asked.
        widgets: what else is on the page.
        call: takes the bundle and the values of `widgets`, as the browser sends them.
        surroundings: of the page.
    """
    with gr.Accordion("About this model, a link to this, and how a program asks it", open=False) as panel:
        told = gr.Markdown(elem_classes="status facts", latex_delimiters=[])
        card = gr.Markdown(elem_classes="status facts card", latex_delimiters=[])

    # The request comes first: Gradio puts it where it stands among the parameters.
    def tell(request: gr.Request, picked: str, *values: Any) -> tuple[str, str]:
        pipeline = known[picked]
        written = _card_of(pipeline)
        said = _facts(pipeline, scores=not written)
        try:
            asked = call(pipeline, *values)
        except KzooError as error:
            return said + page.line(str(error), "problem"), written
        host = str(request.headers.get("host", ""))
        host = host if _HOST.fullmatch(host) else "127.0.0.1:8000"
        said += _link(name, pipeline, asked, _origin(request, host))
        said += _block("Python", "python", asked.in_python(pipeline.name))
        if surroundings.has_api:
            said += _block("curl", "sh", asked.by_curl(pipeline.name, host))
        return said, written

    panel.expand(
        tell,
        [picked, *widgets],
        [told, card],
        preprocess=False,
        **page.AT_ONCE,
    )
    picked.input(  # type: ignore[attr-defined]
        lambda: gr.update(open=False), None, panel, **page.AT_ONCE
    )


def _link(name: str, pipeline: Pipeline, asked: Call, origin: str) -> str:
    try:
        query = links.query_of(name, {"model": pipeline.name, **asked.link})
    except KzooError as error:
        return page.line(f"There is no link to this. {error}", "remark")
    return _block("Link to this page with what is in it", "text", f"{origin}/{query}")


def _origin(request: gr.Request, host: str) -> str:
    """Return the beginning of the page's address, as the browser says it."""
    origin = str(request.headers.get("origin", ""))
    return origin if _ORIGIN.fullmatch(origin) else f"http://{host}"


def _block(title: str, language: str, text: str) -> str:
    return f"\n\n{title}\n\n```{language}\n{text}\n```\n"


def _card_of(pipeline: Pipeline) -> str:
    """Return the card beside a bundle on a shelf, without what a page here cannot show; or nothing."""
    file = pipeline.folder.parent / "README.md"
    try:
        text = file.read_text("utf-8") if pipeline.folder.name == "bundle" else ""
    except (OSError, UnicodeDecodeError):
        return ""
    if not text or len(text) > _MAX_CARD:
        return ""
    shown, fenced = [], False
    for row in _LINK_HERE.sub(r"\1", _IMAGE.sub("", text)).splitlines():
        fenced ^= row.startswith("```")
        # No HTML of a card's own; code is shown as it stands anyway.
        shown.append(row if fenced or row.startswith("    ") else row.replace("<", "&lt;"))
    return "\n".join(shown)


def _facts(pipeline: Pipeline, scores: bool) -> str:
    """Return HTML for what the manifest says."""
    manifest = pipeline.manifest
    size = sum(record.size for record in manifest.files.values())
    rows = {"name": manifest.name, "task": manifest.task.replace("_", " ")}
    if manifest.labels:
        more = f", and {len(manifest.labels) - _SHOWN:,} more" if len(manifest.labels) > _SHOWN else ""
        rows["labels"] = ", ".join(manifest.labels[:_SHOWN]) + more
    if manifest.text is not None:
        rows["reads"] = f"up to {manifest.text.max_length:,} tokens"
    elif manifest.image is not None:
        rows["reads"] = f"images of {manifest.image.height} x {manifest.image.width} pixels"
    rows["size"] = f"{size / 1e6:,.1f} MB"
    if scores:
        rows |= {name.replace("_", " "): f"{value:.4g}" for name, value in manifest.metrics.items()}
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(' '.join(value.split()))}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table><tbody>{cells}</tbody></table>"
