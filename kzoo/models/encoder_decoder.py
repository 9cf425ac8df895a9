"""What all encoder-decoders do: encode once, then decode with all that came before, cached or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import keras
from keras import ops

from kzoo.errors import KzooError
from kzoo.layers import KeyValueCache, TransformerBlock, causal_bias, combine_biases, padding_bias
from kzoo.models.backbone import Backbone, Config, InputSpec

Side = Literal["encoder", "decoder"]
SIDES: tuple[Side, Side] = ("encoder", "decoder")


@dataclass(frozen=True)
class EncoderDecoderConfig(Config):
    """The numbers of a Transformer with two sides; a `None` of the decoder's is as the encoder's."""

    left_to: ClassVar[dict[str, str]] = {
        "num_decoder_layers": "num_layers",
        "num_decoder_heads": "num_heads",
        "decoder_intermediate_dim": "intermediate_dim",
    }

    vocab_size: int = 37_000
    hidden_dim: int = 512
    num_layers: int = 6
    num_decoder_layers: int | None = None
    num_heads: int = 8
    num_decoder_heads: int | None = None
    intermediate_dim: int = 2048
    decoder_intermediate_dim: int | None = None
    max_positions: int = 1024
    activation: str = "relu"
    norm_first: bool = False
    scale_embedding: bool = True
    layer_norm_epsilon: float = 1e-6
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0


class EncoderDecoder(Backbone):
    """An encoder's stack of blocks, and a decoder's, which attends to what the encoder makes of the source.

    A subclass makes `token_embedding`, `dropout`, `encoder_blocks`, `decoder_blocks`, and `encoder_norm` and
    `decoder_norm` where the blocks' own norms come first; it writes `embed`, and `position_bias` if it has any.
    Returns the decoder's `last_hidden_state` (batch, decoder_sequence, hidden_dim) and `hidden_states`, and the
    encoder's `encoder_last_hidden_state` (batch, sequence, hidden_dim) and `encoder_hidden_states`.
    """

    tasks: ClassVar[tuple[str, ...]] = ("seq2seq", "features")
    dropout: keras.layers.Dropout
    encoder_blocks: list[TransformerBlock]
    decoder_blocks: list[TransformerBlock]
    encoder_norm: keras.layers.Layer
    decoder_norm: keras.layers.Layer

    def embed(self, side: Side, ids: Any, past: Any) -> Any:
        """Return the vectors (batch, length, hidden_dim) of a side's `ids` (batch, length), which `past` precede."""
        raise KzooError(f"{type(self).__name__} does not say what its tokens are to it: write its `embed`.")

    def position_bias(self, side: Side, length: Any, total: Any) -> Any:
        """Return what is added to a side's attention scores for the last `length` of `total` tokens, or None."""
        return None

    def leave(self, side: Side, x: Any, training: bool) -> Any:
        """Return a side's last states (batch, length, hidden_dim), given what leaves its last block."""
        # Pre-norm blocks leave their sum unnormalised (Xiong et al., 2020, section 3).
        norm = getattr(self, f"{side}_norm", None)
        return x if norm is None else norm(x)

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Encode `input_ids` (batch, sequence) and decode `decoder_input_ids` (batch, decoder_sequence)."""
        encoded = self.encode(inputs, training)
        memories = self.memories(encoded["encoder_last_hidden_state"])
        return {**self.decode(inputs, memories, training=training), **encoded}

    def encode(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Return the encoder's features of `input_ids`; `attention_mask` is 0 where there is padding."""
        length = ops.shape(inputs["input_ids"])[1]
        bias = combine_biases(
            padding_bias(inputs.get("attention_mask")), self.position_bias("encoder", length, length)
        )
        x = self.dropout(self.embed("encoder", inputs["input_ids"], 0), training=training)
        hidden_states = [x]
        for block in self.encoder_blocks:
            x = block(x, bias=bias, training=training)
            hidden_states.append(x)
        x = self.leave("encoder", x, training)
        return {"encoder_last_hidden_state": x, "encoder_hidden_states": hidden_states}

    def memories(self, encoded: Any) -> list[tuple[Any, Any]]:
        """Return what each decoder block attends to: keys and values of the encoder's last states."""
        return [block.cross_attention.keys_values(encoded) for block in self.decoder_blocks]

    def decode(
        self,
        inputs: dict[str, Any],
        memories: Sequence[tuple[Any, Any]],
        caches: Sequence[KeyValueCache] | None = None,
        memory_batch: Any = None,
        training: bool = False,
    ) -> dict[str, Any]:
        """Return the decoder's features of `decoder_input_ids` (batch, decoder_sequence).

        `attention_mask` is the source's. With `caches`, one a block, the tokens come after those held there. With
        `memory_batch`, the number of sources, each serves as many targets, one after another.
        """
        length = ops.shape(inputs["decoder_input_ids"])[1]
        past = caches[0].length if caches is not None else 0
        total = past + length
        bias = combine_biases(causal_bias(length, total), self.position_bias("decoder", length, total))
        memory_bias = padding_bias(inputs.get("attention_mask"))
        x = self.dropout(self.embed("decoder", inputs["decoder_input_ids"], past), training=training)
        hidden_states = [x]
        fold = None if memory_batch is None else (memory_batch, length)
        each_past: Sequence[KeyValueCache | None] = caches or [None] * len(self.decoder_blocks)
        for block, memory, cache in zip(self.decoder_blocks, memories, each_past, strict=True):
            x = block(
                x,
                bias=bias,
                memory=memory,
                memory_bias=memory_bias,
                cache=cache,
                fold=fold,
                training=training,
            )
            hidden_states.append(x)
        return {"last_hidden_state": self.leave("decoder", x, training), "hidden_states": hidden_states}

    def signature(self) -> dict[str, InputSpec]:
        """Return the inputs by name."""
        source = InputSpec(("batch", "sequence"), "int64")
        target = InputSpec(("batch", "decoder_sequence"), "int64")
        return {"input_ids": source, "attention_mask": source, "decoder_input_ids": target}
