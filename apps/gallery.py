"""The gallery: a page for each kind of bundle, served to a browser without any outside request."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from fastapi import FastAPI

from kzoo.apps import links, page_classify_images, page_classify_text, page_generate, page_translate
from kzoo.apps.bugs import say_bugs
from kzoo.apps.guard import MAX_BYTES, BodyLimit, GalleryGuard
from kzoo.apps.links import Entrance
from kzoo.apps.page import AT_ONCE, MAX_RUNNING, Page, Surroundings, line
from kzoo.apps.server import Server
from kzoo.apps.shelf import Shelf, find_bundles, open_bundles
from kzoo.errors import KzooError, did_you_mean

if TYPE_CHECKING:
    from kzoo.runtime import Pipeline

# The tabs, in order. A new page is a module with what `Page` asks for, and its place here.
PAGES: tuple[Page, ...] = (page_translate, page_classify_text, page_classify_images, page_generate)

_DEFAULT_PORT = 7860
_MAX_WAITING = 32
_UPLOADS_KEPT, _UPLOADS_LOOKED_AT = 600, 60  # seconds, while the server runs; all go when it stops
_STYLE, _SCRIPT = (Path(__file__).with_name(f"gallery.{kind}") for kind in ("css", "js"))
_FONT = ("system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
_MONO = ("ui-monospace", "Consolas", "monospace")


def build_gallery(
    bundles: Sequence[str | os.PathLike[str] | Pipeline],
    *,
    example_images: Sequence[str | os.PathLike[str]] = (),
) -> gr.Blocks:
    """Make the gallery's pages, to be mounted in an application of your own.

    All pages are there; one with no bundle says which command makes one. A bundle that cannot be opened is
    listed with the reason.

    Args:
        bundles: paths, or pipelines that are loaded already.
        example_images: image files to offer on the page for images.

    Raises:
        KzooError: if an example image does not exist.

    Example:
        >>> build_gallery([]).title
        'kzoo'
    """
    return _draw(open_bundles(bundles), example_images, has_api=False)


def launch(
    bundles: Sequence[str | os.PathLike[str] | Pipeline] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    open_browser: bool = True,
    block: bool = True,
    example_images: Sequence[str | os.PathLike[str]] = (),
) -> Server:
    """Serve the gallery to a browser on this machine.

    Args:
        bundles: paths or pipelines; without it, those that `find_bundles` finds.
        host: address to listen on; the default can be reached from this machine only.
        port: port to listen on; without it 7860, or any free one if that is taken.
        open_browser: open the page in the user's browser.
        block: serve until Ctrl+C; if false, return at once and serve until the result's `close()`.
        example_images: image files to offer on the page for images.

    Returns:
        The server; its `url` is the page's address.

    Raises:
        KzooError: if the port is taken or an example image does not exist.
    """
    app = gallery_app(
        open_bundles(find_bundles() if bundles is None else bundles), example_images=example_images
    )
    try:
        server = Server(app, host, _DEFAULT_PORT if port is None else port, open_browser=open_browser)
    except KzooError:
        if port is not None:
            raise
        server = Server(app, host, 0, open_browser=open_browser)
    if block:
        server.run()
        return server
    return server.start()


def gallery_app(
    shelf: Shelf,
    *,
    example_images: Sequence[str | os.PathLike[str]] = (),
    max_bytes: int = MAX_BYTES,
    has_api: bool = False,
) -> FastAPI:
    """Return the gallery as an application to serve or to mount at `/`; its lifespan must be run.

    Uploads live in a folder that only this user can read and that goes when the application stops.

    Args:
        shelf: what `open_bundles` gave.
        example_images: image files to offer on the page for images.
        max_bytes: larger uploads are refused.
        has_api: whether the service's endpoints are at the same address, so that pages say how to ask them.
    """
    folder = tempfile.TemporaryDirectory(prefix="kzoo-uploads-")

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with folder:
            yield

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    with _uploads_in(folder.name):
        blocks = _draw(shelf, example_images, has_api)
        gr.mount_gradio_app(
            app,
            blocks,
            path="/",
            theme=gr.themes.Base(primary_hue="teal", neutral_hue="slate", font=_FONT, font_mono=_MONO),
            css_paths=_STYLE,
            head=f"<script>{_SCRIPT.read_text('utf-8')}</script>",
            footer_links=[],
            run_history=False,
            show_error=False,
            max_file_size=max_bytes,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
        )
    app.add_middleware(GalleryGuard, uploads=Path(folder.name))
    app.add_middleware(BodyLimit, max_bytes=max_bytes)
    return app


def _draw(shelf: Shelf, example_images: Sequence[str | os.PathLike[str]], has_api: bool) -> gr.Blocks:
    images = [Path(image) for image in example_images]
    for image in images:
        if not image.is_file():
            raise KzooError(f"There is no example image {image}.")
    with gr.Blocks(
        title="kzoo", analytics_enabled=False, delete_cache=(_UPLOADS_LOOKED_AT, _UPLOADS_KEPT)
    ) as blocks:
        with gr.Row(elem_classes="header"):
            gr.Markdown("# kzoo\nKeras models, exported to ONNX and run without Keras.")
            gr.Button("Light or dark", elem_id="look", size="sm", scale=0, min_width=120)
        arrival = gr.Markdown(elem_classes="status", latex_delimiters=[], visible=False)
        notes = _notes(shelf)
        if notes:
            gr.Markdown("".join(line(note, "problem") for note in notes), elem_classes="status")
        surroundings = Surroundings(images, has_api)
        with gr.Tabs(overflow_behavior="wrap") as tabs:
            for page in PAGES:
                with gr.Tab(page.TITLE, id=page.NAME):
                    pipelines = shelf.serving(page.TASKS)
                    if pipelines:
                        page.build(pipelines, surroundings)
                    else:
                        gr.Markdown(
                            f"There is no bundle for this page yet. This makes one:\n```\n{page.COMMAND}\n```"
                        )
        _open_links(blocks, arrival, tabs, surroundings.entrances)
    for function in blocks.fns.values():
        if function.fn is not None:
            function.fn = say_bugs(function.fn)
    return blocks.queue(max_size=_MAX_WAITING, default_concurrency_limit=MAX_RUNNING, api_open=False)


def _open_links(
    blocks: gr.Blocks, arrival: gr.Markdown, tabs: gr.Tabs, entrances: Mapping[str, Entrance]
) -> None:
    """Have a page that is opened by a link show what the link says."""
    widgets = {name: list(entrance.outputs) for name, entrance in entrances.items()}
    named = {page.NAME for page in PAGES}

    def arrive(request: gr.Request) -> list[Any]:
        query = {str(name): str(value) for name, value in request.query_params.items()}
        wanted = query.get("tab", "")
        filled = {name: [gr.skip()] * len(outputs) for name, outputs in widgets.items()}
        said, selected = gr.skip(), gr.Tabs(selected=wanted) if wanted in named else gr.skip()
        try:
            if wanted and wanted not in named:
                raise KzooError(f"This link asks for a tab '{wanted[:100]}'.{did_you_mean(wanted, named)}")
            if wanted in entrances:
                filled[wanted] = list(entrances[wanted].fill(links.read(query)))
        except KzooError as error:
            said = gr.update(value=line(str(error), "problem"), visible=True)
        return [said, selected, *(update for updates in filled.values() for update in updates)]

    outputs = [arrival, tabs, *(widget for each in widgets.values() for widget in each)]
    blocks.load(arrive, None, outputs, **AT_ONCE)


def _notes(shelf: Shelf) -> list[str]:
    """Say what is not on any page, and why."""
    shown = frozenset[str]().union(*(page.TASKS for page in PAGES))
    unopened = [f"{name} was not opened: {message}" for name, message in shelf.failures.items()]
    pageless = [
        f"{name} has no page yet: its task is {pipeline.task}."
        for name, pipeline in shelf.pipelines.items()
        if pipeline.task not in shown
    ]
    return unopened + pageless


@contextlib.contextmanager
def _uploads_in(folder: str) -> Iterator[None]:
    """Have Gradio keep files there: it reads this variable when components and applications are made."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = before
