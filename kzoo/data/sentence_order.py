"""Pairs of sentences that follow each other, or do not: examples that any text gives without labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from kzoo.data.examples import Examples
from kzoo.errors import KzooError
from kzoo.text.sentences import split_sentences

# What a pair may be: in order first.
NEXT, ORDER = ("next", "random"), ("in order", "swapped")


def sentence_pairs(documents: Sequence[str], kind: Literal["next", "order"], seed: int = 0) -> Examples:
    """Return each two sentences that follow each other in a document, half of them changed.

    Args:
        documents: texts of several sentences; those of one give no pair.
        kind: `"next"`: a changed pair's second sentence is any of another document (Devlin et al., 2018, 3.1), and
            labels are `next` and `random`, those of the task `"next_sentence"`. `"order"`: its sentences are swapped
            (Lan et al., 2019, 3.1), and labels are `in order` and `swapped`.
        seed: of what is drawn.

    Returns:
        Pairs of texts, as tuples, in the order of the documents, and their labels.

    Raises:
        KzooError: an unknown kind; no document has two sentences; or, for `"next"`, only one document has any.

    Example:
        >>> pairs = sentence_pairs(["It rained. We stayed. Then we left."], "order")
        >>> list(zip(pairs.inputs, pairs.targets))
        [(('It rained.', 'We stayed.'), 'in order'), (('Then we left.', 'We stayed.'), 'swapped')]
    """
    if kind not in ("next", "order"):
        raise KzooError(f"Unknown kind of pairs '{kind}': it is 'next' or 'order'.")
    random = np.random.default_rng(seed)
    split = [[part.strip() for part in split_sentences(text) if part.strip()] for text in documents]
    split = [sentences for sentences in split if sentences]
    if not any(len(sentences) > 1 for sentences in split):
        raise KzooError("No document has two sentences: there is no pair in these texts.")
    if kind == "next" and len(split) < 2:
        raise KzooError("A random second sentence comes from another document: give several.")
    inputs, targets = [], []
    for place, sentences in enumerate(split):
        for first, second in pairwise(sentences):
            changed = random.random() < 0.5
            pair = (first, second)
            if changed and kind == "order":
                pair = (second, first)
            elif changed:
                # Any but this one.
                others = split[(place + random.integers(1, len(split))) % len(split)]
                pair = (first, others[random.integers(len(others))])
            inputs.append(pair)
            targets.append((NEXT if kind == "next" else ORDER)[changed])
    return Examples(inputs, targets)
