"""The reader of SentencePiece's files against the library that writes them."""

import random

import pytest

from kzoo.errors import KzooError
from kzoo.text.charsmap import Charsmap
from kzoo.text.marian import Segmenter
from kzoo.text.sentencepiece import Kind, parse
from tests.optional import require
from tests.text.vocabularies import CORPUS, sentencepiece


@pytest.fixture(scope="module")
def unigram():
    return sentencepiece(CORPUS, user_defined_symbols="<en>,(", control_symbols="[X]")


@pytest.fixture(scope="module")
def bpe():
    return sentencepiece(
        CORPUS, model_type="bpe", vocab_size=500, byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, add_dummy_prefix=False,
    )  # fmt: skip


def test_pieces_and_settings(unigram, bpe):
    for content in (unigram, bpe):
        model = parse(content)
        library = require("sentencepiece").SentencePieceProcessor(model_proto=content)
        assert len(model.pieces) == library.get_piece_size()
        assert model.unk_id == library.unk_id()
        for index, piece in enumerate(model.pieces):
            assert (piece.text, piece.score) == (library.id_to_piece(index), library.get_score(index))
            assert (piece.kind == Kind.CONTROL) is library.is_control(index)
            assert (piece.kind == Kind.BYTE) is library.is_byte(index)
    spaced, plain = parse(unigram), parse(bpe)
    assert (spaced.algorithm, spaced.byte_fallback, bool(spaced.charsmap)) == ("unigram", False, True)
    assert (plain.algorithm, plain.byte_fallback, bool(plain.charsmap)) == ("bpe", True, False)
    assert spaced.add_dummy_prefix and spaced.remove_extra_whitespaces
    assert not plain.add_dummy_prefix and not plain.remove_extra_whitespaces
    assert [token.content for token in spaced.added_tokens] == ["<s>", "</s>", "[X]", "<en>", "("]


def test_merges_join_the_best_piece_first(bpe):
    model = parse(bpe)
    merges = model.merges()
    scores = {piece.text: piece.score for piece in model.pieces}
    assert sorted(merges, key=lambda pair: -scores["".join(pair)]) == merges
    whole = {left + right for left, right in merges}
    assert whole == {
        piece.text for piece in model.pieces if piece.kind == Kind.NORMAL and len(piece.text) > 1
    }


def random_texts(count):
    """Texts of letters, marks, jamo and compatibility characters."""
    numbers = random.Random(0)
    ranges = [(32, 127), (32, 0x3000), (0x300, 0x370), (0x1100, 0x1200), (0x3040, 0x3100), (0xF900, 0xFFFE)]
    return ["".join(chr(numbers.randrange(*numbers.choice(ranges))) for _ in range(20)) for _ in range(count)]


def test_characters_are_replaced_as_the_library_does(unigram):
    charsmap = Charsmap(parse(unigram).charsmap)
    options = {"add_dummy_prefix": False, "remove_extra_whitespaces": False, "escape_whitespaces": False}
    library = require("sentencepiece").SentencePieceNormalizer(rule_name="nmt_nfkc", **options)
    for text in ["", "a", "e\u0301", "\uff21\u0301", "\u1112\u1161\u11ab \uff76\uff9e", *random_texts(300)]:
        new, spans = charsmap.normalize(text)
        assert new == library.normalize(text), ascii(text)
        assert len(spans) == len(new)
        assert all(0 <= start < end <= len(text) for start, end in spans)


def test_texts_are_split_as_the_library_does(unigram):
    model = parse(unigram)
    vocabulary = {piece.text: index for index, piece in enumerate(model.pieces) if piece.text != "[X]"}
    segmenter = Segmenter(model, vocabulary)
    library = require("sentencepiece").SentencePieceProcessor(model_proto=unigram)
    for text in [*CORPUS, "", "  a  <en>  b (c)", "</s> [X] <unk>", "x" * 300, *random_texts(100)]:
        assert segmenter.encode(text, add_special_tokens=False).ids == library.encode(text), ascii(text)


def test_other_models_are_refused():
    for model_type in ("word", "char"):
        with pytest.raises(KzooError, match="kinds unigram and bpe"):
            parse(sentencepiece(CORPUS, model_type=model_type, vocab_size=90))
    with pytest.raises(KzooError, match="treat_whitespace_as_suffix"):
        parse(sentencepiece(CORPUS, treat_whitespace_as_suffix=True))


def test_damaged_files_are_refused_or_read_never_worse(unigram):
    numbers = random.Random(0)
    refused = 0
    for _ in range(25):
        content = bytearray(unigram)
        # Half of the damage hits the pieces, which come first; the rest is mostly the table of characters.
        content[numbers.randrange(5000 if numbers.random() < 0.5 else len(content))] = numbers.randrange(256)
        try:
            model = parse(bytes(content))
        except KzooError:
            refused += 1
        else:
            if model.charsmap:
                Charsmap(model.charsmap).normalize("".join(CORPUS))
    assert refused
    for size in (1, 10, 1000, len(unigram) - 1):
        with pytest.raises(KzooError):
            parse(unigram[:size])
    for content in (b"", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0b", b"\x08\x01"):
        with pytest.raises(KzooError):
            parse(content)
