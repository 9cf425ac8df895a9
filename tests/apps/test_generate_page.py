"""The page for language models in a real browser."""

from __future__ import annotations

import re
import time

import pytest

from tests import bundles
from tests.apps.test_about import told
from tests.apps.test_gallery import ARTIFACTS, open_tab, press, shown, target_box
from tests.bundles import ALPHABET
from tests.optional import require


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    require("gradio")
    from kzoo.apps import launch

    bundle = bundles.write_writer(tmp_path_factory.mktemp("shelf") / "alphabet")
    with launch([bundle], port=0, open_browser=False, block=False) as server:
        yield server.url


@pytest.fixture
def gallery(page, url):
    page.goto(url)
    open_tab(page, "Write")
    return page


def beginning(page):
    return page.get_by_label("Beginning", exact=True).locator("visible=true")


def put(page, name: str, value: float | str) -> None:
    """Set a slider, or the seed."""
    field = page.get_by_label("Seed") if name == "Seed" else page.get_by_label(f"number input for {name}")
    field.locator("visible=true").fill(str(value))
    field.locator("visible=true").press("Tab")


def write(page, prompt: str) -> str:
    """Type a beginning, and return the text once all of it is there."""
    said = page.locator(".status").locator("visible=true")
    before = now = " ".join(said.all_inner_texts())
    beginning(page).fill(prompt)
    press(page, "Write")
    while now == before or "tokens a second" not in now:
        page.wait_for_timeout(50)
        now = " ".join(said.all_inner_texts())
    # The browser draws the text and what is said of it one after the other; a token is a character.
    tokens = int(re.findall(r"(\d+) tokens, ", now)[-1])
    while len(written := target_box(page).input_value()) != len(prompt) + tokens:
        page.wait_for_timeout(50)
    return written


def test_a_beginning_is_gone_on_with(gallery):
    put(gallery, "Temperature", 0)
    put(gallery, "Tokens", 60)
    written = write(gallery, "abc")
    assert written == (3 * ALPHABET)[:63]
    shown(gallery, "60 tokens, ")
    ARTIFACTS.mkdir(exist_ok=True)
    gallery.screenshot(path=ARTIFACTS / "write.png", full_page=True)

    assert write(gallery, "").startswith(ALPHABET)
    shown(gallery, "There was no beginning: the model made one.")
    assert write(gallery, "xy" * 20 + "z").endswith("z" + (3 * ALPHABET)[:60])
    shown(gallery, "The beginning has 41 tokens. The model reads 8 and needs the rest of its 16 to write")


def test_a_seed_draws_the_same_again(gallery):
    put(gallery, "Temperature", 1.5)
    put(gallery, "Seed", 7)
    first = write(gallery, "abc")
    assert first != (9 * ALPHABET)[: len(first)]
    beginning(gallery).fill("")
    assert write(gallery, "abc") == first
    put(gallery, "Seed", "")
    assert write(gallery, "abc") != first
    put(gallery, "Top-k", 1)
    assert write(gallery, "abc") == (9 * ALPHABET)[:203]
    put(gallery, "Top-k", 0)
    put(gallery, "Top-p", 0.5)
    assert write(gallery, "abc") == (9 * ALPHABET)[:203]


def test_writing_can_be_stopped(gallery, monkeypatch):
    from kzoo.runtime.generation import TextGeneration

    stream = TextGeneration.stream

    def slow(self, prompt, **options):
        for grown in stream(self, prompt, **options):
            time.sleep(0.1)
            yield grown

    monkeypatch.setattr(TextGeneration, "stream", slow)
    beginning(gallery).fill("abc")
    press(gallery, "Write")
    shown(gallery, "Writing ...")
    press(gallery, "Stop")
    shown(gallery, "Stopped.")
    assert len(target_box(gallery).input_value()) < 203


def test_what_cannot_be_done_is_answered_with_why(gallery):
    beginning(gallery).fill("abc " * 3_000)
    press(gallery, "Write")
    shown(gallery, "The beginning has 12,000 characters; this page takes up to 10,000.")
    put(gallery, "Seed", "seven")
    press(gallery, "Write")
    shown(gallery, "The seed is a whole number of up to 19 digits; 'seven' is none.")


def test_a_script_in_a_beginning_stays_words(gallery):
    script = "<script>document.title = 'taken over'</script>"
    put(gallery, "Tokens", 3)
    assert write(gallery, script).startswith(script)
    _, (_, python) = told(gallery)
    assert script in python
    assert gallery.title() == "kzoo"


def test_an_example_is_gone_on_with_when_clicked(gallery):
    put(gallery, "Temperature", 0)
    gallery.get_by_role("tabpanel").get_by_text("abc", exact=True).locator("visible=true").click()
    shown(gallery, "tokens a second")
    assert target_box(gallery).input_value().startswith("abcd")
