"""What decoder-only Transformers share: the way of the data, with caches and without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kzoo.layers import (
    KeyValueCache,
    TokenEmbedding,
    causal_bias,
    check_length,
    combine_biases,
    document_bias,
    padding_bias,
    token_positions,
)
from kzoo.models.backbone import Backbone, InputSpec


class DecoderOnly(Backbone):
    """Pre-norm blocks in which each token sees itself and those before it.

    A subclass says where positions come in: `embed` adds them to what enters the first block, `rotation` turns the
    queries and keys of every block. `windows` says how far each block sees.

    Returns `last_hidden_state` (batch, sequence, hidden_dim), and `pooled` (batch, hidden_dim), the last real
    token's, which has seen all others.
    """

    tasks = ("causal_lm", "classification", "multilabel", "regression", "tokens", "features")
    classifier_bias = False
    learning_inputs = ("document_starts",)

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.token_embedding = self.add(
            TokenEmbedding, "token_embedding", config.vocab_size, config.hidden_dim
        )
        self.dropout = self.add(keras.layers.Dropout, "dropout", config.dropout)
        self.blocks = self.add_blocks("block", norm_first=True)
        self.final_norm = self.add_norm("final_norm")

    def embed(self, input_ids: Any, positions: Any) -> Any:
        """Return what enters the first block (batch, sequence, hidden_dim)."""
        return self.token_embedding(input_ids)

    def rotation(self, positions: Any) -> Any:
        """Return what turns queries and keys; see `kzoo.layers.rotary_rotation`."""
        return None

    def windows(self) -> list[int | None]:
        """Return for each block how many tokens a token sees at most, itself included; None for all."""
        return [None] * self.config.num_layers

    def call(
        self,
        inputs: dict[str, Any],
        caches: Sequence[KeyValueCache] | None = None,
        training: bool = False,
    ) -> dict[str, Any]:
        """Read `input_ids` (batch, sequence), each token seeing itself and those before it.

        With `caches`, one a block, the tokens come after those held there, and `attention_mask`
        (batch, past + sequence) covers both. Padding may stand on either side. With `document_starts`
        (batch, sequence), where in its row each token's document starts, rows hold several documents, of which none
        sees another.
        """
        input_ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        length = ops.shape(input_ids)[1]
        total = length if caches is None else length + caches[0].length
        check_length(total, self.config.max_positions)
        positions, starts = token_positions(length, total, mask), inputs.get("document_starts")
        if starts is not None:
            positions = positions - ops.cast(starts, "int32")
        x = self.dropout(self.embed(input_ids, positions), training=training)
        rotation, windows = self.rotation(positions), self.windows()
        hidden = combine_biases(padding_bias(mask), document_bias(starts))
        biases = {
            window: combine_biases(causal_bias(length, total, window), hidden)
            for window in dict.fromkeys(windows)
        }
        hidden_states = [x]
        for block, window, cache in zip(self.blocks, windows, caches or self.no_caches(), strict=True):
            x = block(x, bias=biases[window], cache=cache, rotation=rotation, training=training)
            hidden_states.append(x)
        x = self.final_norm(x)
        pooled = x[:, -1] if mask is None else _last_real(x, mask[:, -length:])
        return {"last_hidden_state": x, "pooled": pooled, "hidden_states": hidden_states}

    def signature(self) -> dict[str, InputSpec]:
        """Return the inputs by name."""
        tokens = InputSpec(("batch", "sequence"), "int64")
        return {"input_ids": tokens, "attention_mask": tokens}


def _last_real(states: Any, mask: Any) -> Any:
    """Return the states (batch, hidden_dim) at the last 1 of each row of the mask (batch, sequence)."""
    places = ops.cast(mask, "int32") * ops.arange(ops.shape(mask)[1], dtype="int32")
    last = ops.reshape(ops.argmax(places, axis=1), (-1, 1, 1))
    return ops.take_along_axis(states, last, axis=1)[:, 0]
