"""Texts as Moses' scripts leave them, which is how much of the literature has measured translations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kzoo.errors import KzooError, MissingDependencyError, did_you_mean


def moses(texts: Sequence[str], language: str) -> list[str]:
    """Return texts lower-cased, with punctuation evened out, and tokenized as Moses does.

    It is what Multi30k's authors do to their files, in their order, and what papers on it measure BLEU on.

    Args:
        texts: the texts.
        language: code of their language, such as `"de"`.

    Raises:
        KzooError: Moses does not know the language.

    Example:
        >>> moses(["Ein „Boot“, es heißt: 32 De Neude."], "de")
        ['ein &quot; boot &quot; , es heißt : 32 de neude .']
    """
    if language not in _languages():
        raise KzooError(
            f"Moses has no rules for the language '{language}'.{did_you_mean(language, _languages())}"
        )
    sacremoses = _sacremoses()
    normalizer = sacremoses.MosesPunctNormalizer(language, perl_parity=True)
    tokenizer = sacremoses.MosesTokenizer(language)
    # With its end: the original sees whole lines, and moves a quotation mark before a full stop only there.
    lines = (normalizer.normalize(f"{text.lower()}\n") for text in texts)
    return [tokenizer.tokenize(line, return_str=True).strip() for line in lines]


def language_of(path: str | os.PathLike[str]) -> str | None:
    """Return the language that a file's name ends in, if Moses knows it, or None.

    Example:
        >>> language_of("test_2016_flickr.de.gz"), language_of("test.txt")
        ('de', None)
    """
    ending = Path(str(path).removesuffix(".gz")).suffix.removeprefix(".")
    return ending if ending in _languages() else None


def _languages() -> set[str]:
    return set(_sacremoses().corpus.NonbreakingPrefixes().available_langs.values())


def _sacremoses() -> Any:
    try:
        import sacremoses
    except ImportError:
        raise MissingDependencyError(
            "Moses' tokenizer needs sacremoses: pip install 'kzoo[train]'."
        ) from None
    return sacremoses
