"""Translations by a Keras model, through the same search that bundles use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kzoo.errors import KzooError
from kzoo.models import TransformerModel
from kzoo.models.graphs import serving_graphs
from kzoo.search import CachedStep, greedy
from kzoo.search.steps import PAST, PRESENT


def translate(model: TransformerModel, texts: Sequence[str], *, batch_size: int = 512) -> list[str]:
    """Translate texts with an encoder-decoder, the most probable token at a time.

    A translation gets at most twice as many tokens as the longest text beside it, and ten: what a model writes that
    has learnt little yet may have no end.

    Args:
        model: for the task `"seq2seq"`, with a tokenizer.
        texts: what to translate.
        batch_size: texts run together, those of like length.

    Raises:
        KzooError: the model has another task, or no tokenizer with a start token.
    """
    tokenizer = model.tokenizer
    if model.task != "seq2seq" or tokenizer is None or tokenizer.start_id is None:
        raise KzooError("Only an encoder-decoder (task='seq2seq') with a tokenizer translates.")
    graphs = serving_graphs(model)
    decoder, limit = graphs["decoder"], model.max_length or 512
    caches = {name: spec for name, spec in decoder.inputs.items() if name.startswith(PAST)}
    own = {name: spec.shape for name, spec in caches.items() if ".decoder." in name}
    memory = [PRESENT + name.removeprefix(PAST) for name in caches if ".encoder." in name]
    order = np.argsort([len(text) for text in texts], kind="stable")
    translations = [""] * len(texts)
    for rows in np.split(order, range(batch_size, len(order), batch_size)):
        encoding = tokenizer.encode([texts[row] for row in rows], max_length=limit)
        inputs = {"input_ids": encoding.input_ids, "attention_mask": encoding.attention_mask}
        encoded = graphs["encoder"].run_kept(inputs, memory)
        step = CachedStep(
            decoder,
            "decoder_input_ids",
            {name: np.zeros((len(rows), shape[1], 0, shape[3]), np.float32) for name, shape in own.items()},
            model.backbone.config.vocab_size,
            memory={
                "attention_mask": encoding.attention_mask,
                **{PAST + name.removeprefix(PRESENT): encoded[name] for name in memory},
            },
        )
        start = np.full((len(rows), 1), tokenizer.start_id)
        most = min(limit, 2 * encoding.input_ids.shape[1] + 10)
        ids, _ = greedy(step, start, end_id=tokenizer.end_id, max_new_tokens=most)
        for row, text in zip(rows, tokenizer.decode_batch(ids), strict=True):
            translations[row] = text
    return translations
