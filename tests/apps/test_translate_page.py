"""The page for translation in a real browser."""

from __future__ import annotations

from pathlib import Path

from tests import bundles
from tests.apps.test_gallery import ARTIFACTS, gallery, open_tab, press, shown, source_box, target_box
from tests.text.test_word import docx, paragraph, part

__all__ = ["gallery"]

SUBTITLES = (
    "1\r\n00:00:01,000 --> 00:00:04,000\r\nA dog\r\nruns.\r\n\r\n"
    "2\r\n00:00:05,000 --> 00:00:06,000\r\n- A cat sleeps.\r\n"
)


def translate(page, text: str, beams: int = 1) -> str:
    """Type a text and return its translation once all of it is there."""
    source_box(page).fill(text)
    field = page.get_by_label("number input for Beams")
    if field.input_value() != str(beams):
        field.fill(str(beams))
        field.press("Enter")
    press(page, "Translate")
    shown(page, "tokens a second")
    return target_box(page).input_value()


def choices(page, label: str):
    """Return what is offered to pick under a label, once it is there."""
    options = page.locator("fieldset").filter(has_text=label).locator("label")
    options.first.wait_for()
    return options


def give(page, name: str, content: bytes) -> None:
    with page.expect_response(lambda response: "/upload" in response.url):
        page.locator("input[type=file]").first.set_input_files(
            {"name": name, "mimeType": "application/octet-stream", "buffer": content}
        )


def test_a_text_is_translated_with_its_lines_and_marks(gallery):
    text = "# A dog\n\n- <b>A dog runs.</b>  \n\n  A cat sleeps. A dog runs.\n3\n"
    assert translate(gallery, text) == (
        "# Ein Hund\n\n- <b>Ein Hund rennt.</b>  \n\n  Ein Kater schläft. Ein Hund rennt.\n3\n"
    )
    assert target_box(gallery).is_disabled()


def test_beams_give_translations_to_choose_from(gallery):
    assert (
        translate(gallery, "A cat sleeps.\n\nA dog runs.", beams=3) == "Ein Kater schläft.\n\nEin Hund rennt."
    )
    gallery.get_by_label("A closer look at").click()
    gallery.get_by_role("option", name="2. A dog runs.").click()
    found = choices(gallery, "Translations")
    gallery.get_by_text("Ein Kater rennt.").wait_for()
    scores = [float(text.split()[0]) for text in found.all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > -0.1
    found.nth(1).click()
    gallery.locator(".heatmap tbody").filter(has_text="Kater").wait_for()
    assert target_box(gallery).input_value() == "Ein Kater schläft.\n\nEin Kater rennt."


def test_a_word_is_replaced_by_another_and_the_rest_follows(gallery):
    translate(gallery, "A cat sleeps. A dog runs.", beams=2)
    gallery.get_by_label("A closer look at").click()
    gallery.get_by_role("option", name="2. A dog runs.").click()
    words = choices(gallery, "Click a word")
    choices(gallery, "Click a word").filter(has_text="Hund").click()
    assert words.all_inner_texts() == ["Ein", "Hund", "rennt", "."]
    ways = choices(gallery, "Instead of “Hund”")
    assert [" ".join(text.split()) for text in ways.all_inner_texts()[:2]] == ["Hund 88%", "Kater 12%"]
    ARTIFACTS.mkdir(exist_ok=True)
    gallery.screenshot(path=ARTIFACTS / "translate.png", full_page=True)
    ways.nth(1).click()
    choices(gallery, "Click a word").filter(has_text="Kater").wait_for()
    assert target_box(gallery).input_value() == "Ein Kater schläft. Ein Kater rennt."


def test_the_map_shows_where_each_token_comes_from(gallery):
    translate(gallery, "A dog runs.")
    table = gallery.locator("table.heatmap")
    assert table.locator("thead th").all_inner_texts() == ["", "A", "dog", "runs", ".", "</s>"]
    assert table.locator("tbody th").all_inner_texts() == ["Ein", "Hund", "rennt", "."]
    shades = table.locator("tbody td").evaluate_all(
        "cells => cells.map(cell => getComputedStyle(cell).backgroundColor)"
    )
    rows = [shades[5 * row : 5 * row + 5] for row in range(4)]
    for index, row in enumerate(rows):
        assert len(set(row)) == 2
        assert row.count(row[index]) == 1


def test_an_example_and_its_markup(gallery):
    gallery.get_by_text("A dog runs through").click()
    shown(gallery, "tokens a second")
    assert target_box(gallery).input_value().startswith("Ein Hund rennt")


def test_a_text_that_cannot_be_translated_whole_is_answered_with_why(gallery):
    for text, message in (
        ("  \n ", "There is no text yet: type one, or click an example."),
        ("A dog runs. " * 450, "The text has 5,400 characters; this page translates up to 5,000 at a time."),
        ("dog " * 60 + "cat", "The text had more than the 24 tokens that this model reads"),
        ("42 -- 17:30\n!!", "There are no words in this text: nothing of it changes."),
    ):
        source_box(gallery).fill(text)
        press(gallery, "Translate")
        shown(gallery, message)
    assert target_box(gallery).input_value() == "42 -- 17:30\n!!"


def test_a_file_is_translated_and_given_back(gallery):
    styled = "<w:rPr><w:b/></w:rPr><w:t>{}</w:t>"
    word = docx(paragraph(styled.format("A dog runs.")) + "<w:p/>" + paragraph("<w:t>A cat</w:t>"))
    open_tab(gallery, "File")

    give(gallery, "a.txt", b"A dog runs.\r\n\r\nA cat sleeps.")
    press(gallery, "Translate file")
    assert download(gallery, "a.de.txt").decode() == "Ein Hund rennt.\r\n\r\nEin Kater schläft."

    take_away(gallery)
    give(gallery, "a.srt", SUBTITLES.encode())
    press(gallery, "Translate file")
    wanted = SUBTITLES.replace("A dog\r\nruns.", "Ein Hund\r\nrennt.")
    assert download(gallery, "a.de.srt").decode() == wanted.replace("A cat sleeps", "Ein Kater schläft")

    take_away(gallery)
    give(gallery, "a.docx", word)
    press(gallery, "Translate file")
    written = part(download(gallery, "a.de.docx")).decode()
    assert '<w:rPr><w:b/></w:rPr><w:t xml:space="preserve">Ein Hund rennt.</w:t>' in written
    assert written.count("<w:p>") == 2
    assert "Ein Kater" in written
    ARTIFACTS.mkdir(exist_ok=True)
    gallery.screenshot(path=ARTIFACTS / "translate-file.png", full_page=True)


def take_away(page) -> None:
    """Take the file away, and what came of it."""
    said = page.get_by_role("tabpanel").locator(".status p")
    page.get_by_label("Clear").locator("visible=true").first.click()
    said.locator("visible=true").last.wait_for(state="detached")


def download(page, name: str) -> bytes:
    link = page.get_by_role("link", name="⇣").locator("visible=true").last
    page.get_by_text(name).or_(page.get_by_text(name.rpartition(".")[0])).first.wait_for()
    with page.expect_download() as given:
        link.click()
    assert given.value.suggested_filename == name
    return Path(given.value.path()).read_bytes()


def test_bad_files_are_answered_with_why(gallery):
    open_tab(gallery, "File")
    press(gallery, "Translate file")
    shown(gallery, "There is no file yet")
    for name, content, message in (
        ("a.pdf", b"%PDF-1.7", "its name must end in .txt, .srt or .docx"),
        ("a.docx", b"PK\x03\x04 broken", "a.docx is not a Word file, or is damaged"),
        ("a.txt", b"A dog\xff", "a.txt, line 1: byte 0xff is not UTF-8"),
        ("b.txt", b" \n", "b.txt is empty"),
        ("c.txt", b"A dog. " * 30_000, "c.txt has 210,000 characters; this page translates up to 200,000"),
        ("d.txt", b"1 2 3", "There are no words to translate in d.txt"),
    ):
        give(gallery, name, content)
        press(gallery, "Translate file")
        shown(gallery, message)
        take_away(gallery)


def test_a_file_can_be_cancelled(gallery, monkeypatch):
    from kzoo.apps import translating

    monkeypatch.setattr(translating, "_AT_ONCE", 1)
    open_tab(gallery, "File")
    give(gallery, "a.txt", b"A dog runs.\n" * 15_000)
    press(gallery, "Translate file")
    shown(gallery, "of 15,000 sentences")
    assert gallery.locator("progress").get_attribute("max") == "15000"
    press(gallery, "Cancel")
    shown(gallery, "Cancelled; no file was made.")
    # What was cancelled is over: the next one has its turn, and its words are the last.
    take_away(gallery)
    give(gallery, "b.txt", b"A dog runs.")
    press(gallery, "Translate file")
    assert download(gallery, "b.de.txt") == b"Ein Hund rennt."
    assert gallery.get_by_text("15,000").locator("visible=true").count() == 0


def test_a_script_in_a_text_and_a_files_name_stays_words(gallery):
    script = "<script>document.title = 'taken over'</script>"
    wanted = f"A dog runs. {script} A cat sleeps."
    assert translate(gallery, wanted).startswith("Ein Hund rennt.")
    gallery.get_by_label("A closer look at").click()
    gallery.get_by_role("option").last.click()
    gallery.locator("table.heatmap").wait_for()
    open_tab(gallery, "File")
    name = f"{script.replace('/', '')}.txt"
    give(gallery, name, b"1 2 3")
    press(gallery, "Translate file")
    shown(gallery, f"There are no words to translate in {name}")
    assert gallery.title() == "kzoo"
    assert gallery.locator("[role=tabpanel] script").count() == 0


def test_languages_are_picked_from_the_bundles_found(page, tmp_path):
    from kzoo.apps import launch

    found = [bundles.write_translator(tmp_path / name, name) for name in ("translate-en-de", "fr-en", "mine")]
    with launch(found, port=0, open_browser=False, block=False) as server:
        page.goto(server.url)
        page.get_by_label("Languages").click()
        options = page.get_by_role("option").all_inner_texts()
        assert [option.strip(" ✓\n") for option in options] == [
            "English → German",
            "French → English",
            "Text → Translation (mine)",
        ]
        page.get_by_role("option", name="French").click()
        page.get_by_label("French", exact=True).fill("A dog")
        press(page, "Translate")
        shown(page, "tokens a second")
        assert target_box(page).input_value() == "Ein Hund"
        page.get_by_text("English", exact=True).locator("visible=true").wait_for()
