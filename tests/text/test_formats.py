"""Text files and subtitles: what is taken out of them, and that all else comes back as it was."""

from __future__ import annotations

import pytest

from kzoo.errors import KzooError
from kzoo.text.formats import read_document

SUBTITLES = (
    "1\r\n00:00:01,000 --> 00:00:04,000\r\n<i>A dog runs\r\nthrough the snow.</i>\r\n\r\n"
    "2\r\n00:00:05,500 --> 00:00:06,000 X1:10 Y1:20\r\n- Who is it?\r\n- The cat.\r\n\r\n"
    "3\r\n0:00:07.5 --> 0:00:08.25\r\n42\r\n"
)


def translated(name: str, content: bytes, *texts: str) -> str:
    return read_document(name, content).write(texts).decode()


@pytest.mark.parametrize(
    "content",
    [
        "one line",
        "one\ntwo\n",
        "one\r\ntwo\r\n\r\nfour",
        "old\rmac\r",
        "\n\none\n\n\n",
        "\ufeffwith a mark\n",
        "  spaces \t\n\u0645\u0631\u062d\n👩‍👩‍👧\n",
        "a form\x0cfeed\x85and\u2028more are one line",
    ],
)
def test_a_text_comes_back_to_the_byte(content):
    document = read_document("a.txt", content.encode())
    assert document.write(document.texts) == content.encode()
    assert not any("\n" in text or "\r" in text or "\ufeff" in text for text in document.texts)


def test_a_text_keeps_its_lines_whatever_replaces_them():
    assert translated("a.TXT", b"a\r\n\r\nb", "one\ntwo", "", "three\r\n") == "one two\r\n\r\nthree "
    with pytest.raises(KzooError, match="1 texts for a document of 3"):
        translated("a.txt", b"a\n\nb", "one")


def test_subtitles_come_back_to_the_byte():
    for content in (SUBTITLES, "\ufeff" + SUBTITLES, SUBTITLES.replace("\r\n", "\n").rstrip("\n")):
        document = read_document("a.srt", content.encode())
        assert document.texts == [
            "<i>A dog runs through the snow.</i>",
            "- Who is it?",
            "- The cat.",
            "42",
        ]
        assert document.write(document.texts) == content.encode()


def test_subtitles_keep_numbers_times_and_lines():
    text = translated("a.srt", SUBTITLES.encode(), "<i>Ein Hund rennt im Schnee.</i>", "- Wer?", "- Er.", "X")
    assert text == (
        "1\r\n00:00:01,000 --> 00:00:04,000\r\n<i>Ein Hund rennt\r\nim Schnee.</i>\r\n\r\n"
        "2\r\n00:00:05,500 --> 00:00:06,000 X1:10 Y1:20\r\n- Wer?\r\n- Er.\r\n\r\n"
        "3\r\n0:00:07.5 --> 0:00:08.25\r\nX\r\n"
    )


@pytest.mark.parametrize("text", ["Schnee.", "", '<font color="red" size="2">Schnee</font>'])
def test_a_subtitle_with_fewer_words_than_lines_has_no_empty_one(text):
    written = translated("a.srt", SUBTITLES.encode(), text, "- a", "- b", "c")
    assert written.count("\r\n") == SUBTITLES.count("\r\n")
    lines = written.split("\r\n")
    assert lines[2:5] == [text or "\u200b", "\u200b", ""]
    assert read_document("b.srt", written.encode()).texts[1:] == ["- a", "- b", "c"]


def test_long_subtitles_are_split_where_lines_are_about_as_long():
    content = b"1\n00:00:01,000 --> 00:00:04,000\na\nb\nc\n"
    text = translated("a.srt", content, "the quick brown fox jumps over the lazy dog")
    assert text.split("\n")[2:5] == ["the quick brown", "fox jumps over", "the lazy dog"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pdf", b"%PDF", "its name must end in .txt, .srt or .docx"),
        ("a", b"text", "its name must end in"),
        ("a.doc", b"\xd0\xcf", "Save it as .docx first"),
        ("a.txt", b"", "a.txt is empty"),
        ("a.txt", b" \r\n\t", "a.txt is empty"),
        ("a.txt", b"one\ntwo \xff\n", "a.txt, line 2: byte 0xff is not UTF-8"),
        ("a.txt", "two".encode("utf-16"), "line 1: byte 0xff is not UTF-8"),
        ("a.txt", b"\x00\x01\x02", "is not a text"),
        ("a.txt", b"\xed\xa0\x80", "is not UTF-8"),
        ("a.srt", b"one\ntwo\n", "a.srt holds no subtitles"),
        ("a.srt", b"hello\n1\n00:00:01,000 --> 00:00:02,000\nx", "line 1: text before the first"),
        ("a.docx", b"not a zip", "a.docx is not a Word file, or is damaged"),
    ],
)
def test_a_bad_file_is_refused_with_the_reason(name, content, message):
    with pytest.raises(KzooError, match=message):
        read_document(name, content)
