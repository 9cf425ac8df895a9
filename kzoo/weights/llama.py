"""Llama, Qwen2 and Mistral checkpoints: one architecture, whose config.json says it in three ways."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from kzoo.weights.family import Family, Head
from kzoo.weights.fields import ACTIVATION, FLAG, NUMBER, WHOLE, Field, Kind
from kzoo.weights.layouts import TRANSPOSED, Source, dense, embedding, rms_norm

_BLOCK, _LAYER = "backbone/block_{layer}", "layers.{layer}"

# What the published code takes when config.json is silent.
_THETA = 10_000.0
_WINDOW = 4096
_QWEN2_LAYERS, _QWEN2_FIRST_WINDOW = 32, 28
_FULL, _SLIDING = "full_attention", "sliding_attention"

# Names in config.json by those of `kzoo.layers.RotaryScaling`.
_SCALINGS: dict[str, dict[str, str]] = {
    "linear": {"factor": "factor"},
    "llama3": {
        "factor": "factor",
        "low_frequency_factor": "low_freq_factor",
        "high_frequency_factor": "high_freq_factor",
        "original_max_positions": "original_max_position_embeddings",
    },
}


def _read_rotary(value: Any) -> tuple[float, dict[str, Any] | None]:
    """Read base and scaling from `rope_parameters`, or from the older `rope_scaling`."""
    if not isinstance(value, dict):
        raise ValueError("it is no object")
    given = {name: entry for name, entry in value.items() if entry is not None}
    theta = NUMBER.read(given.pop("rope_theta", _THETA))
    kinds = {given.pop(name) for name in ("rope_type", "type") if name in given} or {"default"}
    kind = kinds.pop()
    if kinds or kind not in ("default", *_SCALINGS):
        raise ValueError(f"kzoo has default, {', '.join(_SCALINGS)}")
    names = _SCALINGS.get(kind, {})
    if missing := set(names.values()) - set(given):
        raise ValueError(f"it has no {min(missing)}")
    if unknown := set(given) - set(names.values()):
        raise ValueError(f"kzoo does not know its {min(unknown)}")
    if not names:
        return theta, None
    return theta, {"kind": kind, **{ours: given[theirs] for ours, theirs in names.items()}}


def _write_rotary(values: tuple[float, Mapping[str, Any] | None]) -> dict[str, Any]:
    theta, scaling = values
    written: dict[str, Any] = {"rope_theta": theta, "rope_type": scaling["kind"] if scaling else "default"}
    if scaling:
        written |= {theirs: scaling[ours] for ours, theirs in _SCALINGS[scaling["kind"]].items()}
    return written


def _read_scaling(value: Any) -> dict[str, Any] | None:
    if isinstance(value, dict) and "rope_theta" in value:
        raise ValueError("rope_theta stands beside it, not in it")
    return _read_rotary(value)[1]


def _refuse_order(value: Any) -> Any:
    raise ValueError(f"kzoo has blocks of {_FULL}, and after them blocks of {_SLIDING}, one for each layer")


_COMMON = (
    Field("vocab_size", "vocab_size", WHOLE),
    Field("hidden_size", "hidden_dim", WHOLE),
    Field("num_hidden_layers", "num_layers", WHOLE),
    Field("num_attention_heads", "num_heads", WHOLE),
    Field("num_key_value_heads", "num_key_value_heads", WHOLE),
    Field("head_dim", "head_dim", WHOLE),
    Field("intermediate_size", "intermediate_dim", WHOLE),
    Field("max_position_embeddings", "max_positions", WHOLE),
    Field("hidden_act", "activation", ACTIVATION),
    Field("rms_norm_eps", "layer_norm_epsilon", NUMBER),
    Field("rope_parameters", ("rotary_theta", "rotary_scaling"), Kind(_read_rotary, _write_rotary)),
    Field("rope_theta", "rotary_theta", NUMBER, written=False),
    Field("rope_scaling", "rotary_scaling", Kind(_read_scaling), written=False),
    Field("tie_word_embeddings", "tie_embeddings", FLAG),
    Field("attention_dropout", "attention_dropout", NUMBER),
)
_WINDOW_FIELD = Field("sliding_window", "window", WHOLE)
_LLAMA_BIASES = Kind(lambda value: (FLAG.read(value),) * 2, lambda values: values[0])

FAMILY = Family(
    model_type="llama",
    backbone="Llama",
    architecture="LlamaModel",
    prefix="model.",
    table={
        **embedding("backbone/token_embedding", "embed_tokens.weight"),
        **rms_norm(f"{_BLOCK}/attention_norm", f"{_LAYER}.input_layernorm"),
        **dense(f"{_BLOCK}/attention/query", f"{_LAYER}.self_attn.q_proj"),
        **dense(f"{_BLOCK}/attention/key", f"{_LAYER}.self_attn.k_proj"),
        **dense(f"{_BLOCK}/attention/value", f"{_LAYER}.self_attn.v_proj"),
        **dense(f"{_BLOCK}/attention/output", f"{_LAYER}.self_attn.o_proj"),
        **rms_norm(f"{_BLOCK}/feed_forward_norm", f"{_LAYER}.post_attention_layernorm"),
        **dense(f"{_BLOCK}/feed_forward/gate", f"{_LAYER}.mlp.gate_proj"),
        **dense(f"{_BLOCK}/feed_forward/expand", f"{_LAYER}.mlp.up_proj"),
        **dense(f"{_BLOCK}/feed_forward/contract", f"{_LAYER}.mlp.down_proj"),
        **rms_norm("backbone/final_norm", "norm"),
    },
    fields=(
        *_COMMON,
        Field("attention_bias", ("attention_bias", "attention_output_bias"), _LLAMA_BIASES),
        Field("mlp_bias", "use_bias", FLAG),
    ),
    defaults={
        "vocab_size": 32_000,
        "hidden_dim": 4096,
        "num_layers": 32,
        "num_heads": 32,
        "num_key_value_heads": lambda knobs: knobs.get("num_heads"),
        "intermediate_dim": 11_008,
        "max_positions": 2048,
        "activation": "silu",
        "layer_norm_epsilon": 1e-6,
        "rotary_theta": _THETA,
        "tie_embeddings": False,
    },
    # In how many slices a product of matrices is computed.
    no_effect=("pretraining_tp",),
    heads=(
        Head(
            "LlamaForCausalLM",
            "causal_lm",
            table={"head/projection/kernel": Source("lm_head.weight", TRANSPOSED)},
            tied={"lm_head.weight": "embed_tokens.weight"},
        ),
        Head("LlamaForSequenceClassification", "classification", dense("head/classifier", "score")),
        Head("LlamaForTokenClassification", "tokens", dense("head/classifier", "score")),
    ),
    known=(
        # The rotary frequencies, which older checkpoints hold as buffers.
        r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",
        r"qa_outputs\..*",
    ),
)


@dataclass(frozen=True)
class WindowedFamily(Family):
    """A family whose fields about windows mean something together only: they are put plainly, and then read."""

    plain: Callable[[Mapping[str, Any]], dict[str, Any]] = dict

    def knobs(
        self, config: Mapping[str, Any], settled: Collection[str] = (), ignore: Collection[str] = ()
    ) -> dict[str, Any]:
        """Return the fields of the kzoo config that config.json's fields stand for; see `Family.knobs`."""
        read = self.plain({name: value for name, value in config.items() if name not in ignore})
        ignored = {name: config[name] for name in ignore if name in config}
        return super().knobs({**read, **ignored}, settled, ignore)


def _plain_qwen2(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave of Qwen2's four fields `sliding_window` and `max_window_layers`, and those that cannot be understood."""
    plain = {"sliding_window": _WINDOW, "max_window_layers": _QWEN2_FIRST_WINDOW, **config}
    used, kinds = plain.get("use_sliding_window") or False, plain.get("layer_types")
    if isinstance(used, bool):
        plain.pop("use_sliding_window", None)
    if isinstance(kinds, list) and len(kinds) == plain.get("num_hidden_layers", _QWEN2_LAYERS):
        first = kinds.count(_FULL)
        if kinds == [_FULL] * first + [_SLIDING] * (len(kinds) - first):
            plain["max_window_layers"] = first
            used = used and first < len(kinds)
            del plain["layer_types"]
    if not used or plain["sliding_window"] is None:
        del plain["sliding_window"], plain["max_window_layers"]
    return plain


def _plain_mistral(config: Mapping[str, Any]) -> dict[str, Any]:
    """Say how far a token sees: nothing means 4,096, null everything."""
    return {"sliding_window": _WINDOW, **config}


def _named(model_type: str, name: str, plain: Any, **changes: Any) -> WindowedFamily:
    family = FAMILY.like(model_type, name, **changes)
    return WindowedFamily(**vars(family), plain=plain)


QWEN2 = _named(
    "qwen2",
    "Qwen2",
    _plain_qwen2,
    fields=(
        *_COMMON,
        _WINDOW_FIELD,
        Field(
            "max_window_layers",
            "window_from_layer",
            Kind(lambda value: WHOLE.read(value) or None, lambda first: first or 0),
        ),
        # These two are read above, unless they make no sense.
        Field("use_sliding_window", "window", Kind(FLAG.read, lambda window: window is not None)),
        Field("layer_types", ("window", "window_from_layer"), Kind(_refuse_order), written=False),
    ),
    defaults={
        **FAMILY.defaults,
        "vocab_size": 151_936,
        "num_key_value_heads": 32,
        "intermediate_dim": 22_016,
        "max_positions": 32_768,
    },
    fixed={"attention_bias": True},
    required={"use_mrope": False},
)

MISTRAL = _named(
    "mistral",
    "Mistral",
    _plain_mistral,
    fields=(*_COMMON, _WINDOW_FIELD),
    defaults={
        **FAMILY.defaults,
        "num_key_value_heads": 8,
        "intermediate_dim": 14_336,
        "max_positions": 131_072,
    },
)
