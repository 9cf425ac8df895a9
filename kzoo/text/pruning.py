"""A tokenizer with fewer entries: those that texts use, and every character."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from kzoo.errors import KzooError
from kzoo.text.strings import Text
from kzoo.text.tokenizer import Tokenizer

_BATCH = 1024


def prune_tokenizer(tokenizer: Tokenizer, texts: Iterable[Text], size: int | None = None) -> Tokenizer:
    """Keep the entries that texts use, the special ones, and every single character.

    The entries keep their order and get new ids without gaps. Texts that use kept entries alone are split into the
    same pieces as before, and no word becomes unknown that was not: at worst it is spelt in characters.

    Args:
        tokenizer: of BERT's kind (WordPiece).
        texts: strings, or pairs of strings.
        size: most entries to keep: of those that the texts use, the rarest go. All stay unless given.

    Raises:
        KzooError: a tokenizer of another kind, no texts, or a size that has no room for the characters.

    Example:
        >>> tokenizer = Tokenizer.train(["a dog runs", "a cat sleeps"], kind="wordpiece", vocab_size=100)
        >>> pruned = prune_tokenizer(tokenizer, ["a cat"])
        >>> pruned.vocab_size < tokenizer.vocab_size, pruned.token_id("dog")
        (True, None)
    """
    content = json.loads(tokenizer.to_json())
    kind = content["model"].get("type")
    if kind != "WordPiece":
        raise KzooError(
            f"A vocabulary of the kind {kind} cannot be pruned yet: its pieces are built from each other. WordPiece "
            "ones, BERT's, can."
        )
    vocabulary = tokenizer.vocabulary
    counts = _counts(tokenizer, texts)
    prefix = content["model"]["continuing_subword_prefix"]
    needed = _needed(tokenizer, content)
    needed |= {index for entry, index in vocabulary.items() if len(entry.removeprefix(prefix)) == 1}
    if size is not None and size < len(needed):
        raise KzooError(
            f"vocabulary of {size} entries: the special tokens and single characters alone are {len(needed)}."
        )
    used = sorted(set(counts) - needed, key=lambda index: (-counts[index], index))
    kept = sorted(needed.union(used if size is None else used[: size - len(needed)]))
    return _renumbered(content, {old: new for new, old in enumerate(kept)})


def matching_ids(tokenizer: Tokenizer, other: Tokenizer) -> np.ndarray:
    """Return the id in `other` of each entry of `tokenizer`, int64 (vocab_size,).

    Raises:
        KzooError: `other` lacks an entry, or `tokenizer` has an id without one.
    """
    ids = np.full(tokenizer.vocab_size, -1, np.int64)
    for entry, index in tokenizer.vocabulary.items():
        ids[index] = other.vocabulary.get(entry, -1)
        if ids[index] < 0:
            raise KzooError(
                f"The entry '{entry}' is in one vocabulary and not in the other: prune the latter to get the former, "
                "or use one tokenizer for both."
            )
    if (ids < 0).any():
        raise KzooError(f"The vocabulary has no entry for the id {int(np.flatnonzero(ids < 0)[0])}.")
    return ids


def _counts(tokenizer: Tokenizer, texts: Iterable[Text]) -> Counter[int]:
    """Count the entries that texts use."""
    counts: Counter[int] = Counter()
    items: Sequence[Text] = list(texts)
    for start in range(0, len(items), _BATCH):
        found = tokenizer.encode(items[start : start + _BATCH], max_length=2**20)
        counts.update(found.input_ids[found.attention_mask > 0].tolist())
    if not counts:
        raise KzooError("There are no texts to tell which entries of the vocabulary are used.")
    return counts


def _needed(tokenizer: Tokenizer, content: dict[str, Any]) -> set[int]:
    """Return the ids of the entries that stay whatever the texts are."""
    entries = [added["content"] for added in content.get("added_tokens") or ()]
    entries += [content["model"]["unk_token"], *_processor_tokens(content.get("post_processor") or {})]
    ids = {tokenizer.vocabulary[entry] for entry in entries if entry in tokenizer.vocabulary}
    roles = (tokenizer.pad_id, tokenizer.start_id, tokenizer.end_id, tokenizer.mask_id)
    return ids.union(index for index in roles if index is not None)


def _processor_tokens(processor: dict[str, Any]) -> list[str]:
    tokens = [processor[side][0] for side in ("cls", "sep") if side in processor]
    return tokens + list(processor.get("special_tokens") or ())


def _renumbered(content: dict[str, Any], ids: dict[int, int]) -> Tokenizer:
    """Return the tokenizer of a tokenizer.json whose entries have the new ids, by their old ones."""
    model = content["model"]
    model["vocab"] = {entry: ids[index] for entry, index in model["vocab"].items() if index in ids}
    for added in content.get("added_tokens") or ():
        added["id"] = ids[added["id"]]
    processor = content.get("post_processor") or {}
    for side in ("cls", "sep"):
        if side in processor:
            processor[side][1] = ids[processor[side][1]]
    for token in (processor.get("special_tokens") or {}).values():
        token["ids"] = [ids[index] for index in token["ids"]]
    if content.get("padding"):
        content["padding"]["pad_id"] = ids[content["padding"]["pad_id"]]
    roles = model.get("kzoo") or {}
    model["kzoo"] = {role: ids[index] if role.endswith("_id") else index for role, index in roles.items()}
    return Tokenizer.from_json(json.dumps(content))
