"""The page for texts in a real browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from kzoo.apps import classifying
from kzoo.apps.classifying import Classifier
from kzoo.errors import KzooError
from tests import bundles
from tests.apps.conftest import MOODS
from tests.apps.test_gallery import ARTIFACTS, open_tab, press, shown, text_box
from tests.apps.test_translate_page import download, give
from tests.optional import require
from tests.runtime.graphs import edit, write_text_bundle, write_token_bundle

SCRIPT = "<script>document.title = 'taken over'</script>"
MARKED = {SCRIPT: ("happy", "sunny"), "=1+1": ("rain", "lost"), "![x](x.png)": ("bank", "shares")}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a gallery over bundles of every task that this page shows."""
    require("gradio")
    from kzoo.apps import launch

    root = tmp_path_factory.mktemp("bundles")
    found = [
        bundles.write_text_classifier(root / "topic"),
        bundles.write_text_classifier(root / "mood", "mood", words_of=MOODS),
        bundles.write_text_classifier(root / "marked", "marked", words_of=MARKED),
        *(write_text_bundle(root / task, task) for task in ("multilabel", "embedding")),
        write_token_bundle(root / "tokens", "tokens"),
    ]
    edit(root / "multilabel", thresholds=[0.8, 0.9, 0.9])
    with launch(found, port=0, open_browser=False, block=False) as server:
        yield server.url


@pytest.fixture
def texts(page, address):
    page.goto(address)
    open_tab(page, "Classify text")
    return page


def pick(page, label: str, name: str) -> None:
    page.get_by_label(label, exact=True).locator("visible=true").click()
    page.get_by_role("option", name=name, exact=True).click()


def ask(page, text: str, button: str = "Classify") -> None:
    text_box(page).fill(text)
    press(page, button)


def bars(page) -> list[str]:
    """Return the labels that there are bars for, with their shares, once there are some."""
    found = page.locator(".bars button").locator("visible=true")
    found.first.wait_for()
    return [" ".join(text.split()) for text in found.all_inner_texts()]


def test_labels_are_explained_when_clicked_and_other_bundles_answer_in_their_way(texts):
    ask(texts, "The goal of the team, the bank.")
    shown(texts, "ms on CPU")
    assert bars(texts) == ["Sports 95%", "Business 5%"]
    texts.locator(".bars button").locator("visible=true").nth(1).click()
    shown(texts, "“Business” has a probability of 4.7%")
    colours = (
        texts.locator(".weighed p")
        .first.locator("span")
        .evaluate_all(
            "words => words.map(word => [word.textContent, getComputedStyle(word).backgroundColor])"
        )
    )
    seen = dict(map(tuple, colours))
    assert seen["goal"] == seen["team"]
    assert len({seen["goal"], seen["bank"], seen["The"]}) == 3
    ARTIFACTS.mkdir(exist_ok=True)
    texts.screenshot(path=ARTIFACTS / "classify.png", full_page=True)

    # What was asked of another bundle is gone with it.
    pick(texts, "Model", "multilabel")
    texts.get_by_text("has a probability").locator("visible=true").wait_for(state="detached")
    ask(texts, "the dog runs fast")
    shown(texts, "No label is above its threshold.")
    ask(texts, "the cat sleeps")
    texts.get_by_text("No label is above").locator("visible=true").wait_for(state="detached")
    assert bars(texts) == ["✓ animal 90%", "sport 80%", "business 47%"]
    pick(texts, "Model", "tokens")
    shown(texts, "Parts of the text, with labels")
    ask(texts, "the dog runs on monday")
    assert "animal 97%" in shown(texts, "dog runs").locator("..").inner_text().lower()
    pick(texts, "Model", "embedding")
    second = texts.get_by_label("Second text").locator("visible=true")
    second.wait_for()
    ask(texts, "the dog")
    shown(texts, "There is no second text yet: this model reads two.")
    second.fill("the dog")
    press(texts, "Classify")
    texts.get_by_role("heading", name="1.000").wait_for()


def test_a_script_in_a_text_a_label_and_a_files_name_stays_words(texts):
    pick(texts, "Model", "marked")
    shown(texts, f"One of 3 labels: {SCRIPT}")
    ask(texts, f"happy {SCRIPT} sunny")
    texts.get_by_role("heading", name=SCRIPT).wait_for()
    texts.locator(".bars button").locator("visible=true").first.click()
    shown(texts, f"“{SCRIPT}” has a probability")

    open_tab(texts, "Many texts")
    pick(texts, "Model", "marked")
    give(texts, f"{SCRIPT.replace('/', '')}.csv", f"text,{SCRIPT}\n=the rain {SCRIPT},x\n".encode())
    shown(texts, "Column of the texts")
    press(texts, "Classify all")
    shown(texts, "2 cells begin as formulas do")
    assert texts.locator(".rows td").locator("visible=true").all_inner_texts()[1:3] == [
        f"=the rain {SCRIPT}",
        "=1+1",
    ]
    assert texts.title() == "kzoo"
    assert texts.locator(".rows script, .rows img, .heat script").count() == 0


def test_a_file_comes_back_with_labels_or_with_why_not(texts, monkeypatch):
    open_tab(texts, "Many texts")
    rows = "".join(f'{number},"The goal, {number}"\r\n' for number in range(70))
    give(texts, "a.csv", f"id,comment\r\n{rows}70,the bank\r\n71,\r\n".encode())
    texts.get_by_label("Column of the texts").locator("visible=true").wait_for()
    assert texts.get_by_label("Column of the texts").locator("visible=true").input_value() == "comment"
    press(texts, "Classify all")
    written = download(texts, "a.labelled.csv").decode()
    lines = written.split("\r\n")
    assert lines[0] == "id,comment,label,score"
    assert lines[1].startswith('0,"The goal, 0",Sports,0.9')
    assert lines[71].startswith("70,the bank,Business,0.9")
    assert lines[72:] == ["71,,,", ""]
    shown(texts, "1 row has no text, and no label.")
    shown(texts, "The first 20 of 72 rows.")
    assert texts.locator(".rows tbody tr").locator("visible=true").count() == 20
    texts.screenshot(path=ARTIFACTS / "classify-file.png", full_page=True)

    texts.get_by_label("Clear").locator("visible=true").first.click()
    texts.get_by_text("1 row has no text").locator("visible=true").wait_for(state="detached")
    press(texts, "Classify all")
    shown(texts, "There are no lines yet")
    for name, content, message in (
        ("a.csv", b"id,text\n1,a\n2,b,c\n", "a.csv, line 3 has 3 cells; line 1 has 2."),
        ("b.csv", b"id,text\n1,caf\xe9\n", "b.csv, line 2: byte 0xe9 is not UTF-8. Save the file as UTF-8."),
        ("c.xlsx", b"PK", "its name must end in .csv, .tsv, .txt or .jsonl"),
        ("d.txt", b"a\n" * 20_001, "d.txt has 20,001 rows; this page labels up to 20,000 at a time."),
        ("e.txt", b"a" * 4_000_001, "e.txt has 4,000,001 bytes; this page takes files of up to 4,000,000."),
    ):
        give(texts, name, content)
        shown(texts, message)
        texts.get_by_label("Clear").locator("visible=true").first.click()
        texts.get_by_text(message).locator("visible=true").wait_for(state="detached")

    monkeypatch.setattr(classifying, "_AT_ONCE", 1)
    give(texts, "f.txt", b"the goal\n" * 20_000)
    press(texts, "Classify all")
    shown(texts, "of 20,000 texts")
    assert texts.locator("progress").get_attribute("max") == "20000"
    press(texts, "Cancel")
    shown(texts, "Cancelled; no file was made.")


def test_a_file_that_is_gone_is_to_be_dropped_again(tmp_path):
    from kzoo.apps import page

    with pytest.raises(KzooError, match="dropped too long ago: drop it again"):
        page.read_upload({"path": str(tmp_path / "a.csv"), "orig_name": "a.csv"}, 10)


def test_two_people_at_once_get_their_own(texts, browser, address, monkeypatch):
    together = threading.Barrier(2)
    label_many = Classifier.label_many

    def meet(self: Classifier, many: list[str]) -> Iterator[list]:
        together.wait(timeout=30)
        yield from label_many(self, many)

    monkeypatch.setattr(Classifier, "label_many", meet)
    other = browser.new_page()
    try:
        other.goto(address)
        open_tab(other, "Classify text")
        for page, line in ((texts, "the goal"), (other, "the bank")):
            open_tab(page, "Many texts")
            page.get_by_label("Texts, one a line").fill(f"{line}\n" * 50)
            press(page, "Classify all")
        for page, wanted in ((texts, "the goal,Sports,"), (other, "the bank,Business,")):
            head, *rows = download(page, "lines.labelled.csv").decode().splitlines()
            assert head == "text,label,score"
            assert len(rows) == 50
            assert all(row.startswith(wanted) for row in rows)
    finally:
        other.close()


def test_two_bundles_are_compared_on_one_text(texts):
    open_tab(texts, "Compare")
    ask(texts, "A happy day for the team.", "Compare")
    shown(texts, "The first says Sports, the second Glad.")
    shown(texts, "topic: ")
    assert bars(texts) == ["Sports 95%", "Business 5%", "Glad 95%", "Sad 5%"]
    texts.screenshot(path=ARTIFACTS / "classify-compare.png", full_page=True)
    pick(texts, "First model", "mood")
    second = texts.get_by_label("Second model").locator("visible=true")
    require("playwright.sync_api").expect(second).to_have_value("topic")
