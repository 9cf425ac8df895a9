"""Word files: text replaced in place, all other bytes of the XML kept, and hostile files refused."""

from __future__ import annotations

import io
import re
import struct
import zipfile

import pytest

from kzoo.errors import KzooError
from kzoo.text import word
from kzoo.text.formats import read_document

NAMESPACE = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
HEADING = '<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>At the beach</w:t></w:r></w:p>'


def document(body: str, prefix: str = "w", start: str = '<?xml version="1.0" encoding="UTF-8"?>') -> bytes:
    """Return the XML of a document; `mc:Ignorable` names a prefix, as Word's own files do."""
    xml = (
        f'{start}<w:document xmlns:w="{NAMESPACE}" xmlns:mc="urn:mc" xmlns:w14="urn:w14" mc:Ignorable="w14">'
        f"<w:body>{body}<w:sectPr/></w:body></w:document>"
    )
    return re.sub(r"\bw:", f"{prefix}:", xml).replace("xmlns:w=", f"xmlns:{prefix}=").encode()


def docx(body: str | bytes, more: dict[str, bytes] | None = None) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", body if isinstance(body, bytes) else document(body))
        for name, data in (more or {}).items():
            archive.writestr(name, data)
    return file.getvalue()


def part(content: bytes, name: str = "word/document.xml") -> bytes:
    return zipfile.ZipFile(io.BytesIO(content)).read(name)


def paragraph(*runs: str) -> str:
    return "<w:p>" + "".join(f"<w:r>{run}</w:r>" for run in runs) + "</w:p>"


def test_text_is_replaced_and_all_else_stays():
    picture = bytes(range(256))
    content = docx(
        HEADING + paragraph("<w:rPr><w:b/></w:rPr><w:t>A dog.</w:t>") + "<w:p/>",
        {"word/media/image1.png": picture, "docProps/core.xml": b"<x>A dog.</x>"},
    )
    read = read_document("a.docx", content)
    assert read.texts == ["At the beach", "A dog."]
    written = read.write(["Am Strand", "Ein Hund & <b>mehr</b>."])
    kept = '<w:t xml:space="preserve">{}</w:t>'
    assert part(written) == part(content).replace(
        b"<w:t>At the beach</w:t>", kept.format("Am Strand").encode()
    ).replace(b"<w:t>A dog.</w:t>", kept.format("Ein Hund &amp; &lt;b&gt;mehr&lt;/b&gt;.").encode())
    assert zipfile.ZipFile(io.BytesIO(written)).testzip() is None
    assert part(written, "word/media/image1.png") == picture
    assert part(written, "docProps/core.xml") == b"<x>A dog.</x>"
    assert read_document("b.docx", written).texts == ["Am Strand", "Ein Hund & <b>mehr</b>."]


def test_a_paragraph_in_pieces_is_one_text_formatted_as_its_longest():
    read = read_document(
        "a.docx", docx(paragraph("<w:t>A </w:t>", "<w:rPr><w:i/></w:rPr><w:t>dog runs</w:t>", "<w:t>.</w:t>"))
    )
    assert read.texts == ["A dog runs."]
    written = part(read.write(["Ein Hund rennt."])).decode()
    assert '<w:rPr><w:i/></w:rPr><w:t xml:space="preserve">Ein Hund rennt.</w:t>' in written
    assert written.count('<w:t xml:space="preserve"></w:t>') == 2


def test_tabs_breaks_and_boxes_divide_text():
    box = f"<w:pict><w:txbxContent>{paragraph('<w:t>boxed</w:t>')}</w:txbxContent></w:pict>"
    read = read_document(
        "a.docx",
        docx(
            paragraph(
                "<w:t>left</w:t><w:tab/><w:t>right</w:t><w:br/><w:t>below</w:t>", box, "<w:t>after</w:t>"
            )
        ),
    )
    assert sorted(read.texts) == ["after", "below", "boxed", "left", "right"]
    written = read.write([text.upper() for text in read.texts])
    assert re.findall(r">([A-Z]+)</w:t>", part(written).decode()) == [
        "LEFT",
        "RIGHT",
        "BELOW",
        "BOXED",
        "AFTER",
    ]


def test_headers_and_footnotes_are_read_and_field_codes_are_not():
    note = f'<w:footnotes xmlns:w="{NAMESPACE}">{paragraph("<w:t>a note</w:t>")}</w:footnotes>'.encode()
    head = f'<w:hdr xmlns:w="{NAMESPACE}">{paragraph("<w:t>a head</w:t>")}</w:hdr>'.encode()
    body = paragraph("<w:instrText>PAGE</w:instrText><w:delText>gone</w:delText><w:t>said</w:t>")
    read = read_document("a.docx", docx(body, {"word/footnotes.xml": note, "word/header1.xml": head}))
    assert read.texts == ["said", "a note", "a head"]
    written = read.write(["SAID", "A NOTE", "A HEAD"])
    assert b"A NOTE" in part(written, "word/footnotes.xml")
    assert b"A HEAD" in part(written, "word/header1.xml")


@pytest.mark.parametrize(
    "body",
    [
        document(HEADING, prefix="ns0"),
        b"\xef\xbb\xbf" + document(HEADING),
        document(HEADING, start=""),
        document(HEADING.replace("<w:t>At the beach</w:t>", "<w:t >At&#32;the <![CDATA[beach]]></w:t\n>")),
        document(HEADING).replace(NAMESPACE.encode(), b"http://purl.oclc.org/ooxml/wordprocessingml/main"),
    ],
)
def test_xml_may_be_written_in_other_ways(body):
    read = read_document("a.docx", docx(body))
    assert read.texts == ["At the beach"]
    assert read_document("b.docx", read.write(["Ä 👩 \x07\ufffe"])).texts == ["Ä 👩 "]


def test_line_ends_in_a_text_are_spaces():
    read = read_document("a.docx", docx(paragraph("<w:t>two\nlines\t</w:t>")))
    assert read.texts == ["two lines "]


def test_nothing_changes_where_no_text_does():
    content = docx(HEADING + paragraph("<w:t>A </w:t>", "<w:t>dog.</w:t>"))
    read = read_document("a.docx", content)
    assert part(read.write(read.texts)) == part(content)


LAUGHS = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (document(HEADING, start=LAUGHS), "declares a document type"),
        (document(HEADING, start='<!DOCTYPE x SYSTEM "file:///etc/hostname">'), "declares a document type"),
        (document(HEADING)[:-9], "a.docx, word/document.xml is damaged"),
        (document("<w:p><w:t>&unknown;</w:t></w:p>"), "is damaged"),
        (document(HEADING, start='<?xml version="1.0" encoding="latin-1"?>'), "is in latin-1"),
        (document(HEADING).decode().encode("utf-16"), "is not in UTF-8"),
        (document(HEADING).decode().encode("utf-16-le"), "is not in UTF-8"),
        (b"", "is damaged"),
    ],
)
def test_bad_xml_is_refused(body, message):
    with pytest.raises(KzooError, match=message):
        read_document("a.docx", docx(body))


def test_an_archive_that_is_no_word_file_is_refused():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    with pytest.raises(KzooError, match="an archive without word/document"):
        read_document("a.docx", file.getvalue())


@pytest.mark.parametrize("name", ["../escaped", "/absolute", "word/../../x", "\\windows"])
def test_names_that_leave_the_folder_are_refused(name):
    with pytest.raises(KzooError, match="it has an entry"):
        read_document("a.docx", docx(HEADING, {name: b"x"}))


def test_two_entries_of_one_name_are_refused():
    with pytest.warns(UserWarning, match="Duplicate"):
        content = docx(HEADING, {"word/document.xml": document(HEADING)})
    with pytest.raises(KzooError, match="two of its entries have one name"):
        read_document("a.docx", content)


def test_what_would_unpack_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(word, "MAX_UNPACKED", 100_000)
    bomb = docx(HEADING, {"word/media/a.bin": bytes(200_000)})
    assert len(bomb) < 5_000
    with pytest.raises(KzooError, match="would unpack to more than"):
        read_document("a.docx", bomb)


def test_an_entry_that_understates_its_size_is_refused_without_unpacking_it():
    content = bytearray(docx(HEADING, {"word/media/a.bin": bytes(50_000_000)}))
    entry = content.rindex(b"PK\x01\x02")
    assert struct.unpack_from("<I", content, entry + 24) == (50_000_000,)
    struct.pack_into("<I", content, entry + 24, 10)
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(KzooError, match="is damaged"):
        read_document("a.docx", bytes(content))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [(8, 1, "is encrypted"), (10, 12, "packed in a way"), (10, 99, "packed in a way")],
)
def test_encrypted_and_strangely_packed_entries_are_refused(offset, value, message):
    content = bytearray(docx(HEADING))
    struct.pack_into("<H", content, content.rindex(b"PK\x01\x02") + offset, value)
    with pytest.raises(KzooError, match=message):
        read_document("a.docx", bytes(content))


def test_a_file_cut_short_or_with_a_changed_byte_is_refused():
    content = docx(HEADING)
    middle = content.index(b"word/document.xml") + 60
    changed = content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]
    for damaged in (content[: len(content) // 2], changed):
        with pytest.raises(KzooError, match="is damaged"):
            read_document("a.docx", damaged)
