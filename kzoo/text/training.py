"""Vocabularies learned from texts."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from kzoo.errors import KzooError, did_you_mean
from kzoo.text.pipelines import byte_level, unigram, wordpiece
from kzoo.text.strings import check_text

# Their place in the tuple is their id in a trained vocabulary.
_SPECIAL = {
    "wordpiece": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "bpe": ("<pad>", "<s>", "</s>", "<unk>"),
    "unigram": ("<pad>", "<s>", "</s>", "<unk>"),
    "characters": ("<pad>", "<s>", "</s>", "<unk>"),
}
# A letter takes two wordpiece entries, at the start of a word and inside one; bytes have all 256.
_SMALLEST = {"wordpiece": 2, "bpe": 256, "unigram": 2, "characters": 1}
# What stands around a text, by where it is marked; wordpiece has its own.
_TEMPLATES = {"end": ("$A </s>", "$A </s> $B:1 </s>:1"), "both": ("<s> $A </s>", "<s> $A </s> $B:1 </s>:1")}


def train(
    texts: Iterable[str], *, kind: str, vocab_size: int, special_tokens: Sequence[str], marks: str = "end"
) -> tokenizers.Tokenizer:
    """Learn a vocabulary from texts; see `Tokenizer.train`."""
    if kind not in _SPECIAL:
        raise KzooError(f"Unknown kind of tokenizer '{kind}'.{did_you_mean(kind, _SPECIAL)}")
    special = [*_SPECIAL[kind], *special_tokens]
    smallest = len(special) + _SMALLEST[kind]
    if vocab_size < smallest:
        raise KzooError(f"vocab_size is {vocab_size}; a {kind} vocabulary needs at least {smallest}.")
    learn = {
        "wordpiece": _train_wordpiece,
        "bpe": _train_bpe,
        "unigram": _train_unigram,
        "characters": _train_characters,
    }[kind]
    trained = learn(_checked(texts), vocab_size, special)
    if kind != "wordpiece" and marks in _TEMPLATES:
        trained.post_processor = _marking(special, *_TEMPLATES[marks])
    return trained


def _checked(texts: Iterable[str]) -> Iterator[str]:
    """Pass texts on to the trainer, and refuse what would give a vocabulary of nothing."""
    if isinstance(texts, str):
        raise KzooError("train takes many texts; got one string. Put it into a list.")
    empty = True
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise KzooError(
                f"Text {index} is of type {type(text).__name__}; a tokenizer is trained on strings."
            )
        check_text(text, index)
        empty = empty and not text.strip()
        yield text
    if empty:
        raise KzooError("There is no text to train a tokenizer on.")


def _train_wordpiece(texts: Iterable[str], vocab_size: int, special: list[str]) -> tokenizers.Tokenizer:
    texts = list(texts)
    backend = wordpiece({token: index for index, token in enumerate(special)}, lowercase=True)
    alphabet, inside = _alphabet(backend, texts, (vocab_size - len(special)) // 2)
    # The trainer gives letters inside words their ids in the order of a randomly seeded hash table, and
    # breaks ties between merges by id. Fixing these ids first, as special tokens, makes it repeatable.
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*special, *(f"##{letter}" for letter in inside)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    trained = wordpiece(backend.get_vocab(), lowercase=True)
    trained.add_special_tokens(special)
    return trained


def _alphabet(backend: tokenizers.Tokenizer, texts: list[str], limit: int) -> tuple[list[str], list[str]]:
    """Return the most frequent letters, and those of them that occur inside words, each in order."""
    raw: Counter[str] = Counter()
    for text in texts:
        raw.update(text)
    counts: Counter[str] = Counter()
    inside = set()
    for letter, count in raw.items():
        # Behind another letter, punctuation and ideographs make a word of their own and others stay in it.
        words = backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str("a" + letter))
        joined = words[0][0][1:]
        inside.update(joined)
        for part in (joined, *(word for word, _ in words[1:])):
            counts.update(dict.fromkeys(part, count))
    kept = sorted(sorted(counts), key=counts.__getitem__, reverse=True)[:limit]
    return sorted(kept), sorted(inside.intersection(kept))


def _train_bpe(texts: Iterable[str], vocab_size: int, special: list[str]) -> tokenizers.Tokenizer:
    backend = byte_level({}, [])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def _train_unigram(texts: Iterable[str], vocab_size: int, special: list[str]) -> tokenizers.Tokenizer:
    unk_id = special.index("<unk>")
    backend = unigram([(token, 0.0) for token in special], unk_id, replace=[normalizers.NFKC()])
    # A special token that is written in a text is plain text: cut behind its first letter, it matches no entry.
    written = "|".join(f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in special)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(),
            pre_tokenizers.Split(tokenizers.Regex(written), "isolated"),
        ]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    # The trainer keeps every letter, and fails where they are more than it may keep.
    texts = [backend.normalizer.normalize_str(text) for text in texts]
    counts = Counter(letter for text in texts for letter in text)
    rare = sorted(sorted(counts), key=counts.__getitem__, reverse=True)[(vocab_size - len(special)) // 2 :]
    if rare:
        spaces = dict.fromkeys(map(ord, rare), " ")
        texts = [text.translate(spaces) for text in texts]
    backend.train_from_iterator(texts, trainer)
    _settle(backend, special)
    return backend


def _settle(backend: tokenizers.Tokenizer, special: list[str]) -> None:
    """Put a trained unigram vocabulary in order.

    The trainer gives letters that are only kept as letters the lowest score and a little more for each one, in
    the order of a randomly seeded hash table: without that little, the same texts give the same vocabulary.
    """
    entries = json.loads(backend.to_str())["model"]["vocab"][len(special) :]
    lowest = min(score for _, score in entries)
    letters = {text for text, score in entries if len(text) == 1 and score <= lowest + 1e-4 * len(entries)}
    settled = [(text, round(lowest if text in letters else score, 5)) for text, score in entries]
    vocabulary = [(token, 0.0) for token in special] + sorted(
        settled, key=lambda entry: (-entry[1], entry[0])
    )
    backend.model = models.Unigram(vocabulary, unk_id=special.index("<unk>"))


def _train_characters(texts: Iterable[str], vocab_size: int, special: list[str]) -> tokenizers.Tokenizer:
    counts = Counter(character for text in texts for character in text)
    most = sorted(sorted(counts), key=counts.__getitem__, reverse=True)[: vocab_size - len(special)]
    entries = {token: index for index, token in enumerate([*special, *sorted(most)])}
    backend = tokenizers.Tokenizer(models.WordLevel(entries, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens(special)
    return backend


def _marking(special: list[str], single: str, pair: str) -> processors.TemplateProcessing:
    """Put special tokens around each text, and pair."""
    marks = [(token, special.index(token)) for token in ("<s>", "</s>")]
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=marks)
