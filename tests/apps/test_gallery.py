"""The gallery in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from kzoo.errors import KzooError
from tests.apps.conftest import png
from tests.optional import require

ARTIFACTS = Path(__file__).parents[1] / "artifacts"


@pytest.fixture
def gallery(page, service_url):
    page.goto(service_url)
    page.get_by_role("tab", name="Translate").wait_for()
    return page


def shown(page, text: str):
    """Wait until a text is visible on the open tab, and return where."""
    place = page.get_by_text(text, exact=False).locator("visible=true").first
    place.wait_for()
    return place


def press(page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).locator("visible=true").click()


def open_tab(page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def text_box(page):
    return page.get_by_label("Text", exact=True).locator("visible=true")


def source_box(page):
    return page.get_by_label("English", exact=True).locator("visible=true")


def target_box(page):
    return page.locator("textarea[disabled]").locator("visible=true")


def labels(page) -> str:
    """Return the text of the open tab's result once it has a percentage."""
    box = page.get_by_test_id("label-output-value").locator("visible=true")
    box.wait_for()
    return box.inner_text()


def upload(page, name: str, content: bytes) -> None:
    with page.expect_response(lambda response: "/upload" in response.url):
        page.locator("input[type=file]").set_input_files(
            {"name": name, "mimeType": "image/png", "buffer": content}
        )


def test_each_page_gives_a_result(gallery):
    tabs = gallery.get_by_role("tablist").first.get_by_role("tab").all_inner_texts()
    assert tabs == ["Translate", "Classify text", "Classify images", "Write"]

    source_box(gallery).fill("A dog runs.")
    press(gallery, "Translate")
    shown(gallery, "ms on")
    assert target_box(gallery).input_value() == "Ein Hund rennt."

    open_tab(gallery, "Classify images")
    upload(gallery, "white.png", png(255))
    press(gallery, "Classify")
    assert labels(gallery).strip() == "bright"

    open_tab(gallery, "Classify text")
    text_box(gallery).fill("The striker of the team scored a goal.")
    press(gallery, "Classify")
    assert labels(gallery).strip() == "Sports"
    shown(gallery, "100%")
    ARTIFACTS.mkdir(exist_ok=True)
    gallery.screenshot(path=ARTIFACTS / "gallery.png", full_page=True)


def test_an_example_is_answered_when_clicked(gallery):
    open_tab(gallery, "Classify text")
    gallery.get_by_text("Shares fell sharply").click()
    assert labels(gallery).strip() == "Business"

    open_tab(gallery, "Classify images")
    gallery.locator(".gallery-item").locator("visible=true").click()
    assert labels(gallery).strip() == "dark"


def test_the_model_can_be_picked(gallery):
    open_tab(gallery, "Classify text")
    gallery.get_by_label("Model", exact=True).locator("visible=true").click()
    gallery.get_by_role("option", name="mood").click()
    text_box(gallery).fill("A happy, sunny day.")
    press(gallery, "Classify")
    assert labels(gallery).strip() == "Glad"


def test_empty_text_is_answered_with_what_to_do(gallery):
    open_tab(gallery, "Classify text")
    text_box(gallery).fill("  ")
    press(gallery, "Classify")
    shown(gallery, "There is no text yet: type one, or click an example.")


def test_an_upload_that_is_no_image_is_named(gallery):
    open_tab(gallery, "Classify images")
    press(gallery, "Classify")
    shown(gallery, "There is no image yet")
    upload(gallery, "notes.png", b"these are not pixels")
    press(gallery, "Classify")
    shown(gallery, "is not an image file")


def test_a_text_that_was_cut_is_remarked_on(gallery):
    open_tab(gallery, "Classify text")
    text_box(gallery).fill("goal " * 100)
    press(gallery, "Classify")
    shown(gallery, "The text had more than the 24 tokens that this model reads")
    text_box(gallery).fill("goal")
    press(gallery, "Classify")
    gallery.get_by_text("The text had more than").locator("visible=true").wait_for(state="detached")


def test_a_message_is_no_markup():
    require("gradio")
    from kzoo.apps.page import line

    assert line("<img src=x>\n\n![](a.png)", "problem") == (
        '<p class="problem">&lt;img src=x&gt; ![](a.png)</p>'
    )


def test_a_damaged_bundle_is_listed_with_its_error(gallery):
    message = shown(gallery, "damaged was not opened").inner_text()
    assert "model.onnx" in message
    assert "Copy or export the bundle again" in message


def test_it_fits_a_narrow_screen(gallery):
    for tab in ("Translate", "Classify text", "Classify images", "Write"):
        gallery.set_viewport_size({"width": 1100, "height": 800})
        open_tab(gallery, tab)
        gallery.set_viewport_size({"width": 360, "height": 740})
        assert gallery.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_browser_refuses_other_hosts(browser, service_url):
    # Another name of this very server is another host to the browser: it would answer if it were asked.
    other = service_url.replace("127.0.0.1", "localhost") + "health"
    asked = f"fetch('{other}', {{mode: 'no-cors'}}).then(() => 'answered', () => 'refused')"
    page = browser.new_page()
    try:
        page.goto(service_url)
        assert page.evaluate(asked) == "refused"
    finally:
        page.close()


def test_without_bundles_each_page_says_what_makes_one(page):
    from kzoo.apps import launch
    from kzoo.apps.gallery import PAGES

    with launch([], port=0, open_browser=False, block=False) as server:
        page.goto(server.url)
        for kind in PAGES:
            open_tab(page, kind.TITLE)
            shown(page, kind.COMMAND)
            assert page.locator(".gradio-container").bounding_box()["width"] > 1000


def test_a_missing_example_image_is_named():
    require("gradio")
    from kzoo.apps import build_gallery

    with pytest.raises(KzooError, match="There is no example image nowhere"):
        build_gallery([], example_images=["nowhere.png"])
