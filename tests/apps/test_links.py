"""Links that open a page with an input in it."""

from __future__ import annotations

import pytest

from kzoo.errors import KzooError
from tests import bundles
from tests.apps.test_about import gallery, told
from tests.apps.test_gallery import labels, open_tab, press, shown, source_box, text_box
from tests.optional import require

__all__ = ["gallery"]

SCRIPT = '<script>document.title = "taken over"</script>'


def test_a_link_has_what_is_on_the_page(gallery, page):
    open_tab(gallery, "Classify text")
    gallery.get_by_label("Model", exact=True).locator("visible=true").click()
    gallery.get_by_role("option", name="mood").click()
    shown(gallery, "Glad, Sad")
    text = f"A happy & sunny day, 100% #1 +\n{SCRIPT} ünï"
    text_box(gallery).fill(text)
    link = told(gallery)[1][0].strip()

    page.goto(link)
    text_box(page).wait_for()
    expect = require("playwright.sync_api").expect
    expect(text_box(page)).to_have_value(text)
    expect(page.get_by_label("Model", exact=True).locator("visible=true")).to_have_value("mood")
    press(page, "Classify")
    assert labels(page).strip() == "Glad"
    assert page.title() == "kzoo"


def test_a_link_opens_translation_with_languages_and_beams(page, tmp_path):
    require("gradio")
    from kzoo.apps import launch

    found = [bundles.write_translator(tmp_path / name, name) for name in ("en-de", "fr-en")]
    with launch(found, port=0, open_browser=False, block=False) as server:
        page.goto(server.url + "?tab=translate&model=fr-en&beams=3&text=A+dog")
        expect = require("playwright.sync_api").expect
        expect(page.get_by_label("French", exact=True)).to_have_value("A dog")
        expect(page.get_by_label("number input for Beams")).to_have_value("3")
        assert told(page)[1][0].strip() == f"{server.url}?tab=translate&model=fr-en&beams=3&text=A+dog"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("tab=nowhere&text=a", "This link asks for a tab 'nowhere'."),
        (f"tab=text&model={SCRIPT}", f"This link asks for a model '{SCRIPT}', which is not on this page."),
        ("tab=text&text=" + 2_001 * "a", "A link carries up to 2,000 characters; 'text' has 2,001."),
    ],
)
def test_a_link_that_leads_nowhere_is_answered_with_why(page, service_url, query, message):
    page.goto(f"{service_url}?{query}")
    shown(page, message)
    assert page.title() == "kzoo"


def test_words_that_gradio_gives_a_meaning_do_no_harm(page, service_url):
    page.goto(f"{service_url}?page=other&view=api&deep_link=a&tab=translate&text=A+dog+runs.")
    require("playwright.sync_api").expect(source_box(page)).to_have_value("A dog runs.")


def test_a_long_text_has_no_link(gallery):
    open_tab(gallery, "Classify text")
    text_box(gallery).fill("goal " * 500)
    _, programs = told(gallery)
    shown(gallery, "There is no link to this. A link carries up to 2,000 characters")
    assert len(programs) == 2


def test_fields_are_escaped_and_bounded():
    require("gradio")
    from kzoo.apps.links import query_of

    assert query_of("text", {"text": "a&b=<c>", "second": None, "to": ""}) == "?tab=text&text=a%26b%3D%3Cc%3E"
    with pytest.raises(KzooError, match="up to 2,000 characters; 'text' has 3,000"):
        query_of("text", {"text": "a" * 3_000})
