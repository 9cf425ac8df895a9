"""Make the README's picture of the pages: the shelf's translator, as `kzoo serve models` shows it.

python benchmarks/screenshot.py

Needs Chromium and `pip install '.[test]'`. The picture is docs/images/gallery.png.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import FloatRect, Page, expect, sync_playwright

import kzoo
from kzoo.apps import find_bundles, launch

_ROOT = Path(__file__).parents[1]
_PICTURE = _ROOT / "docs" / "images" / "gallery.png"
_WIDTH, _HEIGHT = 1000, 1500
_MARGIN = 24
_TEXT = "A man plays guitar on the street."
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_LINK = {"tab": "translate", "model": "translate-en-de", "beams": "3", "text": _TEXT}


def main() -> None:
    """Serve the shelf, open the page, translate, and keep what is to be seen."""
    models = [kzoo.load(path) for path in find_bundles([_ROOT / "models"])]
    # The first answer of a model takes longer than all others.
    next(model for model in models if model.name == _LINK["model"])(_TEXT)
    with (
        launch(models, port=0, open_browser=False, block=False) as server,
        sync_playwright() as session,
    ):
        found = next(filter(None, map(shutil.which, _CHROMIUM)), None)
        browser = session.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
        page.goto(f"{server.url}?{urlencode(_LINK)}")
        _translate(page)
        _PICTURE.parent.mkdir(exist_ok=True)
        page.screenshot(path=_PICTURE, clip=_what_counts(page))
        browser.close()
    print(f"{_PICTURE.relative_to(_ROOT)}: {_PICTURE.stat().st_size / 1000:.0f} kB")


def _translate(page: Page) -> None:
    page.set_default_timeout(60_000)
    expect(page.get_by_label("English", exact=True)).to_have_value(_TEXT, timeout=60_000)
    page.get_by_role("button", name="Translate", exact=True).click()
    page.get_by_text("tokens a second").wait_for()
    # One word is about to be replaced by another.
    page.locator(".words label").filter(has_text="Straße").click()
    page.get_by_text("Instead of").wait_for()
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")


def _what_counts(page: Page) -> FloatRect:
    """Return the part of the page that has something on it, down to the map's lower edge."""
    tabs, table = (page.locator(each).first.bounding_box() for each in ("[role=tablist]", "table.heatmap"))
    assert tabs is not None and table is not None
    return {
        "x": tabs["x"] - _MARGIN,
        "y": 0,
        "width": _WIDTH - 2 * (tabs["x"] - _MARGIN),
        "height": table["y"] + table["height"] + _MARGIN,
    }


if __name__ == "__main__":
    main()
