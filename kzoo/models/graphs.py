"""The graphs that serve each task: which functions of a model are exported, and over which inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from kzoo.layers import Attention, KeyValueCache, record_attention
from kzoo.models.backbone import InputSpec
from kzoo.models.base import TransformerModel

Tensors = dict[str, Any]


# What decoding says at each step besides the tokens. Shapes depend on the values of the two numbers.
_NUMBERS = {"logits_to_keep": InputSpec((), "int64"), "top_k": InputSpec((), "int64")}


@dataclass(frozen=True)
class Graph:
    """A function of a model's named inputs, to be exported as one ONNX graph.

    `max_length` is the most tokens that it can take, past ones included; None if there is no bound. `rankings` are
    the outputs that say which values of another one are largest: a difference in the last bit can swap them. One that
    `differentiates` has derivatives among its outputs.
    """

    function: Callable[[Tensors], Tensors]
    inputs: dict[str, InputSpec]
    max_length: int | None = None
    rankings: frozenset[str] = frozenset()
    differentiates: bool = False

    def run_kept(self, feeds: Mapping[str, Any], outputs: Sequence[str]) -> Tensors:
        """Return the outputs of these names, as tensors, which may be fed again."""
        made = self.function({name: ops.convert_to_tensor(value) for name, value in feeds.items()})
        return {name: made[name] for name in outputs}

    def to_numpy(self, tensor: Any) -> np.ndarray:
        """Return an output as an array."""
        return ops.convert_to_numpy(tensor)


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


def _cache_specs(attentions: list[Attention], kind: str, batch: str, length: str) -> dict[str, InputSpec]:
    return {
        f"past_key_values.{layer}{kind}.{part}": InputSpec(
            (batch, attention.num_key_value_heads, length, attention.head_dim), "float32"
        )
        for layer, attention in enumerate(attentions)
        for part in ("key", "value")
    }


def _pairs(inputs: Tensors, num_layers: int, kind: str) -> list[tuple[Any, Any]]:
    return [
        (inputs[f"past_key_values.{layer}{kind}.key"], inputs[f"past_key_values.{layer}{kind}.value"])
        for layer in range(num_layers)
    ]


def _caches(inputs: Tensors, num_layers: int, kind: str = "") -> list[KeyValueCache]:
    """Return each layer's past, with the rows that `beam_idx` (batch,) says, in its order."""
    beam_idx = inputs["beam_idx"]
    return [
        KeyValueCache(ops.take(keys, beam_idx, axis=0), ops.take(values, beam_idx, axis=0))
        for keys, values in _pairs(inputs, num_layers, kind)
    ]


def _over_heads(weights: Any, inputs: Tensors) -> Any:
    """Return the mean over heads, a row for each target, of weights whose rows are sources."""
    mean = ops.mean(ops.cast(weights, "float32"), axis=1)
    length = ops.shape(inputs["decoder_input_ids"])[1]
    return ops.reshape(mean, (-1, length, ops.shape(inputs["attention_mask"])[1]))


def _present(pairs: list[tuple[Any, Any]], kind: str = "") -> Tensors:
    return {
        f"present.{layer}{kind}.{part}": tensor
        for layer, pair in enumerate(pairs)
        for part, tensor in zip(("key", "value"), pair, strict=True)
    }


def _next_tokens(model: TransformerModel, states: Any, inputs: Tensors) -> Tensors:
    """Return what may follow each of the last `logits_to_keep` tokens: all that any way of decoding reads.

    `log_probs` (batch, kept, vocab_size) is of the whole vocabulary, in which a token that is never written has
    next to no probability; `top_ids` and `top_log_probs` (batch, kept, top_k) are the most probable tokens, best
    first.
    """
    head: Any = model.head
    logits = head({"last_hidden_state": states[:, -inputs["logits_to_keep"] :]})["logits"]
    unwritten = getattr(model.backbone.config, "unwritten_id", None)
    if unwritten is not None:
        # Before the others' are weighed: its logit may be the largest of all.
        logits = ops.where(np.arange(model.backbone.config.vocab_size) == unwritten, -1e9, logits)
    log_probs = ops.log_softmax(logits, axis=-1)
    top_log_probs, top_ids = ops.top_k(log_probs, inputs["top_k"])
    return {
        "log_probs": log_probs,
        "top_ids": ops.cast(top_ids, "int32"),
        "top_log_probs": top_log_probs,
    }


def _causal_step(model: TransformerModel) -> Graph:
    """One graph for a prompt and for each later token: an empty past is the first step."""

    attentions = [block.attention for block in model.backbone.blocks]

    def step(inputs: Tensors) -> Tensors:
        caches = _caches(inputs, len(attentions))
        features = model.backbone(inputs, caches=caches)
        present = _present([(cache.keys, cache.values) for cache in caches])
        return {**_next_tokens(model, features["last_hidden_state"], inputs), **present}

    specs = {
        "input_ids": InputSpec(("batch", "sequence"), "int64"),
        "attention_mask": InputSpec(("batch", "past+sequence"), "int64"),
        "beam_idx": InputSpec(("batch",), "int64"),
        **_NUMBERS,
        **_cache_specs(attentions, "", "past_batch", "past"),
    }
    return Graph(step, specs, _max_length(model), frozenset({"top_ids"}))


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
    """One graph for the first target token and for each later one: an empty past is the first step.

    Each source serves as many targets, its beams, one after another: what they attend to is there once.
    `cross_attention` (batch*beams, decoder_sequence, sequence) says where in the source they look: the mean over the
    heads of the last layer but one, whose is the closest to what people align (Garg et al., 2019, section 3.1).
    """

    blocks = model.backbone.decoder_blocks
    aligned = blocks[-2 if len(blocks) > 1 else -1].cross_attention

    def step(inputs: Tensors) -> Tensors:
        caches = _caches(inputs, len(blocks), ".decoder")
        memories = _pairs(inputs, len(blocks), ".encoder")
        sources = ops.shape(inputs["attention_mask"])[0]
        with record_attention(aligned) as weights:
            states = model.backbone.decode(inputs, memories, caches, memory_batch=sources)[
                "last_hidden_state"
            ]
        present = _present([(cache.keys, cache.values) for cache in caches], ".decoder")
        attended = {"cross_attention": _over_heads(weights[0], inputs)}
        return {**_next_tokens(model, states, inputs), **attended, **present}

    cross_attentions = [block.cross_attention for block in blocks]
    specs = {
        "decoder_input_ids": InputSpec(("batch*beams", "decoder_sequence"), "int64"),
        "attention_mask": InputSpec(("batch", "sequence"), "int64"),
        "beam_idx": InputSpec(("batch*beams",), "int64"),
        **_NUMBERS,
        **_cache_specs(cross_attentions, ".encoder", "batch", "sequence"),
        **_cache_specs([block.attention for block in blocks], ".decoder", "past_batch", "past"),
    }
    return Graph(step, specs, _max_length(model), frozenset({"top_ids"}))
