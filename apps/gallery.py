"""The gallery: a page for each kind of bundle, served to a browser without any outside request."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
from fastapi import FastAPI

from kzoo.apps import page_classify_images, page_classify_text, page_generate, page_translate
from kzoo.apps.guard import MAX_BYTES, BodyLimit, GalleryGuard
from kzoo.apps.page import Page, Surroundings, line
from kzoo.apps.server import Server
from kzoo.apps.shelf import Shelf, find_bundles, open_bundles
from kzoo.errors import KzooError

if TYPE_CHECKING:
    from kzoo.runtime import Pipeline

# The tabs, in order. A new page is a module with what `Page` asks for, and its place here.
PAGES: tuple[Page, ...] = (page_translate, page_classify_text, page_classify_images, page_generate)

_DEFAULT_PORT = 7860
_MAX_WAITING = 32
_MAX_RUNNING = 2
_UPLOADS_KEPT = 600  # seconds, while the server runs; all go when it stops
_STYLE = Path(__file__).with_name("gallery.css")
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
    with gr.Blocks(title="kzoo", analytics_enabled=False, delete_cache=(60, _UPLOADS_KEPT)) as blocks:
        gr.Markdown("# kzoo\nKeras models, exported to ONNX and run without Keras.", elem_classes="header")
        notes = _notes(shelf)
        if notes:
            gr.Markdown("".join(line(note, "problem") for note in notes), elem_classes="status")
        with gr.Tabs():
            for page in PAGES:
                with gr.Tab(page.TITLE):
                    pipelines = shelf.serving(page.TASKS)
                    if pipelines:
                        page.build(pipelines, Surroundings(images, has_api))
                    else:
                        gr.Markdown(
                            f"There is no bundle for this page yet. This makes one:\n```\n{page.COMMAND}\n```"
                        )
    return blocks.queue(max_size=_MAX_WAITING, default_concurrency_limit=_MAX_RUNNING, api_open=False)


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
