"""What the pages say and do when the server has too much to do, stops, fails, or is given too much."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from kzoo.apps.classifying import Answer, Classifier
from tests import bundles
from tests.apps.conftest import png, wait_until
from tests.apps.test_gallery import labels, open_tab, press, shown, source_box, target_box, text_box, upload
from tests.optional import require


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("gradio")
    return bundles.write_text_classifier(tmp_path_factory.mktemp("bundles") / "topic")


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Until this is set no text is answered; its attribute `asked` counts those that were begun."""
    gate = threading.Event()
    answer = Classifier.answer

    def wait(self: Classifier, *asked: object) -> Answer:
        gate.asked += 1  # type: ignore[attr-defined]
        assert gate.wait(120)
        return answer(self, *asked)  # type: ignore[arg-type]

    gate.asked = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(Classifier, "answer", wait)
    yield gate
    gate.set()


@contextmanager
def visitor(browser, url: str) -> Iterator:
    """A page of somebody else's, on the tab for texts; what its console says does not count."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(30_000)
    try:
        page.goto(url)
        open_tab(page, "Classify text")
        yield page
    finally:
        context.close()


def ask(page, text: str = "the goal") -> None:
    text_box(page).fill(text)
    press(page, "Classify")


def test_who_waits_is_told_so_and_who_is_too_many_too(browser, bundle, held, monkeypatch):
    from kzoo.apps import gallery, launch, page

    monkeypatch.setitem(gallery.__dict__, "_MAX_WAITING", 1)
    one_at_a_time = {**page.RUNS_MODEL, "concurrency_limit": 1}
    monkeypatch.setattr(page, "RUNS_MODEL", one_at_a_time)
    with (
        launch([bundle], port=0, open_browser=False, block=False) as server,
        visitor(browser, server.url) as first,
        visitor(browser, server.url) as second,
        visitor(browser, server.url) as third,
    ):
        ask(first)
        wait_until(lambda: held.asked == 1)
        ask(second)
        shown(second, "queue: 1/1")
        ask(third)
        shown(third, "This application is currently busy. Please try again.")
        held.set()
        assert labels(first).strip() == labels(second).strip() == "Sports"
        press(third, "Classify")
        assert labels(third).strip() == "Sports"


def test_two_people_at_once_get_their_own_on_every_page(browser, service_url):
    def shades(page, shade: int) -> None:
        open_tab(page, "Classify images")
        upload(page, "image.png", png(shade))
        press(page, "Classify")

    with visitor(browser, service_url) as one, visitor(browser, service_url) as other:
        ask(one, "The goal of the team.")
        ask(other, "The bank and its shares.")
        assert (labels(one).strip(), labels(other).strip()) == ("Sports", "Business")
        shades(one, 0)
        shades(other, 255)
        assert (labels(one).strip(), labels(other).strip()) == ("dark", "bright")
        for page, text in ((one, "A dog runs."), (other, "A cat sleeps.")):
            open_tab(page, "Translate")
            source_box(page).fill(text)
            press(page, "Translate")
        for page, text in ((one, "Ein Hund rennt."), (other, "Ein Kater schläft.")):
            shown(page, "tokens a second")
            assert target_box(page).input_value() == text
            # What is looked at closely is one's own, too.
            page.locator("table.heatmap tbody th").first.wait_for()
            assert page.locator("table.heatmap tbody th").all_inner_texts()[1] == text.split()[1]


def goes_on(page, port: int, bundle: Path) -> None:
    """Have the server come back, and the page ask it again, with what was typed."""
    from kzoo.apps import launch

    shown(page, "Connection to the server was lost. Attempting reconnection...")
    with launch([bundle], port=port, open_browser=False, block=False):
        shown(page, "The server was restarted, and what you asked it last got no answer: ask again.")
        assert text_box(page).input_value() == "the goal"
        press(page, "Classify")
        assert labels(page).strip() == "Sports"


def port_of(url: str) -> int:
    return int(url.rstrip("/").rpartition(":")[2])


@pytest.mark.parametrize("with_api", [False, True])
def test_a_page_outlives_a_restart_in_the_middle_of_a_request(browser, bundle, held, with_api):
    from kzoo.apps import create_app, launch
    from kzoo.apps.server import Server
    from kzoo.apps.service import stop

    if with_api:
        app = create_app([bundle])
        server = Server(app, "127.0.0.1", 0, on_stop=lambda: stop(app)).start()
        wait_until(lambda: app.state.service.pages)
    else:
        server = launch([bundle], port=0, open_browser=False, block=False)
    with visitor(browser, server.url) as page:
        ask(page)
        wait_until(lambda: held.asked == 1)
        server.close()
        held.set()
        goes_on(page, port_of(server.url), bundle)


_SLOW_SERVER = """
import sys, time
from kzoo.apps import launch
from kzoo.apps.classifying import Classifier

def sleep(*asked):
    print("asked", flush=True)
    time.sleep(600)

Classifier.answer = sleep
with launch([sys.argv[1]], port=0, open_browser=False, block=False) as server:
    print(server.url, flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_a_page_outlives_a_server_that_was_killed(browser, bundle):
    with subprocess.Popen(
        [sys.executable, "-c", _SLOW_SERVER, str(bundle)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            with visitor(browser, url) as page:
                ask(page)
                assert process.stdout.readline() == "asked\n"
                process.kill()
                process.wait()
                goes_on(page, port_of(url), bundle)
        finally:
            process.kill()


def test_a_bug_is_said_without_what_the_user_wrote(browser, bundle, monkeypatch, caplog, capfd):
    from kzoo.apps import launch

    def fail(self: Classifier, text: str, *rest: object) -> Answer:
        raise RuntimeError(f"cannot read {text}")

    monkeypatch.setattr(Classifier, "answer", fail)
    with (
        launch([bundle], port=0, open_browser=False, block=False) as server,
        visitor(browser, server.url) as page,
    ):
        ask(page, "my secret")
        said = shown(page, "The server failed on this; its log says where, under").inner_text()
        written = capfd.readouterr().err + caplog.text
        assert said.rpartition(" ")[2].rstrip(".") in written and "RuntimeError" in written
        assert "my secret" not in written


def test_an_upload_that_is_too_large_is_not_sent(browser, service_url):
    with visitor(browser, service_url) as page:
        open_tab(page, "Classify images")
        page.locator("input[type=file]").first.set_input_files(
            {"name": "large.png", "mimeType": "image/png", "buffer": png(0) + bytes(1_100_000)}
        )
        shown(page, "exceed the maximum allowed size of 976.6 Kb")


def test_files_of_a_user_go_after_a_while(browser, bundle, monkeypatch):
    from kzoo.apps import gallery, launch

    monkeypatch.setattr(gallery, "_UPLOADS_KEPT", 1)
    monkeypatch.setattr(gallery, "_UPLOADS_LOOKED_AT", 1)
    kept: list[Path] = []
    folder = tempfile.TemporaryDirectory

    def note(**options: Any) -> Any:
        made = folder(**options)
        kept.append(Path(made.name))
        return made

    monkeypatch.setattr(gallery.tempfile, "TemporaryDirectory", note)
    with (
        launch([bundle], port=0, open_browser=False, block=False) as server,
        visitor(browser, server.url) as page,
    ):
        open_tab(page, "Many texts")
        page.get_by_label("Texts, one a line").fill("the goal")
        press(page, "Classify all")
        shown(page, "lines.labelled")
        sent = httpx.post(server.url + "gradio_api/upload", files={"files": ("a.txt", b"the goal")})
        assert sent.status_code == 200
        (uploads,) = kept
        wait_until(lambda: not any(path.is_file() for path in uploads.rglob("*")))
