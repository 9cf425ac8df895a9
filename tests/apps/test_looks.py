"""How the pages look and answer to keys: dark and light, on a phone, without a mouse."""

from __future__ import annotations

import pytest

from tests.apps.conftest import wait_until
from tests.apps.test_about import told
from tests.apps.test_gallery import (
    ARTIFACTS,
    gallery,
    labels,
    open_tab,
    press,
    shown,
    source_box,
    target_box,
    text_box,
)
from tests.optional import require

__all__ = ["gallery"]

PHONE = {"width": 390, "height": 844}
# Every page with its inner tabs.
TABS = {
    "Translate": ("Text", "File"),
    "Classify text": ("One text", "Many texts", "Compare"),
    "Classify images": ("One image", "Many images"),
    "Write": (),
}


def await_look(page, look: str) -> None:
    """Wait until texts are light on dark, or dark on light."""
    # Not wait_for_function, whose second look the page's own rules forbid.
    colour = (
        "getComputedStyle(document.querySelector('.gradio-container')).color.match(/[0-9.]+/g).map(Number)"
    )
    wait_until(lambda: (sum(page.evaluate(colour)[:3]) > 3 * 128) is (look == "dark"))


def test_it_is_dark_or_light_as_the_system_is_until_told_otherwise(gallery):
    await_look(gallery, "light")
    gallery.emulate_media(color_scheme="dark")
    await_look(gallery, "dark")
    press(gallery, "Light or dark")
    await_look(gallery, "light")
    gallery.reload()
    gallery.get_by_role("tab", name="Translate").wait_for()
    await_look(gallery, "light")
    press(gallery, "Light or dark")
    await_look(gallery, "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_tab_fits_a_phone(gallery, scheme):
    gallery.emulate_media(color_scheme=scheme)
    gallery.set_viewport_size(PHONE)
    ARTIFACTS.mkdir(exist_ok=True)
    for tab, inner in TABS.items():
        open_tab(gallery, tab)
        for name in inner:
            gallery.get_by_role("tab", name=name, exact=True).locator("visible=true").click()
            gallery.locator("[role=tab][aria-selected=true]", has_text=name).locator(
                "visible=true"
            ).wait_for()
            assert gallery.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], (tab, name)
        assert gallery.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], tab
        gallery.screenshot(
            path=ARTIFACTS / f"phone-{scheme}-{tab.replace(' ', '-').lower()}.png", full_page=True
        )


def test_answers_and_the_panel_fit_a_phone(gallery):
    gallery.set_viewport_size(PHONE)
    source_box(gallery).fill("A dog runs." + " A dog runs" * 3 + " " + "dog" * 200)
    press(gallery, "Translate")
    shown(gallery, "tokens a second")
    told(gallery)
    assert gallery.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    gallery.screenshot(path=ARTIFACTS / "phone-answer.png", full_page=True)


def test_tabs_turn_by_arrow_keys(gallery):
    first = gallery.get_by_role("tab", name="Translate")
    first.focus()
    first.press("ArrowRight")
    selected = gallery.get_by_role("tablist").first.locator("[aria-selected=true]")
    expect = require("playwright.sync_api").expect
    expect(selected).to_have_text("Classify text")
    expect(selected).to_be_focused()
    selected.press("End")
    expect(selected).to_have_text("Write")
    selected.press("ArrowRight")
    expect(selected).to_have_text("Translate")
    selected.press("ArrowLeft")
    expect(selected).to_have_text("Write")


def test_a_page_is_used_without_a_mouse(gallery):
    tab = gallery.get_by_role("tab", name="Classify text")
    tab.focus()
    tab.press("Enter")
    text_box(gallery).wait_for()
    seen: list[str] = []
    # From the tab on: inner tabs, model, text, button; each shows where one is.
    for _ in range(20):
        gallery.keyboard.press("Tab")
        seen.append(
            gallery.evaluate(
                "(() => { const on = document.activeElement, style = getComputedStyle(on);"
                " return [on.tagName, on.getAttribute('aria-label') || on.textContent.trim(),"
                " style.outlineStyle !== 'none' || style.boxShadow !== 'none'].join('|'); })()"
            )
        )
        if seen[-1].startswith("BUTTON|Classify|"):
            break
    reached = [each.rsplit("|", 1)[0] for each in seen]
    assert [each for each in seen if each.endswith("false")] == []
    for wanted in ("BUTTON|One text", "INPUT|Model", "TEXTAREA|", "BUTTON|Classify"):
        assert wanted in reached, seen
    text_box(gallery).fill("The goal of the team.")
    text_box(gallery).press("Control+Enter")
    assert labels(gallery).strip() == "Sports"


@pytest.mark.parametrize("key", ["Control+Enter", "Meta+Enter"])
def test_control_and_enter_press_the_button_of_the_open_tab(gallery, key):
    source_box(gallery).fill("A dog runs.")
    source_box(gallery).press(key)
    shown(gallery, "tokens a second")
    assert target_box(gallery).input_value() == "Ein Hund rennt."
    open_tab(gallery, "Classify text")
    gallery.get_by_role("tab", name="Many texts").locator("visible=true").click()
    lines = gallery.get_by_label("Texts, one a line").locator("visible=true")
    lines.fill("the goal")
    lines.press(key)
    shown(gallery, "texts a second")


def test_a_page_that_is_loaded_again_has_its_text_again(gallery):
    open_tab(gallery, "Classify text")
    gallery.get_by_role("tab", name="Compare").locator("visible=true").click()
    text_box(gallery).fill("The goal of the <b>team</b>.")
    gallery.reload()
    gallery.get_by_role("button", name="Compare", exact=True).locator("visible=true").wait_for()
    require("playwright.sync_api").expect(text_box(gallery)).to_have_value("The goal of the <b>team</b>.")
    press(gallery, "Compare")
    shown(gallery, "The first says")
