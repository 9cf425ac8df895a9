"""Training a language model on plain text: documents packed into rows, and what their texts are told by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kzoo.data import Examples
from kzoo.errors import KzooError
from kzoo.recipes.streaming import StreamedBatches
from kzoo.text import Tokenizer
from kzoo.training import PackedBatches


class LanguageBatches(StreamedBatches):
    """Plain text in rows as long as the model reads; the arguments are those of `StreamedBatches`."""

    def batches(self, examples: Examples, learns: bool) -> PackedBatches:
        """Return rows of documents, in another order and cut at other places in each pass if they are learnt from."""
        tokenizer = self.model.tokenizer
        if tokenizer is None or self.model.max_length is None:
            raise KzooError("Learning from plain text needs a tokenizer.")
        length = min(self.model.max_length, self.batch_tokens)
        return PackedBatches(
            encode_documents(tokenizer, [*map(str, examples.inputs)]),
            length=length,
            rows=self.batch_tokens // length,
            seed=self.training.seed,
            pad_id=tokenizer.pad_id,
            shuffled=learns,
        )


def encode_documents(tokenizer: Tokenizer, documents: Sequence[str]) -> list[np.ndarray]:
    """Return the token ids of each document, int (tokens,), with the tokenizer's own around them."""
    ids = []
    for document in documents:
        # As long as it is: no token takes less than a byte, and three stand around it at most.
        most = len(document.encode("utf-8")) + 3
        ids.append(tokenizer.encode([document], max_length=most).input_ids[0])
    return ids
