import pickle
import threading
import time

import numpy as np
import pytest
import tokenizers

from kzoo.errors import KzooError
from kzoo.text import Tokenizer

TEXTS = ["The dog runs in the park.", "A cat sleeps on the sofa.", "Two birds sing in the old tree."]

AWKWARD = [
    "",
    "  two  spaces \n\t and a tab ",
    "Ein Kätzchen läuft über die Straße.",
    "e\u0301 and \u00e9 stay different",
    "emoji 🎉 👨\u200d👩\u200d👧 🇨🇿",
    "שלום 你好 नमस्ते ﷽",
    "zero \x00 and \u202e reversed",
    "</s> <pad> <s> are only text",
]


@pytest.fixture(scope="module")
def wordpiece():
    return Tokenizer.train(TEXTS, kind="wordpiece", vocab_size=200)


@pytest.fixture(scope="module")
def bpe():
    return Tokenizer.train(TEXTS, kind="bpe", vocab_size=300)


@pytest.fixture(scope="module")
def unigram():
    return Tokenizer.train((text for text in TEXTS), kind="unigram", vocab_size=300)


@pytest.mark.parametrize("text", AWKWARD)
def test_bpe_gives_any_text_back(bpe, text):
    encoding = bpe.encode([text], max_length=200)
    assert bpe.decode(encoding.input_ids[0]) == text


def test_special_ids(wordpiece, bpe):
    assert (wordpiece.pad_id, wordpiece.start_id, wordpiece.end_id) == (0, 2, 3)
    assert wordpiece.token_id("[MASK]") == 4
    assert (bpe.pad_id, bpe.start_id, bpe.end_id) == (0, 1, 2)
    assert bpe.token_id("no such token") is None


def test_wordpiece_lower_cases_and_wraps(wordpiece):
    encoding = wordpiece.encode(["THE Dóg", "the dog"], max_length=10)
    assert (encoding.input_ids[0] == encoding.input_ids[1]).all()
    assert encoding.input_ids[0, 0] == wordpiece.start_id
    assert encoding.input_ids[0, -1] == wordpiece.end_id
    assert wordpiece.decode(encoding.input_ids[0]) == "the dog"


def test_mask_token_in_a_text_is_read_as_mask(wordpiece):
    ids = wordpiece.encode(["the [MASK] runs"], max_length=10).input_ids[0]
    assert wordpiece.token_id("[MASK]") in ids


def test_pairs_have_token_types(wordpiece):
    encoding = wordpiece.encode([("the dog", "a cat"), ("the dog", "")], max_length=20)
    first, second = encoding.input_ids[0], encoding.token_type_ids[0]
    assert (first == wordpiece.end_id).sum() == 2
    assert second[0] == 0 and second[-1] == 1
    assert encoding.token_type_ids[1][encoding.attention_mask[1] == 0].sum() == 0


def test_padding_is_on_the_right_and_masked(bpe):
    encoding = bpe.encode(["a", TEXTS[0]], max_length=100)
    size = encoding.attention_mask[0].sum()
    assert encoding.attention_mask[0].tolist() == [1] * size + [0] * (encoding.input_ids.shape[1] - size)
    assert (encoding.input_ids[0, size:] == bpe.pad_id).all()
    assert encoding.input_ids.dtype == np.int32


@pytest.mark.parametrize(("multiple", "length"), [(1, 2), (8, 8), (64, 20)])
def test_length_is_rounded_up_but_not_above_max_length(bpe, multiple, length):
    encoding = bpe.encode(["a"], max_length=20, pad_to_multiple_of=multiple)
    assert encoding.input_ids.shape == (1, length)


def test_truncation_keeps_special_tokens(wordpiece):
    encoding = wordpiece.encode([TEXTS[0], "the dog"], max_length=5)
    assert encoding.truncated.tolist() == [True, False]
    assert encoding.input_ids.shape[1] == 5
    assert encoding.input_ids[0, 0] == wordpiece.start_id
    assert encoding.input_ids[0, -1] == wordpiece.end_id


def test_truncation_can_keep_the_last_tokens(bpe):
    whole = bpe.encode([TEXTS[0]], max_length=100).input_ids[0]
    encoding = bpe.encode([TEXTS[0]], max_length=4, keep="last")
    assert encoding.input_ids[0].tolist() == whole[-4:].tolist()


@pytest.mark.parametrize(
    ("pair", "kept"),
    [(("aaaaaaaa", "bb"), (5, 2)), (("aa", "bbbbbbbb"), (2, 5)), (("aaaaaa", "bbbbbb"), (4, 3))],
)
def test_pairs_lose_tokens_from_the_longer_text(pair, kept):
    tokenizer = Tokenizer.train(["xyz"], kind="bpe", vocab_size=261)  # no merges of a or b: a token a letter
    ids = tokenizer.encode([pair], max_length=9).input_ids[0]
    assert len(ids) == 9
    assert tokenizer.decode(ids) == "a" * kept[0] + "b" * kept[1]


def test_max_length_without_room_for_text(wordpiece):
    with pytest.raises(KzooError, match="max_length is 2: too short"):
        wordpiece.encode([TEXTS[0]], max_length=2)


def test_no_special_tokens(bpe):
    assert bpe.encode([""], max_length=4, special_tokens=False).input_ids.tolist() == [[bpe.pad_id]]
    assert bpe.end_id not in bpe.encode(["a dog"], max_length=9, special_tokens=False).input_ids


@pytest.mark.parametrize(
    "bad", [[], "one string", ["ok", 3], ["ok", None], [("a", "b", "c")], ["ok", "\ud800"]]
)
def test_bad_texts_are_refused(bpe, bad):
    with pytest.raises(KzooError):
        bpe.encode(bad, max_length=9)


def test_bad_text_is_named_by_index(bpe):
    with pytest.raises(KzooError, match="Text 1 is of type int"):
        bpe.encode(["ok", 3], max_length=9)


def test_decode_refuses_ignored_labels(bpe):
    with pytest.raises(KzooError, match="label to ignore"):
        bpe.decode([5, -100])


def test_saved_file_gives_the_same_tokenizer(wordpiece, tmp_path):
    file = tmp_path / "deep" / "tokenizer.json"
    wordpiece.save(file)
    assert [entry.name for entry in file.parent.iterdir()] == ["tokenizer.json"]
    for path in (file, file.parent):
        again = Tokenizer.from_file(path)
        ids = [t.encode(TEXTS, max_length=20).input_ids for t in (again, wordpiece)]
        assert (ids[0] == ids[1]).all()


def test_pickle_keeps_special_tokens_plain_text(bpe):
    again = pickle.loads(pickle.dumps(bpe))
    assert again.decode(again.encode(["</s>"], max_length=20).input_ids[0]) == "</s>"


def test_settings_saved_in_a_file_do_not_apply(bpe):
    backend = tokenizers.Tokenizer.from_str(bpe.to_json())
    backend.enable_truncation(2)
    backend.enable_padding(length=50, pad_id=3, pad_token="<unk>")
    again = Tokenizer.from_json(backend.to_str())
    ids = again.encode([TEXTS[0], "a"], max_length=40).input_ids
    assert (ids.shape == bpe.encode([TEXTS[0], "a"], max_length=40).input_ids.shape) and again.pad_id == 3


@pytest.mark.parametrize(("words", "same"), [(["dog", "##s"], True), (["Dog", "dog", "##s"], False)])
def test_vocabulary_file(tmp_path, words, same):
    special = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (tmp_path / "vocab.txt").write_text("\n".join([*special, *words]) + "\n", encoding="utf-8")
    tokenizer = Tokenizer.from_file(tmp_path)
    lower, upper = tokenizer.encode(["dogs", "Dogs"], max_length=9).input_ids
    assert lower.tolist() == [3, tokenizer.token_id("dog"), tokenizer.token_id("##s"), 4]
    assert (lower.tolist() == upper.tolist()) is same
    assert tokenizer.vocab_size == len(special) + len(words)


def test_files_that_are_no_tokenizer(tmp_path, bpe):
    with pytest.raises(KzooError, match="no tokenizer file"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")
    with pytest.raises(KzooError, match="has no tokenizer"):
        Tokenizer.from_file(tmp_path)
    cut = tmp_path / "tokenizer.json"
    cut.write_text(bpe.to_json()[:500], encoding="utf-8")
    with pytest.raises(KzooError, match=r"tokenizer\.json: .*cut short"):
        Tokenizer.from_file(cut)
    cut.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(KzooError, match="cannot be read"):
        Tokenizer.from_file(cut)
    words = tmp_path / "vocab.txt"
    words.write_text("dog\ncat\n", encoding="utf-8")
    with pytest.raises(KzooError, match=r"lacks \[CLS\]"):
        Tokenizer.from_file(words)


def test_training_mistakes():
    with pytest.raises(KzooError, match="Did you mean 'wordpiece'"):
        Tokenizer.train(TEXTS, kind="wordpeice", vocab_size=300)
    with pytest.raises(KzooError, match="at least 260"):
        Tokenizer.train(TEXTS, kind="bpe", vocab_size=259)
    with pytest.raises(KzooError, match="no text"):
        Tokenizer.train(["", "  "], kind="bpe", vocab_size=300)
    with pytest.raises(KzooError, match="Text 1"):
        Tokenizer.train(["a", b"b"], vocab_size=300)
    with pytest.raises(KzooError, match="one string"):
        Tokenizer.train("the dog", vocab_size=300)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_vocabulary_is_never_larger_than_asked(kind):
    letters = ["".join(map(chr, range(0x4E00, 0x5200)))]
    tokenizer = Tokenizer.train(letters, kind=kind, vocab_size=290, special_tokens=["<en>"])
    assert tokenizer.vocab_size <= 290
    assert tokenizer.token_id("<en>") == (5 if kind == "wordpiece" else 4)


def test_many_threads_at_different_lengths(bpe):
    expected = {n: bpe.encode(TEXTS, max_length=n).input_ids.tolist() for n in range(3, 9)}
    wrong = []

    def work(length):
        for _ in range(50):
            if bpe.encode(TEXTS, max_length=length).input_ids.tolist() != expected[length]:
                wrong.append(length)

    threads = [threading.Thread(target=work, args=(length,)) for length in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_training_is_repeatable(kind):
    def train():
        return Tokenizer.train(TEXTS, kind=kind, vocab_size=300).to_json()

    assert len({train() for _ in range(5)}) == 1


def test_wordpiece_learns_common_words_whole():
    tokenizer = Tokenizer.train([*TEXTS * 5, "Größe, größer! 你好"], vocab_size=300)
    ids = tokenizer.encode(["the dog runs, 你"], max_length=20, special_tokens=False).input_ids[0]
    assert [tokenizer.decode([token]) for token in ids] == ["the", "dog", "runs", ",", "你"]
    assert tokenizer.token_id("##.") is None and tokenizer.token_id("##你") is None


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
@pytest.mark.parametrize("max_length", [60, 9])
def test_offsets_point_at_each_tokens_characters(kind, max_length, request):
    tokenizer = request.getfixturevalue(kind)
    pair = ("the  dog runs", "a cat")
    encoding = tokenizer.encode([pair, "the dog"], max_length=max_length, offsets=True)
    for row, texts in enumerate([pair, ("the dog",)]):
        for token, (start, end), text, word in zip(
            encoding.input_ids[row],
            encoding.offsets[row],
            encoding.sequence_ids[row],
            encoding.word_ids[row],
            strict=True,
        ):
            if text == -1:
                assert (start, end, word) == (0, 0, -1)
                assert token in (tokenizer.pad_id, tokenizer.start_id, tokenizer.end_id)
            else:
                piece = tokenizer.decode([token]).removeprefix("##")
                assert texts[text][start:end].strip() == piece.strip() or not piece
                assert word == len(texts[text][:end].split()) - 1 or kind == "bpe"
        assert encoding.sequence_ids[row].max() == len(texts) - 1
    assert tokenizer.encode(["a"], max_length=9).offsets is None


def test_offsets_count_characters_not_bytes(wordpiece):
    encoding = wordpiece.encode(["🎉 öö dog"], max_length=20, offsets=True)
    start, end = encoding.offsets[0][encoding.sequence_ids[0] == 0][-1]
    assert "🎉 öö dog"[start:end] == "dog"
    assert encoding.word_ids[0].max() == 2


def test_unigram_writes_runs_of_spaces_as_one_and_reads_special_tokens_as_text(unigram):
    assert (unigram.pad_id, unigram.start_id, unigram.end_id) == (0, 1, 2)
    ids = unigram.encode(["  The  dog\truns "], max_length=50).input_ids[0]
    assert ids[-1] == unigram.end_id
    assert unigram.decode(ids) == "The dog runs"
    written = unigram.encode(["the </s> <pad> dog"], max_length=50).input_ids[0]
    assert (written == unigram.end_id).sum() == 1 and unigram.pad_id not in written


def test_a_long_pair_is_cut_in_good_time(bpe):
    start = time.perf_counter()
    encoding = bpe.encode([("a dog " * 20_000, "two birds " * 20_000)], max_length=8)
    assert encoding.input_ids.shape == (1, 8)
    assert time.perf_counter() - start < 5  # pieces of both, paired each with each, would be 10**8


def test_characters_are_tokens_and_rare_ones_unknown():
    tokenizer = Tokenizer.train(["aab\n", "ab  c"], kind="characters", vocab_size=8, marks="none")
    assert set(tokenizer.vocabulary) == {"<pad>", "<s>", "</s>", "<unk>", "\n", " ", "a", "b"}
    text = " ab\n\nba "
    encoding = tokenizer.encode([text], max_length=50, offsets=True)
    assert encoding.input_ids.shape == (1, len(text))
    assert tokenizer.decode(encoding.input_ids[0]) == text
    assert encoding.offsets[0].tolist() == [[place, place + 1] for place in range(len(text))]
    assert tokenizer.encode(["c"], max_length=5).input_ids.tolist() == [[tokenizer.token_id("<unk>")]]
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.decode(again.encode([text], max_length=50).input_ids[0]) == text


@pytest.mark.parametrize("kind", ["bpe", "unigram", "characters"])
def test_texts_are_marked_where_they_are_asked_to_be(kind):
    for marks, around in (("end", ([], [2])), ("both", ([1], [2])), ("none", ([], []))):
        tokenizer = Tokenizer.train(TEXTS, kind=kind, vocab_size=300, marks=marks)
        bare = tokenizer.encode(["The dog"], max_length=20, special_tokens=False).input_ids[0].tolist()
        assert (
            tokenizer.encode(["The dog"], max_length=20).input_ids[0].tolist() == around[0] + bare + around[1]
        )
