"""The gallery over bundles that were really trained: the whole path, from text and pixels to the page."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.apps.conftest import wait_until
from tests.apps.test_gallery import (
    ARTIFACTS,
    labels,
    open_tab,
    press,
    shown,
    source_box,
    target_box,
    text_box,
    upload,
)
from tests.optional import require

pytestmark = pytest.mark.slow

_TRANSLATOR = """
name = "translate-en-de"
[data]
train = ["train.en", "train.de"]
test = ["test.en", "test.de"]
[text]
vocab_size = 1500
[model]
name = "transformer_tiny"
num_layers = 2
dropout = 0.1
[training]
epochs = 24
batch_size = 64
learning_rate = 2e-3
[evaluation]
metric = "bleu"
"""
_TOPICS = """
name = "topic"
[data]
train = "samples/topics.csv"
test_share = 0.2
text = "text"
label = "topic"
[text]
vocab_size = 2000
[model]
name = "bert_tiny"
[training]
epochs = 25
batch_size = 16
"""


@pytest.fixture(scope="module")
def sentences() -> list[tuple[str, str]]:
    """The short sentences of Multi30k's beginning, English and German."""
    home = os.environ.get("KZOO_DATA")
    if not home:
        pytest.skip("needs Multi30k: set KZOO_DATA to the folder that holds multi30k")
    sides = [
        gzip.decompress(Path(home, "multi30k", f"train.{side}.gz").read_bytes()).decode("utf-8").splitlines()
        for side in ("en", "de")
    ]
    pairs = [(english.strip(), german.strip()) for english, german in zip(*sides, strict=True)]
    return [pair for pair in pairs[:12_000] if all(len(text.split()) <= 9 for text in pair)][:800]


@pytest.fixture(scope="module")
def trained(
    sentences: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, list[Path]]]:
    """The address of a gallery over three bundles that recipes just made, and their paths."""
    require("gradio")
    from kzoo.apps import create_app
    from kzoo.apps.server import Server
    from kzoo.recipes import DIGITS, run

    folder = tmp_path_factory.mktemp("trained")
    for part, pairs in (("train", sentences), ("test", sentences[:50])):
        for index, side in enumerate(("en", "de")):
            lines = "".join(f"{pair[index]}\n" for pair in pairs)
            (folder / f"{part}.{side}").write_text(lines, encoding="utf-8")
    recipes = {"translate.toml": _TRANSLATOR, "topic.toml": _TOPICS}
    for name, text in recipes.items():
        (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KZOO_RUNS", str(folder / "runs"))
        bundles = [run(folder / name).bundle for name in recipes]
        bundles.append(run(DIGITS, overrides=["training.epochs=20"]).bundle)
    app = create_app(bundles)
    with Server(app, "127.0.0.1", 0).start() as server:
        wait_until(lambda: app.state.service.pages)
        yield server.url, bundles


def test_each_page_answers_from_a_trained_bundle(trained, sentences, page, tmp_path: Path) -> None:
    import kzoo
    from kzoo.data import digits

    address, bundles = trained
    page.goto(address)
    page.get_by_role("tab", name="Translate").wait_for()
    english, german = min(sentences, key=lambda pair: len(pair[0]))
    source_box(page).fill(english)
    press(page, "Translate")
    shown(page, "ms on")
    translation = target_box(page).input_value()
    assert translation == kzoo.load(bundles[0])(english)["translation"]
    # It has seen this very sentence many times; most of its words must come out.
    wanted = set(german.lower().strip(".").split())
    assert len(wanted & set(translation.lower().strip(".").split())) >= len(wanted) / 2

    open_tab(page, "Classify text")
    text_box(page).fill("The goalkeeper saved the match.")
    press(page, "Classify")
    assert labels(page).strip() in kzoo.load(bundles[1]).manifest.labels
    page.screenshot(path=ARTIFACTS / "gallery-text.png", full_page=True)

    open_tab(page, "Classify images")
    _, test = digits()
    image = Image.fromarray(np.asarray(test.inputs)[0, :, :, 0]).resize((96, 96), Image.Resampling.NEAREST)
    image.save(tmp_path / "digit.png")
    upload(page, "digit.png", (tmp_path / "digit.png").read_bytes())
    press(page, "Classify")
    assert labels(page).strip() == test.targets[0]
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / "gallery-trained.png", full_page=True)
