"""What the families of published tokenizers make of their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import tokenizers
from tokenizers import normalizers, processors

from kzoo.errors import KzooError
from kzoo.text.checkpoint import Checkpoint
from kzoo.text.marian import shared_backend
from kzoo.text.pipelines import byte_level, clip, llama, qwen, unigram, wordpiece


@dataclass(frozen=True)
class Family:
    """What checkpoints of one kind have in common.

    Attributes:
        files: those it needs.
        tokens: the token of each role, where a checkpoint's own files do not name another.
        build: makes the tokenizer, given the tokens of the roles.
    """

    files: tuple[str, ...]
    tokens: Mapping[str, str]
    build: Callable[[Checkpoint, Mapping[str, str]], tokenizers.Tokenizer]


def _bert(checkpoint: Checkpoint, tokens: Mapping[str, str]) -> tokenizers.Tokenizer:
    lines = checkpoint.text("vocab.txt").removesuffix("\n").split("\n")
    vocabulary = {line.removesuffix("\r"): index for index, line in enumerate(lines)}
    missing = {tokens[role] for role in ("pad", "unk", "cls", "sep")} - vocabulary.keys()
    if missing:
        raise checkpoint.error("vocab.txt", f"is no BERT vocabulary: it lacks {', '.join(sorted(missing))}")
    words = [token for token in vocabulary if not token.startswith("[")]
    return wordpiece(
        vocabulary,
        lowercase=checkpoint.flag("do_lower_case", all(word == word.lower() for word in words)),
        strip_accents=checkpoint.settings.get("strip_accents"),
        split_chinese=checkpoint.flag("tokenize_chinese_chars", True),
        **{role: tokens[role] for role in ("unk", "cls", "sep")},
    )


def _gpt2(checkpoint: Checkpoint, tokens: Mapping[str, str]) -> tokenizers.Tokenizer:
    backend = byte_level(
        checkpoint.vocabulary(),
        checkpoint.merges(),
        add_prefix_space=checkpoint.flag("add_prefix_space", False),
    )
    backend.post_processor = _ends(checkpoint, backend, tokens)
    return backend


def _roberta(checkpoint: Checkpoint, tokens: Mapping[str, str]) -> tokenizers.Tokenizer:
    spaced = checkpoint.flag("add_prefix_space", False)
    backend = byte_level(checkpoint.vocabulary(), checkpoint.merges(), add_prefix_space=spaced)
    backend.post_processor = processors.RobertaProcessing(
        checkpoint.entry(backend, tokens["sep"]),
        checkpoint.entry(backend, tokens["cls"]),
        trim_offsets=checkpoint.flag("trim_offsets", True),
        add_prefix_space=spaced,
    )
    return backend


def _qwen2(checkpoint: Checkpoint, tokens: Mapping[str, str]) -> tokenizers.Tokenizer:
    backend = qwen(checkpoint.vocabulary(), checkpoint.merges())
    backend.post_processor = _ends(checkpoint, backend, tokens)
    return backend


def _clip(checkpoint: Checkpoint, tokens: Mapping[str, str]) -> tokenizers.Tokenizer:
    backend = clip(checkpoint.vocabulary(), checkpoint.merges(), unk=tokens["unk"])
    backend.post_processor = processors.RobertaProcessing(
        checkpoint.entry(backend, tokens["eos"]),
        checkpoint.entry(backend, tokens["bos"]),
        trim_offsets=False,
        add_prefix_space=False,
    )
    return backend


def _t5(checkpoint: Checkpoint, tokens: Mapping[str, str]) -> tokenizers.Tokenizer:
    model = checkpoint.sentencepiece("spiece.model")
    count = checkpoint.settings.get("extra_ids", 100)
    if type(count) is not int or not 0 <= count <= 10_000:
        raise checkpoint.error("tokenizer_config.json", f"has extra_ids={count!r}; it takes a number")
    sentinels = [f"<extra_id_{index}>" for index in reversed(range(count))]
    backend = unigram(
        [*model.vocabulary, *((token, 0.0) for token in sentinels)], model.unk_id, replace=model.replacing()
    )
    backend.add_tokens(model.added_tokens)
    backend.add_special_tokens(sentinels)
    end = checkpoint.entry(backend, tokens["eos"])
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {end[0]}", pair=f"$A {end[0]} $B {end[0]}", special_tokens=[end]
    )
    return backend


def _albert(checkpoint: Checkpoint, tokens: Mapping[str, str]) -> tokenizers.Tokenizer:
    model = checkpoint.sentencepiece("spiece.model")
    steps: list[normalizers.Normalizer] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not checkpoint.flag("keep_accents", False):
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if checkpoint.flag("do_lower_case", True):
        steps.append(normalizers.Lowercase())
    spaced = checkpoint.flag("add_prefix_space", True)
    backend = unigram(
        model.vocabulary, model.unk_id, replace=[*steps, *model.replacing()], add_prefix_space=spaced
    )
    backend.add_tokens(model.added_tokens)
    start, end = (checkpoint.entry(backend, tokens[role]) for role in ("cls", "sep"))
    backend.post_processor = processors.TemplateProcessing(
        single=f"{start[0]} $A {end[0]}",
        pair=f"{start[0]} $A {end[0]} $B:1 {end[0]}:1",
        special_tokens=[start, end],
    )
    return backend


def _xlm_roberta(checkpoint: Checkpoint, tokens: Mapping[str, str]) -> tokenizers.Tokenizer:
    model = checkpoint.sentencepiece("sentencepiece.bpe.model")
    first = [(tokens[role], 0.0) for role in ("bos", "pad", "eos", "unk")]
    backend = unigram(
        [*first, *model.vocabulary[3:], (tokens["mask"], 0.0)],
        unk_id=3,
        replace=model.replacing(),
        add_prefix_space=checkpoint.flag("add_prefix_space", True),
    )
    backend.add_tokens(model.added_tokens)
    start, end = (checkpoint.entry(backend, tokens[role]) for role in ("bos", "eos"))
    backend.post_processor = processors.TemplateProcessing(
        single=f"{start[0]} $A {end[0]}",
        pair=f"{start[0]} $A {end[0]} {end[0]} $B {end[0]}",
        special_tokens=[start, end],
    )
    return backend


def _llama(checkpoint: Checkpoint, tokens: Mapping[str, str]) -> tokenizers.Tokenizer:
    model = checkpoint.sentencepiece("tokenizer.model")
    if model.algorithm != "bpe":
        raise checkpoint.error(
            "tokenizer.model", f"is of the kind {model.algorithm}; Llama's is of the kind bpe"
        )
    scheme = "always" if checkpoint.flag("legacy", False) else "first"
    backend = llama(
        {piece.text: index for index, piece in enumerate(model.pieces)},
        model.merges(),
        unk=model.pieces[model.unk_id].text,
        byte_fallback=model.byte_fallback,
        prepend_scheme=scheme if checkpoint.flag("add_prefix_space", True) else "never",
    )
    backend.add_tokens(model.added_tokens)
    backend.post_processor = _ends(checkpoint, backend, tokens)
    return backend


def _marian(checkpoint: Checkpoint, tokens: Mapping[str, str]) -> tokenizers.Tokenizer:
    if checkpoint.flag("separate_vocabs", False):
        raise checkpoint.error("tokenizer_config.json", "has separate_vocabs, which kzoo does not do")
    return shared_backend(checkpoint.sentencepiece("source.spm"), checkpoint.vocabulary())


def _ends(
    checkpoint: Checkpoint, backend: tokenizers.Tokenizer, tokens: Mapping[str, str]
) -> processors.TemplateProcessing:
    """Put the start and end token around each text, where tokenizer_config.json asks for them."""
    roles = [
        role for role in ("bos", "eos") if role in tokens and checkpoint.flag(f"add_{role}_token", False)
    ]

    def around(text: str, type_id: int) -> list[str]:
        before = [f"{tokens['bos']}:{type_id}"] if "bos" in roles else []
        after = [f"{tokens['eos']}:{type_id}"] if "eos" in roles else []
        return [*before, f"${text}:{type_id}", *after]

    return processors.TemplateProcessing(
        single=around("A", 0),
        pair=around("A", 0) + around("B", 1),
        special_tokens=[checkpoint.entry(backend, tokens[role]) for role in roles],
    )


_WORDPIECE = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_FAIRSEQ = {
    "pad": "<pad>", "unk": "<unk>", "bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>", "mask": "<mask>",
}  # fmt: skip
FAMILIES = {
    "bert": Family(("vocab.txt",), _WORDPIECE, _bert),
    "gpt2": Family(
        ("vocab.json", "merges.txt"), dict.fromkeys(("unk", "bos", "eos"), "<|endoftext|>"), _gpt2
    ),
    "roberta": Family(("vocab.json", "merges.txt"), _FAIRSEQ, _roberta),
    "qwen2": Family(
        ("vocab.json", "merges.txt"), dict.fromkeys(("unk", "eos", "pad"), "<|endoftext|>"), _qwen2
    ),
    "clip": Family(
        ("vocab.json", "merges.txt"),
        {"bos": "<|startoftext|>"} | dict.fromkeys(("unk", "eos", "pad"), "<|endoftext|>"),
        _clip,
    ),
    "t5": Family(("spiece.model",), {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}, _t5),
    "albert": Family(
        ("spiece.model",),
        _WORDPIECE | {"pad": "<pad>", "unk": "<unk>", "bos": "[CLS]", "eos": "[SEP]"},
        _albert,
    ),
    "xlm-roberta": Family(("sentencepiece.bpe.model",), _FAIRSEQ, _xlm_roberta),
    "llama": Family(("tokenizer.model",), {"unk": "<unk>", "bos": "<s>", "eos": "</s>"}, _llama),
    "marian": Family(
        ("source.spm", "target.spm", "vocab.json"),
        {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"},
        _marian,
    ),
}
# Models that share another's tokenizer; the names of tokenizer classes, in small letters, stand here too.
_SAME = {"distilbert": "bert", "electra": "bert", "bart": "roberta", "xlmroberta": "xlm-roberta"}


def named_family(checkpoint: Checkpoint) -> str | None:
    """Return the family that the checkpoint's files name, or None if they name none that is known."""
    name = (
        str(checkpoint.settings.get("tokenizer_class") or "").removesuffix("Fast").removesuffix("Tokenizer")
    )
    for known in (name.lower(), str(checkpoint.config.get("model_type"))):
        known = _SAME.get(known, known)
        if known in FAMILIES:
            return known
    return None


def likely_family(checkpoint: Checkpoint) -> str:
    """Return the family that has such files; for checkpoints that do not name theirs."""
    files = checkpoint.files
    if "spiece.model" in files:
        model = checkpoint.sentencepiece("spiece.model")
        return "albert" if any(piece.text == "[CLS]" for piece in model.pieces) else "t5"
    if "vocab.json" in files and "merges.txt" in files:
        vocabulary = checkpoint.vocabulary()
        if "<|startoftext|>" in vocabulary:
            return "clip"
        return "roberta" if "<s>" in vocabulary else "gpt2"
    for name in ("bert", "xlm-roberta", "llama", "marian"):
        if all(file in files for file in FAMILIES[name].files):
            return name
    raise KzooError(
        f"{checkpoint.path} has no tokenizer.json and no vocab.txt, vocab.json with merges.txt, or SentencePiece "
        "model; put one of them there."
    )
