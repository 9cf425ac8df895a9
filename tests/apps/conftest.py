"""A running service over tiny bundles, and a browser that notes where its requests go."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from tests import bundles
from tests.optional import require

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]

MOODS = {"Glad": ("happy", "sunny"), "Sad": ("rain", "lost")}


def png(shade: int) -> bytes:
    """Return the bytes of a PNG of one shade of grey."""
    file = io.BytesIO()
    Image.fromarray(np.full((20, 30), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def bundle_paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A bundle for each page, two for texts, and one of which a byte was changed."""
    root = tmp_path_factory.mktemp("shelf")
    damaged = bundles.write_image_classifier(root / "damaged" / "bundle", "damaged")
    graph = damaged / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    return [
        bundles.write_translator(root / "en-de" / "bundle"),
        bundles.write_text_classifier(root / "topic" / "bundle"),
        bundles.write_text_classifier(root / "mood" / "bundle", "mood", words_of=MOODS),
        bundles.write_image_classifier(root / "shade" / "bundle"),
        damaged,
    ]


@pytest.fixture(scope="session")
def service_url(bundle_paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running service with the gallery; takes 64 inputs and a million bytes."""
    require("gradio")
    from kzoo.apps import Limits, create_app
    from kzoo.apps.server import Server
    from kzoo.apps.service import stop

    example = tmp_path_factory.mktemp("examples") / "dark.png"
    example.write_bytes(png(20))
    limits = Limits(max_bytes=1_000_000, max_items=64)
    app = create_app(bundle_paths, limits=limits, example_images=[example])
    with Server(app, "127.0.0.1", 0, on_stop=lambda: stop(app)).start() as server:
        wait_until(lambda: app.state.service.pages)
        yield server.url


def wait_until(holds: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something is so, and fail if it takes too long."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="session")
def browser():
    """Chromium; without one, tests that need it are skipped, and fail in CI."""
    playwright = require("playwright.sync_api")
    # Five seconds, its default, are few on a machine that does other work too.
    playwright.expect.set_options(timeout=30_000)
    with playwright.sync_playwright() as session:
        names = ("chromium", "chromium-browser", "google-chrome")
        found = next(filter(None, map(shutil.which, names)), session.chromium.executable_path)
        if not Path(found).is_file():
            reason = "no Chromium found: install it, or run `playwright install chromium`"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        browser = session.chromium.launch(executable_path=found, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser) -> Iterator:
    """A fresh page; the test fails if it asks any host but this one, or logs an error."""
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    page = context.new_page()
    page.set_default_timeout(30_000)
    outside: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: _note_outside(request.url, outside))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert outside == []
    assert errors == []


def _note_outside(url: str, outside: list[str]) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("data", "blob") and parts.hostname != "127.0.0.1":
        outside.append(url)
