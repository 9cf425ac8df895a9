"""Files of plain text, and the documents in them."""

import gzip

import pytest

from kzoo.data import read_documents, read_texts, split_documents
from kzoo.errors import KzooError


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def test_documents_are_files_paragraphs_or_lines(write):
    plain = write("a.txt", b"One.\r\nTwo.\r\n \t\r\n\r\nThree.\n")
    zipped = write("b.txt.gz", gzip.compress("Vier ä.\n".encode()))
    assert read_documents([plain, zipped]) == ["One.\nTwo.\n \t\n\nThree.\n", "Vier ä.\n"]
    assert read_documents([plain, zipped], "blank_line") == ["One.\nTwo.", "Three.\n", "Vier ä.\n"]
    assert read_documents([plain, zipped], "line") == ["One.", "Two.", "Three.", "Vier ä."]


def test_bad_files_are_named(write, tmp_path):
    for name, content, message in (
        ("empty.txt", b" \n", "empty.txt is empty"),
        ("bytes.txt", b"fine\nno\xff", r"bytes\.txt, line 2: byte 0xff is not UTF-8"),
        ("cut.txt.gz", gzip.compress(b"words " * 99)[:20], "is no gzip file, or is cut short"),
    ):
        with pytest.raises(KzooError, match=message):
            read_documents([write(name, content)])
    with pytest.raises(KzooError, match="cannot be read"):
        read_documents([tmp_path / "nowhere.txt"])


def test_rows_of_a_table_are_documents(write):
    table = write("a.tsv", b"1\tOne.\ttwo\n2\t \t\n3\tThree.\tfour\n")
    assert read_texts(table, [1, 2]) == ["One. two", "Three. four"]
    named = write("b.csv", b'label,text\n1,"One, two"\n')
    assert read_texts(named, ["text"]) == ["One, two"]
    with pytest.raises(KzooError, match=r"there is no column 'txt'\. Did you mean 'text'"):
        read_texts(named, ["txt"])
    with pytest.raises(KzooError, match=r"blank\.csv has no text in 'text'"):
        read_texts(write("blank.csv", b"label,text\n1, \n"), ["text"])


def test_the_end_is_set_aside():
    assert split_documents(["one", "two", "three"], 0.4) == (["one"], ["two", "three"])
    assert split_documents(["0123456789"], 0.1) == (["012345678"], ["9"])
    for documents, share in ((["a"], 0.5), (["a", "b"], 0.9), ([], 0.5)):
        with pytest.raises(KzooError, match="a part would be empty"):
            split_documents(documents, share)
