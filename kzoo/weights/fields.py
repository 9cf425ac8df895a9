"""What the fields of a config.json mean: kinds of values, and fields that change no result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """How a field's value becomes a knob's, and back.

    `read` raises a ValueError, which says what is wrong, for a value that kzoo cannot honour.
    """

    read: Callable[[Any], Any]
    write: Callable[[Any], Any] = lambda value: value


class Field(NamedTuple):
    """A field of config.json and the kzoo knob that it sets.

    Attributes:
        name: as config.json has it; `"text_config.hidden_size"` stands in a section.
        knob: of the kzoo config. With a tuple of knobs the kind reads and writes a tuple of values; with an
            empty one the field is only checked.
        kind: of its value.
        written: False for the other names of a field, which are read, and not written.
    """

    name: str
    knob: str | tuple[str, ...]
    kind: Kind
    written: bool = True

    @property
    def knobs(self) -> tuple[str, ...]:
        """The knobs that it sets."""
        return (self.knob,) if isinstance(self.knob, str) else self.knob

    def read(self, value: Any) -> dict[str, Any]:
        """Return knobs and their values.

        Raises:
            ValueError: kzoo cannot honour the value.
        """
        result = self.kind.read(value)
        return dict(zip(self.knobs, (result,) if isinstance(self.knob, str) else result, strict=True))

    def write(self, knobs: Mapping[str, Any]) -> Any:
        """Return the field's value."""
        values = tuple(knobs[knob] for knob in self.knobs)
        return self.kind.write(values[0] if isinstance(self.knob, str) else values)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("it is not a whole number")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError("it is not a number")
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("it is neither true nor false")
    return value


def _square(value: Any) -> int:
    sides = list(value) if isinstance(value, (list, tuple)) else [value]
    if not sides or len(sides) > 2 or sides[0] != sides[-1]:
        raise ValueError("kzoo takes squares only")
    return _whole(sides[0])


# The names that the ecosystem gives to kzoo's activations; the first of each is the one written.
_ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "gelu_quick",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}


def _activation(value: Any) -> str:
    if not isinstance(value, str) or value not in _ACTIVATIONS:
        raise ValueError(f"kzoo has {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[value]


def _activation_name(value: str) -> str:
    return next(name for name, activation in _ACTIVATIONS.items() if activation == value)


WHOLE = Kind(_whole)
NUMBER = Kind(_number)
FLAG = Kind(_flag)
# The side of a square, written as one number or as two that agree.
SQUARE = Kind(_square)
ACTIVATION = Kind(_activation, _activation_name)


# Fields that change any family's arithmetic, with the one value that kzoo's models agree with. A family that
# honours one has a `Field` for it.
REQUIRED: dict[str, Any] = {
    "auto_map": None,
    "quantization_config": None,
    "pruned_heads": None,
    "is_decoder": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "cross_attention_hidden_size": None,
    "tie_encoder_decoder": False,
    "tie_word_embeddings": True,
}

# Fields that change nothing of what loaded weights compute.
NO_EFFECT = frozenset(
    {
        # Where a checkpoint comes from, and which classes of the original library hold it.
        *(
            "_name_or_path",
            "name_or_path",
            "_commit_hash",
            "architectures",
            "model_type",
            "transformers_version",
        ),
        *("tokenizer_class", "finetuning_task", "task_specific_params", "language", "license"),
        # What `from_pretrained` itself looks at.
        *("id2label", "label2id", "num_labels", "_num_labels", "problem_type"),
        # How fresh weights are drawn, and how training saves memory.
        *("initializer_range", "initializer_factor", "init_std", "gradient_checkpointing"),
        # In which form the original library computes and returns.
        *(
            "torch_dtype",
            "dtype",
            "use_bfloat16",
            "torchscript",
            "use_cache",
            "output_past",
            "output_attentions",
        ),
        *("output_hidden_states", "_output_attentions", "return_dict", "use_return_dict", "tf_legacy_loss"),
        *("keys_to_ignore_at_inference", "chunk_size_feed_forward", "xla_device", "attn_implementation"),
        *("_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal"),
        # Ids of tokens: the tokenizer knows them. (A family whose arithmetic uses one has a `Field` for it.)
        *("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "mask_token_id"),
        "decoder_start_token_id",
        # How texts are generated, which is not the model's to say.
        *("bad_words_ids", "begin_suppress_tokens", "diversity_penalty", "do_sample", "early_stopping"),
        *("encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "forced_bos_token_id"),
        *("forced_eos_token_id", "length_penalty", "max_length", "max_new_tokens", "min_length"),
        *("no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences", "output_scores"),
        *("prefix", "remove_invalid_values", "repetition_penalty", "return_dict_in_generate"),
        *("suppress_tokens", "temperature", "top_k", "top_p", "typical_p"),
    }
)


def flatten(config: Mapping[str, Any], sections: frozenset[str], prefix: str = "") -> dict[str, Any]:
    """Return the fields by name, those of the `sections` as `"section.name"`."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name in sections and isinstance(value, dict):
            flat |= flatten(value, sections, f"{name}.")
        else:
            flat[name] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `flatten` was given."""
    config: dict[str, Any] = {}
    for name, value in flat.items():
        *sections, last = name.split(".")
        inner = config
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return config
