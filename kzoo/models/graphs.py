"""The graphs that serve each task: which functions of a model are exported, and over which inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras import ops

from kzoo.layers import Attention, KeyValueCache
from kzoo.models.backbone import InputSpec
from kzoo.models.base import TransformerModel

Tensors = dict[str, Any]


@dataclass(frozen=True)
class Graph:
    """A function of a model's named inputs, to be exported as one ONNX graph.

    `max_length` is the most tokens that it can take, past ones included; None if there is no bound.
    """

    function: Callable[[Tensors], Tensors]
    inputs: dict[str, InputSpec]
    max_length: int | None = None


def bare_graph(model: TransformerModel) -> Graph:
    """Return the model as it is called: all inputs in, all outputs out, nothing cached."""
    return Graph(lambda inputs: model(inputs, training=False), model.signature(), _max_length(model))


def serving_graphs(model: TransformerModel) -> dict[str, Graph]:
    """Return the graphs of a bundle by role: `model`, or `encoder` and `decoder`."""
    if model.task == "causal_lm":
        return {"model": _causal_step(model)}
    if model.task == "seq2seq":
        return {"encoder": _encoder(model), "decoder": _decoder_step(model)}
    if model.task == "mlm":
        return {"model": _filled_masks(model)}
    return {"model": bare_graph(model)}


def _max_length(model: TransformerModel) -> int | None:
    return getattr(model.backbone.config, "max_positions", None)


def _cache_specs(attentions: list[Attention], kind: str, length: str) -> dict[str, InputSpec]:
    return {
        f"past_key_values.{layer}{kind}.{part}": InputSpec(
            ("batch", attention.num_key_value_heads, length, attention.head_dim), "float32"
        )
        for layer, attention in enumerate(attentions)
        for part in ("key", "value")
    }


def _caches(inputs: Tensors, num_layers: int, kind: str = "") -> list[KeyValueCache]:
    return [
        KeyValueCache(
            inputs[f"past_key_values.{layer}{kind}.key"], inputs[f"past_key_values.{layer}{kind}.value"]
        )
        for layer in range(num_layers)
    ]


def _present(pairs: list[tuple[Any, Any]], kind: str = "") -> Tensors:
    return {
        f"present.{layer}{kind}.{part}": tensor
        for layer, pair in enumerate(pairs)
        for part, tensor in zip(("key", "value"), pair, strict=True)
    }


def _last_logits(model: TransformerModel, states: Any) -> Tensors:
    """Return the logits (batch, 1, vocab_size) of the last token: decoding needs no others.

    That of a token which is never written is hidden.
    """
    head: Any = model.head
    logits = head({"last_hidden_state": states[:, -1:]})["logits"]
    unwritten = getattr(model.backbone.config, "unwritten_id", None)
    if unwritten is not None:
        logits = logits - 1e9 * ops.one_hot(unwritten, model.backbone.config.vocab_size)
    return {"logits": logits}


def _causal_step(model: TransformerModel) -> Graph:
    """One graph for a prompt and for each later token: an empty past is the first step."""

    attentions = [block.attention for block in model.backbone.blocks]

    def step(inputs: Tensors) -> Tensors:
        caches = _caches(inputs, len(attentions))
        features = model.backbone(inputs, caches=caches)
        present = _present([(cache.keys, cache.values) for cache in caches])
        return {**_last_logits(model, features["last_hidden_state"]), **present}

    specs = {
        "input_ids": InputSpec(("batch", "sequence"), "int64"),
        "attention_mask": InputSpec(("batch", "past+sequence"), "int64"),
        **_cache_specs(attentions, "", "past"),
    }
    return Graph(step, specs, _max_length(model))


def _filled_masks(model: TransformerModel) -> Graph:
    """The logits (batch, masks, vocab_size) at `mask_positions` alone: those of all tokens are hardly ever read."""

    def fill(inputs: Tensors) -> Tensors:
        states = model.backbone(inputs)["last_hidden_state"]
        positions = ops.expand_dims(inputs["mask_positions"], -1)
        head: Any = model.head
        return head({"last_hidden_state": ops.take_along_axis(states, positions, axis=1)})

    specs = {**model.signature(), "mask_positions": InputSpec(("batch", "masks"), "int64")}
    return Graph(fill, specs, _max_length(model))


def _encoder(model: TransformerModel) -> Graph:
    """Encode once, and emit what each decoder layer attends to."""

    def encode(inputs: Tensors) -> Tensors:
        encoded = model.backbone.encode(inputs)["encoder_last_hidden_state"]
        return {"last_hidden_state": encoded, **_present(model.backbone.memories(encoded), ".encoder")}

    specs = model.signature()
    inputs = {name: specs[name] for name in ("input_ids", "attention_mask")}
    return Graph(encode, inputs, _max_length(model))


def _decoder_step(model: TransformerModel) -> Graph:
    """One graph for the first target token and for each later one: an empty past is the first step."""

    blocks = model.backbone.decoder_blocks

    def step(inputs: Tensors) -> Tensors:
        caches = _caches(inputs, len(blocks), ".decoder")
        memories = [(memory.keys, memory.values) for memory in _caches(inputs, len(blocks), ".encoder")]
        states = model.backbone.decode(inputs, memories, caches)["last_hidden_state"]
        present = _present([(cache.keys, cache.values) for cache in caches], ".decoder")
        return {**_last_logits(model, states), **present}

    specs = {
        "decoder_input_ids": InputSpec(("batch", "decoder_sequence"), "int64"),
        "attention_mask": InputSpec(("batch", "sequence"), "int64"),
        **_cache_specs([block.cross_attention for block in blocks], ".encoder", "sequence"),
        **_cache_specs([block.attention for block in blocks], ".decoder", "past"),
    }
    return Graph(step, specs, _max_length(model))
