"""How each kind of tokenizer is put together from the parts of the `tokenizers` library."""

from __future__ import annotations

from collections.abc import Sequence

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

_CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def wordpiece(
    vocabulary: dict[str, int],
    *,
    lowercase: bool,
    strip_accents: bool | None = None,
    split_chinese: bool = True,
    unk: str = "[UNK]",
    cls: str = "[CLS]",
    sep: str = "[SEP]",
) -> tokenizers.Tokenizer:
    """Make BERT's tokenizer; accents go with the capitals unless `strip_accents` says otherwise."""
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=unk))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=strip_accents, handle_chinese_chars=split_chinese
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.BertProcessing((sep, vocabulary[sep]), (cls, vocabulary[cls]))
    return backend


def byte_level(
    vocabulary: dict[str, int], merges: Sequence[tuple[str, str]], *, add_prefix_space: bool = False
) -> tokenizers.Tokenizer:
    """Make GPT-2's tokenizer: BPE over bytes, written as printable characters."""
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = decoders.ByteLevel()
    return backend


def qwen(vocabulary: dict[str, int], merges: Sequence[tuple[str, str]]) -> tokenizers.Tokenizer:
    """Make Qwen2's tokenizer: BPE over bytes, with words of its own."""
    backend = byte_level(vocabulary, merges)
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return backend


def clip(vocabulary: dict[str, int], merges: Sequence[tuple[str, str]], *, unk: str) -> tokenizers.Tokenizer:
    """Make CLIP's tokenizer: lower-casing BPE over bytes that marks the ends of words."""
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token=unk, end_of_word_suffix="</w>"))
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.Sequence(
        [decoders.ByteLevel(), decoders.Replace("</w>", " "), decoders.Replace(Regex(r"^\s+|\s+$"), "")]
    )
    return backend


def unigram(
    vocabulary: Sequence[tuple[str, float]],
    unk_id: int,
    *,
    replace: Sequence[normalizers.Normalizer] = (),
    add_prefix_space: bool = True,
) -> tokenizers.Tokenizer:
    """Make T5's tokenizer: the most probable pieces of each word, which has its space in front."""
    backend = tokenizers.Tokenizer(models.Unigram(list(vocabulary), unk_id=unk_id))
    backend.normalizer = normalizers.Sequence(list(replace))
    scheme = "always" if add_prefix_space else "never"
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme=scheme)]
    )
    backend.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return backend


def llama(
    vocabulary: dict[str, int],
    merges: Sequence[tuple[str, str]],
    *,
    unk: str,
    byte_fallback: bool,
    prepend_scheme: str,
) -> tokenizers.Tokenizer:
    """Make Llama's tokenizer: BPE over characters; those that it does not know are written as bytes."""
    backend = tokenizers.Tokenizer(
        models.BPE(vocabulary, merges, unk_token=unk, fuse_unk=True, byte_fallback=byte_fallback)
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme, split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if prepend_scheme != "never":
        steps.append(decoders.Strip(" ", 1, 0))
    backend.decoder = decoders.Sequence(steps)
    return backend
