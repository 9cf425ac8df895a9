"""T5 checkpoints, of the first form and of version 1.1."""

from __future__ import annotations

import dataclasses
from typing import Any

from kzoo.weights.family import Family, Head
from kzoo.weights.fields import ACTIVATION, FLAG, NUMBER, WHOLE, Field, Kind
from kzoo.weights.layouts import TRANSPOSED, Source, Table, embedding, rms_norm

_GATED = "gated-"


def _read_projection(value: Any) -> tuple[str, bool]:
    name = str(value)
    gated = name.startswith(_GATED)
    name = name.removeprefix(_GATED)
    # The one name that says another function than it reads.
    return ACTIVATION.read("gelu_new" if gated and name == "gelu" else name), gated


def _write_projection(value: tuple[str, bool]) -> str:
    activation, gated = value
    if not gated:
        return ACTIVATION.write(activation)
    return _GATED + {"gelu_tanh": "gelu", "gelu": "gelu_python"}.get(activation, ACTIVATION.write(activation))


class _Untied(Field):
    """A false `tie_word_embeddings` says that the states are not scaled, a true one nothing.

    Whether the projection is tied shows in the tensors: the original library has come to write true always.
    """

    def read(self, value: Any) -> dict[str, Any]:
        """Return `scale_logits`, if it is said."""
        return {} if FLAG.read(value) else super().read(value)


def _linear(variable: str, tensor: str) -> Table:
    return {f"{variable}/kernel": Source(f"{tensor}.weight", TRANSPOSED)}


def _attention(variable: str, tensor: str) -> Table:
    return {
        **_linear(f"{variable}/query", f"{tensor}.q"),
        **_linear(f"{variable}/key", f"{tensor}.k"),
        **_linear(f"{variable}/value", f"{tensor}.v"),
        **_linear(f"{variable}/output", f"{tensor}.o"),
    }


def _side(side: str, number: str, feed_forward: int) -> Table:
    block, layer = f"backbone/{side}_block_{number}", f"{side}.block.{number}.layer"
    bias = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    return {
        **_attention(f"{block}/attention", f"{layer}.0.SelfAttention"),
        **rms_norm(f"{block}/attention_norm", f"{layer}.0.layer_norm"),
        **_linear(f"{block}/feed_forward/contract", f"{layer}.{feed_forward}.DenseReluDense.wo"),
        **rms_norm(f"{block}/feed_forward_norm", f"{layer}.{feed_forward}.layer_norm"),
        **rms_norm(f"backbone/{side}_norm", f"{side}.final_layer_norm"),
        **embedding(f"backbone/{side}_relative_bias", bias),
    }


_ENCODER, _DECODER = "backbone/encoder_block_{layer}", "backbone/decoder_block_{decoder_layer}"
_ENCODER_LAYER, _DECODER_LAYER = "encoder.block.{layer}.layer", "decoder.block.{decoder_layer}.layer"
_ENCODER_DENSE, _DECODER_DENSE = f"{_ENCODER_LAYER}.1.DenseReluDense", f"{_DECODER_LAYER}.2.DenseReluDense"
_PLAIN: Table = {
    **_linear(f"{_ENCODER}/feed_forward/expand", f"{_ENCODER_DENSE}.wi"),
    **_linear(f"{_DECODER}/feed_forward/expand", f"{_DECODER_DENSE}.wi"),
}
_GATES: Table = {
    **_linear(f"{_ENCODER}/feed_forward/gate", f"{_ENCODER_DENSE}.wi_0"),
    **_linear(f"{_ENCODER}/feed_forward/expand", f"{_ENCODER_DENSE}.wi_1"),
    **_linear(f"{_DECODER}/feed_forward/gate", f"{_DECODER_DENSE}.wi_0"),
    **_linear(f"{_DECODER}/feed_forward/expand", f"{_DECODER_DENSE}.wi_1"),
}
_HEAD = Head(
    "T5ForConditionalGeneration",
    "seq2seq",
    {"head/projection/kernel": Source("lm_head.weight", TRANSPOSED)},
    tied={"lm_head.weight": "shared.weight"},
    tie="tie_embeddings",
)

FAMILY = Family(
    model_type="t5",
    backbone="T5",
    architecture="T5Model",
    prefix="",
    table={
        **embedding("backbone/token_embedding", "shared.weight"),
        **_side("encoder", "{layer}", 1),
        **_side("decoder", "{decoder_layer}", 2),
        **_attention(f"{_DECODER}/cross_attention", f"{_DECODER_LAYER}.1.EncDecAttention"),
        **rms_norm(f"{_DECODER}/cross_attention_norm", f"{_DECODER_LAYER}.1.layer_norm"),
    },
    when={("gated", False): _PLAIN, ("gated", True): _GATES},
    fields=(
        Field("vocab_size", "vocab_size", WHOLE),
        Field("d_model", "hidden_dim", WHOLE),
        Field("hidden_size", "hidden_dim", WHOLE, written=False),
        Field("d_kv", "head_dim", WHOLE),
        Field("d_ff", "intermediate_dim", WHOLE),
        Field("num_layers", "num_layers", WHOLE),
        Field("num_hidden_layers", "num_layers", WHOLE, written=False),
        Field("num_decoder_layers", "num_decoder_layers", WHOLE),
        Field("num_heads", "num_heads", WHOLE),
        Field("num_attention_heads", "num_heads", WHOLE, written=False),
        Field("relative_attention_num_buckets", "num_buckets", WHOLE),
        Field("relative_attention_max_distance", "max_distance", WHOLE),
        Field("feed_forward_proj", ("activation", "gated"), Kind(_read_projection, _write_projection)),
        Field("dense_act_fn", "activation", ACTIVATION, written=False),
        Field("is_gated_act", "gated", FLAG, written=False),
        Field("layer_norm_epsilon", "layer_norm_epsilon", NUMBER),
        Field("dropout_rate", "dropout", NUMBER),
        Field("scale_decoder_outputs", "scale_logits", FLAG, written=False),
        _Untied("tie_word_embeddings", "scale_logits", FLAG),
    ),
    defaults={
        "vocab_size": 32_128,
        "hidden_dim": 512,
        "num_layers": 6,
        "num_decoder_layers": lambda knobs: knobs["num_layers"],
        "num_heads": 8,
        "head_dim": 64,
        "intermediate_dim": 2048,
        "num_buckets": 32,
        "max_distance": 128,
        "activation": "relu",
        "gated": False,
        "layer_norm_epsilon": 1e-6,
        "scale_logits": True,
        "dropout": 0.1,
    },
    required={"is_encoder_decoder": True},
    no_effect=(
        # The longest text of training: there is no table of positions.
        "n_positions",
        "classifier_dropout",
    ),
    heads=(_HEAD, dataclasses.replace(_HEAD, architecture="T5WithLMHeadModel")),
    tied={"encoder.embed_tokens.weight": "shared.weight", "decoder.embed_tokens.weight": "shared.weight"},
    # Never used by the original library either.
    known=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
    layers={"layer": "num_layers", "decoder_layer": "num_decoder_layers"},
)
