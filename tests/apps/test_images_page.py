"""The page for images in a real browser."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from tests import bundles
from tests.apps.conftest import png, wait_until
from tests.apps.test_about import told
from tests.apps.test_gallery import ARTIFACTS, labels, open_tab, press, shown, upload
from tests.apps.test_translate_page import download
from tests.optional import require
from tests.runtime.graphs import edit

SCRIPT = "<script>document.title = 'taken over'<"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a gallery over a bundle of images that has no graph of explanations."""
    require("gradio")
    from kzoo.apps import launch

    bundle = bundles.write_image_classifier(tmp_path_factory.mktemp("bundles") / "shade")
    with launch([bundle], port=0, open_browser=False, block=False) as server:
        yield server.url


@pytest.fixture
def images(page, address):
    page.goto(address)
    open_tab(page, "Classify images")
    return page


def bars(page):
    return page.locator(".bars button").locator("visible=true")


def picture(page) -> np.ndarray:
    """Return the picture that explains, once it is there."""
    place = page.locator("[data-testid=image] img, .image-frame img").locator("visible=true").last
    place.wait_for()
    content = page.request.get(place.get_attribute("src")).body()
    with Image.open(io.BytesIO(content)) as opened:
        return np.asarray(opened.convert("RGB")).astype(int)


def test_a_label_is_explained_when_clicked(images):
    half = np.zeros((8, 8), np.uint8)
    half[:, :4] = 255
    file = io.BytesIO()
    Image.fromarray(half).save(file, "PNG")
    upload(images, "half.png", file.getvalue())
    press(images, "Classify")
    labels(images)
    bars(images).filter(has_text="bright").click()
    shown(images, "“bright” has a probability of")
    shaded = picture(images)
    left, right = shaded[:, : shaded.shape[1] // 4], shaded[:, -shaded.shape[1] // 4 :]
    assert left[..., 2].mean() > left[..., 0].mean() + 60  # blue speaks for it
    assert right[..., 0].mean() > right[..., 2].mean() + 60
    ARTIFACTS.mkdir(exist_ok=True)
    images.screenshot(path=ARTIFACTS / "images.png", full_page=True)


def test_a_camera_gives_an_image(images):
    images.get_by_label("Capture from camera").click()
    images.get_by_text("Click to Access Webcam").click()
    # A click before the camera's first frame takes no picture.
    # Not wait_for_function, whose second look the page's own rules forbid.
    ready = "[...document.querySelectorAll('video')].some(video => video.videoWidth > 0)"
    wait_until(lambda: images.evaluate(ready))
    with images.expect_response(lambda response: "/upload" in response.url):
        images.get_by_label("capture photo").click()
    press(images, "Classify")
    assert labels(images).strip() in ("dark", "bright")


def test_many_files_and_one_that_is_no_image(images):
    images.get_by_role("tab", name="Many images").click()
    press(images, "Classify all")
    shown(images, "There are no images yet")
    files = [
        {"name": "white.png", "mimeType": "image/png", "buffer": png(255)},
        {"name": f"{SCRIPT}.png", "mimeType": "image/png", "buffer": b"these are no pixels"},
        {"name": "=1+1.png", "mimeType": "image/png", "buffer": png(0)},
    ]
    images.locator("input[type=file]").last.set_input_files(files)
    images.get_by_text("white.png").first.wait_for()
    press(images, "Classify all")
    shown(images, "1 of them could not be read")
    cells = images.locator(".rows td").all_inner_texts()
    assert cells[:3] == ["white.png", "bright", cells[2]] and any("not an image" in cell for cell in cells)
    rows = list(csv.DictReader(io.StringIO(download(images, "images.labelled.csv").decode())))
    assert [row["label"] for row in rows] == ["bright", "", "dark"]
    assert [bool(row["problem"]) for row in rows] == [False, True, False]
    assert not any(row["image"].startswith("=") for row in rows)
    assert images.title() != "taken over"


def test_a_script_in_a_label_stays_words(page, tmp_path):
    require("gradio")
    from kzoo.apps import launch

    marked = bundles.write_image_classifier(tmp_path / "marked")
    edit(marked, labels=["dark", SCRIPT])
    with launch([marked], port=0, open_browser=False, block=False) as server:
        page.goto(server.url)
        open_tab(page, "Classify images")
        upload(page, f"{SCRIPT}.png", png(255))
        press(page, "Classify")
        assert labels(page).strip() == SCRIPT
        bars(page).first.click()
        shown(page, f"“{SCRIPT}” has a probability of")
        said, (_, python) = told(page)
        assert SCRIPT in said
        assert f"{SCRIPT}.png" in python
        assert page.title() == "kzoo"


@pytest.mark.slow
def test_attention_is_shown_layer_by_layer(page, tmp_path):
    require("gradio")
    require("tensorflow")
    from kzoo.apps import launch
    from tests.models.tiny import shaken, tiny

    model = shaken(tiny("ViT", labels=["cat", "dog"], num_layers=2))
    model.export(tmp_path / "pets", explanations=True)
    with launch([tmp_path / "pets"], port=0, open_browser=False, block=False) as server:
        page.goto(server.url)
        open_tab(page, "Classify images")
        noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).save(file, "PNG")
        upload(page, "noise.png", file.getvalue())
        press(page, "Classify")
        labels(page)
        bars(page).first.click()
        shown(page, "Blue speaks for it")
        page.get_by_label("Click a label for what speaks for it").locator("visible=true").click()
        page.get_by_role("option", name="attention").click()
        shown(page, "in layer 1 of 2, head 1 of")
        first = picture(page)
        page.get_by_label("number input for Layer").locator("visible=true").fill("2")
        page.get_by_label("number input for Layer").locator("visible=true").press("Enter")
        page.get_by_label("range slider for Layer").locator("visible=true").press("ArrowRight")
        page.get_by_label("range slider for Layer").locator("visible=true").dispatch_event("pointerup")
        shown(page, "in layer 2 of 2")
        assert (picture(page) != first).any()
