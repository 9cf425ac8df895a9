"""BPE-dropout: other tokens for the same text, as often as the paper says, and the same ones for a seed."""

from collections import Counter

import numpy as np
import pytest

from kzoo import KzooError
from kzoo.text import Tokenizer
from kzoo.text.subwords import SubwordDropout

TEXTS = [
    "low lower lowest newer wider",
    "the newest and the lowest, the wider the better",
    "ünd so weiter",
] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS, kind="bpe", vocab_size=310)


def draw(tokenizer, texts, rate, seed=0, max_length=64):
    return SubwordDropout(tokenizer, texts, rate=rate, max_length=max_length).draw(
        np.random.default_rng(seed)
    )


def test_without_dropout_it_is_the_tokenizer(tokenizer):
    texts = [*TEXTS, "", "unseen words: 1½ 🎈", "  two  blanks "]
    expected = tokenizer.encode(texts, max_length=64)
    sizes = expected.attention_mask.sum(axis=1)
    assert draw(tokenizer, texts, 0.0) == [
        row[:size].tolist() for row, size in zip(expected.input_ids, sizes, strict=True)
    ]


def test_texts_stay_what_they_were_in_ever_other_tokens(tokenizer):
    plain, other = draw(tokenizer, TEXTS, 0.0), draw(tokenizer, TEXTS, 0.3)
    assert tokenizer.decode_batch(other) == TEXTS
    assert sum(map(len, other)) > sum(map(len, plain))
    assert other == draw(tokenizer, TEXTS, 0.3)
    assert other != draw(tokenizer, TEXTS, 0.3, seed=1)
    assert all(row[-1] == tokenizer.end_id for row in other)


def test_merges_are_left_out_as_often_as_asked():
    tokenizer = Tokenizer.train(["ab", "ab", "abc"], kind="bpe", vocab_size=262)
    found = Counter(len(row) - 1 for row in draw(tokenizer, ["abc"] * 20_000, rate=0.2))
    # Without the first merge there is no second one.
    shares = {pieces: count / 20_000 for pieces, count in found.items()}
    assert shares == pytest.approx({1: 0.8 * 0.8, 2: 0.8 * 0.2, 3: 0.2}, abs=0.015)


def test_long_texts_are_cut_and_still_end(tokenizer):
    (row,) = draw(tokenizer, ["low lower lowest " * 10], 0.1, max_length=8)
    assert len(row) == 8
    assert row[-1] == tokenizer.end_id


def test_what_it_cannot_do_is_refused(tokenizer):
    with pytest.raises(KzooError, match="at least 0 and below 1"):
        draw(tokenizer, TEXTS, 1.0)
    with pytest.raises(KzooError, match="tokenizers of BPE"):
        draw(Tokenizer.train(TEXTS, vocab_size=90), TEXTS, 0.1)
