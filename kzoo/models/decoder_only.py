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
    padding_bias,
    token_positions,
)
from kzoo.models.backbone import Backbone, InputSpec


class DecoderOnly(Backbone):
    """Pre-norm blocks in which each token sees itself and those before it.

    A subclass says where positions come in: `embed` adds them to what enters the first block, `rotation` turns the
    queries and keys of every block. `windows` says how far each block sees.

    Returns `last_hidden_state` (batch, sequence, hidden_dim), and `hidden_states` before the final norm.
    """

    tasks = ("causal_lm", "features")

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
        (batch, past + sequence) covers both. Padding may stand on either side.
        """
        input_ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        length = ops.shape(input_ids)[1]
        total = length if caches is None else length + caches[0].length
        check_length(total, self.config.max_positions)
        positions = token_positions(length, total, mask)
        x = self.dropout(self.embed(input_ids, positions), training=training)
        rotation, windows, padding = self.rotation(positions), self.windows(), padding_bias(mask)
        biases = {
            window: combine_biases(causal_bias(length, total, window), padding)
            for window in dict.fromkeys(windows)
        }
        hidden_states = [x]
        for block, window, cache in zip(self.blocks, windows, caches or self.no_caches(), strict=True):
            x = block(x, bias=biases[window], cache=cache, rotation=rotation, training=training)
            hidden_states.append(x)
        return {"last_hidden_state": self.final_norm(x), "hidden_states": hidden_states}

    def signature(self) -> dict[str, InputSpec]:
        """Return the inputs by name."""
        tokens = InputSpec(("batch", "sequence"), "int64")
        return {"input_ids": tokens, "attention_mask": tokens}
