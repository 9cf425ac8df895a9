"""Training a language model on plain text: documents packed into rows, and what their texts are told by."""

from __future__ import annotations

from typing import Any

from kzoo.data import Examples
from kzoo.errors import KzooError
from kzoo.recipes.data.streaming import StreamedBatches
from kzoo.recipes.schema.sections import MaskingSection
from kzoo.text import Encoding, Tokenizer
from kzoo.training import MaskedBatches, Masking, PackedBatches


class LanguageBatches(StreamedBatches):
    """Plain text in rows as long as the model reads; the arguments are those of `StreamedBatches`."""

    def batches(self, examples: Examples, learns: bool) -> PackedBatches:
        """Return rows of documents, in another order and cut at other places in each pass if they are learnt from.

        Of what is only measured on the same tokens are hidden each time.
        """
        tokenizer, longest = self.model.tokenizer, self.model.max_length
        if tokenizer is None or longest is None:
            raise KzooError("Learning from plain text needs a tokenizer.")
        length = min(longest, self.batch_tokens)
        options: dict[str, Any] = {
            "length": length,
            "rows": self.batch_tokens // length,
            "seed": self.training.seed,
            "pad_id": tokenizer.pad_id,
            "shuffled": learns,
        }
        masking = masking_of(self.recipe.masking, tokenizer) if self.recipe.task == "mlm" else None
        whole_words = masking is not None and masking.whole_words
        encoded = [_encoded(tokenizer, str(document), whole_words) for document in examples.inputs]
        documents = [encoding.input_ids[0] for encoding in encoded]
        if masking is None:
            return PackedBatches(documents, **options)
        words = [encoding.word_ids[0] for encoding in encoded if encoding.word_ids is not None]
        return MaskedBatches(documents, masking, words=words if whole_words else None, **options)


def masking_of(section: MaskingSection | None, tokenizer: Tokenizer) -> Masking:
    """Return how a recipe hides tokens.

    Raises:
        KzooError: the tokenizer has no token to hide them behind.
    """
    if tokenizer.mask_id is None:
        raise KzooError(
            "A masked language model needs a tokenizer with a mask token, such as [MASK]; this one has none. A "
            "tokenizer that is trained, in place of model.tokenizer, has one."
        )
    section = section or MaskingSection()
    return Masking(
        tokenizer.mask_id, tokenizer.vocab_size, tokenizer.special_ids, section.share, section.whole_words
    )


def _encoded(tokenizer: Tokenizer, document: str, words: bool) -> Encoding:
    """Return a document's tokens, with the tokenizer's own around them, and perhaps the words that they come from."""
    # As long as it is: no token takes less than a byte, and three stand around it at most.
    return tokenizer.encode([document], max_length=len(document.encode("utf-8")) + 3, offsets=words)
