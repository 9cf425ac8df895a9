"""How a program asks a bundle what stands on a page: what is shown works."""

from __future__ import annotations

import ast
import json
import shlex
import urllib.request

import pytest

from tests import bundles
from tests.apps.test_gallery import open_tab, press, shown, text_box
from tests.optional import require

NASTY = 'it\'s "so" `ls` $(ls)\n```\n</code><script>document.title = "taken over"</script>'


def test_calls_are_quoted():
    require("gradio")
    from kzoo.apps.about import Call

    call = Call("/classify", NASTY, {"top_k": 5, "threshold": None})
    last = ast.parse(call.in_python("topic")).body[-1].value
    assert ast.literal_eval(last.args[0]) == NASTY
    assert [(each.arg, each.value.value) for each in last.keywords] == [("top_k", 5)]
    command = shlex.split(call.by_curl("topic", "127.0.0.1:8000").replace("\\\n", " "))
    assert command[:3] == ["curl", "-s", "http://127.0.0.1:8000/classify"]
    assert json.loads(command[-1]) == {"model": "topic", "inputs": [NASTY], "top_k": 5}
    form = shlex.split(
        Call("/classify/images", "a b.png", {"top_k": 5}, file="a b.png").by_curl("shade", "h")
    )
    assert form[3:] == ["-F", "model=shade", "-F", "top_k=5", "-F", "files=@a b.png"]


@pytest.fixture
def gallery(page, service_url):
    page.goto(service_url)
    page.get_by_role("tab", name="Translate").wait_for()
    return page


def told(page) -> tuple[str, list[str]]:
    """Open the panel, and return what it says and the programs that it shows."""
    page.get_by_role("button", name="About this model, a link to this, and how a program asks it").locator(
        "visible=true"
    ).click()
    place = page.locator(".facts").locator("visible=true").first
    place.locator("pre").last.wait_for()
    return place.inner_text(), place.locator("pre code").all_inner_texts()


def test_the_call_of_what_is_on_the_page_gives_the_same(gallery, service_url):
    open_tab(gallery, "Classify text")
    text_box(gallery).fill("The striker of the team scored a goal.")
    press(gallery, "Classify")
    shown(gallery, "ms on")
    said, (_, python, curl) = told(gallery)
    assert "Business, Sports" in said and "up to 24 tokens" in said
    assert "'The striker of the team scored a goal.'" in python
    command = shlex.split(curl.replace("\\\n", " "))
    assert command[2] == f"{service_url.rstrip('/')}/classify"
    request = urllib.request.Request(
        command[2], command[-1].encode(), {"content-type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        ranked = json.load(answer)["results"][0]
    assert ranked[0]["label"] == "Sports"


def test_texts_are_no_markup(gallery):
    open_tab(gallery, "Classify text")
    text_box(gallery).fill(NASTY)
    _, (_, python, _) = told(gallery)
    assert json.dumps("taken over")[1:-1] in python and gallery.title() != "taken over"
    assert gallery.locator(".facts script").count() == 0


def test_each_page_says_how_it_is_asked(gallery):
    gallery.get_by_label("English", exact=True).locator("visible=true").fill("A dog runs.")
    assert "/translate" in told(gallery)[1][-1]
    open_tab(gallery, "Classify images")
    assert "files=@image.png" in told(gallery)[1][-1]


CARD = """# Topics

<script>document.title = "taken over"</script> <img src="a.png">
![A picture](curves.png) [here](elsewhere.toml) and [there](https://example.org/)

| score | |
| --- | --- |
| accuracy | 0.9 |

    kzoo train <recipe>
"""


def test_the_card_beside_a_bundle_is_shown_without_what_is_not_there(page, tmp_path):
    require("gradio")
    from kzoo.apps import launch

    bundle = bundles.write_text_classifier(tmp_path / "topic" / "bundle")
    (tmp_path / "topic" / "README.md").write_text(CARD)
    with launch([bundle], port=0, open_browser=False, block=False) as server:
        page.goto(server.url)
        open_tab(page, "Classify text")
        text_box(page).fill("the goal")
        said, _ = told(page)
        card = page.locator(".block.card").locator("visible=true")
        card.get_by_role("heading", name="Topics").wait_for()
        assert "accuracy" in card.inner_text() and "kzoo train <recipe>" in card.inner_text()
        assert card.locator("script, img").count() == 0
        assert card.get_by_role("link").all_inner_texts() == ["there"]
        assert "accuracy" not in said
        assert page.title() == "kzoo"


def test_a_bundle_without_a_card_has_none(tmp_path):
    require("gradio")
    import kzoo
    from kzoo.apps import about

    (tmp_path / "README.md").write_text("Of something else.")
    pipeline = kzoo.load(bundles.write_text_classifier(tmp_path / "topic"))
    assert about._card_of(pipeline) == ""
