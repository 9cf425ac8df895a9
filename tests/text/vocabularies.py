# ruff: noqa: RUF001 (letters that look like others are what is tested)
"""Small vocabularies in the files of each family's published checkpoints."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from tests.optional import require

CORPUS = [
    "The dog runs in the park. A cat sleeps on the sofa, and two birds sing in the old tree.",
    "Shares fell sharply on Monday, 1,234.5 points down; it's don't we're I'll \"quoted\" (really)!",
    "Ein Kätzchen läuft über die Straße. Größe, größer, am größten. Être ou ne pas être, naïve café.",
    "日本語のテキストです。これはペンです。 我爱北京天安门，天安门上太阳升。 emoji 🎉 🙂 text",
    "Привет мир, как дела? Γειά σου Κόσμε. שלום עולם. مرحبا بالعالم. x = a + b; def f(x): return x * 2",
]

_FAIRSEQ = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_BYTE_LEVEL = {
    "gpt2": ["<|endoftext|>"],
    "qwen2": ["<|endoftext|>", "<|im_start|>"],
    "roberta": _FAIRSEQ,
    "bart": _FAIRSEQ,
    "clip": ["<|startoftext|>", "<|endoftext|>"],
}
_SENTENCEPIECE: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": ("spiece.model", {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}),
    "albert": (
        "spiece.model",
        {
            "pad_id": 0,
            "unk_id": 1,
            "bos_id": -1,
            "eos_id": -1,
            "control_symbols": "[CLS],[SEP],[MASK]",
            "user_defined_symbols": "(,),-",
        },
    ),
    "xlm-roberta": ("sentencepiece.bpe.model", {}),
    "llama": (
        "tokenizer.model",
        {
            "vocab_size": 600,
            "model_type": "bpe",
            "byte_fallback": True,
            "split_digits": True,
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
        },
    ),
}
FAMILIES = ("bert", "distilbert", "electra", *_BYTE_LEVEL, *_SENTENCEPIECE, "marian")


def write(folder: Path, family: str) -> Path:
    """Write a family's files, as its first checkpoints had them: without a tokenizer.json."""
    write_json(folder / "config.json", {"model_type": family})
    if family in _BYTE_LEVEL:
        _write_byte_level(folder, _BYTE_LEVEL[family], ends_words=family == "clip")
    elif family in _SENTENCEPIECE:
        name, options = _SENTENCEPIECE[family]
        (folder / name).write_bytes(sentencepiece(CORPUS, **options))
    elif family == "marian":
        _write_marian(folder)
    else:
        _write_wordpiece(folder)
    return folder


def write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")


def sentencepiece(texts: list[str], **options: Any) -> bytes:
    """Train a .model file with the library that reads it."""
    file = io.BytesIO()
    require("sentencepiece").SentencePieceTrainer.train(
        sentence_iterator=iter(texts * 4),
        model_writer=file,
        hard_vocab_limit=False,
        minloglevel=2,
        **{"vocab_size": 300, "character_coverage": 0.98, **options},
    )
    return file.getvalue()


def _write_byte_level(folder: Path, special: list[str], ends_words: bool) -> None:
    suffix = {"end_of_word_suffix": "</w>"} if ends_words else {}
    backend = tokenizers.Tokenizer(models.BPE(**suffix))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    ends = [letter + "</w>" for letter in letters] if ends_words else []
    texts = [text.lower() for text in CORPUS] if ends_words else CORPUS
    trainer = trainers.BpeTrainer(
        vocab_size=450 + len(ends),
        special_tokens=[*special, *ends],
        initial_alphabet=letters,
        show_progress=False,
        **suffix,
    )
    backend.train_from_iterator(texts * 4, trainer)
    backend.model.save(str(folder))


def _write_wordpiece(folder: Path) -> None:
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=500, special_tokens=special, show_progress=False)
    backend.train_from_iterator([*CORPUS, *map(str.lower, CORPUS)] * 3, trainer)
    vocabulary = backend.get_vocab()
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    # Without it the original library lower-cases, and kzoo looks at the vocabulary, which has capital letters.
    write_json(folder / "tokenizer_config.json", {"do_lower_case": True})


def _write_marian(folder: Path) -> None:
    source, target = sentencepiece(CORPUS), sentencepiece([CORPUS[2], CORPUS[4]])
    (folder / "source.spm").write_bytes(source)
    (folder / "target.spm").write_bytes(target)
    processor = require("sentencepiece").SentencePieceProcessor
    pieces = set()
    for model, texts in ((source, CORPUS), (target, CORPUS[2:3])):
        for text in texts:
            pieces.update(processor(model_proto=model).encode(text, out_type=str))
    # As in published checkpoints, each model has pieces that the vocabulary lacks.
    kept = [piece for index, piece in enumerate(sorted(pieces)) if index % 9]
    vocabulary = ["</s>", "<unk>", ">>fr<<", *kept, "<pad>"]
    write_json(folder / "vocab.json", {piece: index for index, piece in enumerate(vocabulary)})
    write_json(
        folder / "config.json", {"model_type": "marian", "decoder_start_token_id": len(vocabulary) - 1}
    )
