"""A tiny model of each family, and inputs for any model: what the registry-driven tests run."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kzoo.models import TransformerModel, create_model

VOCAB_SIZE = 300
MAX_POSITIONS = 32
# What the tests' tokenizers end a text with.
END_ID = 2

_TEXT = {"vocab_size": VOCAB_SIZE, "max_positions": MAX_POSITIONS}
_SIZE = {"hidden_dim": 16, "num_layers": 2, "num_heads": 2, "intermediate_dim": 24}

# For each architecture a variant, and the numbers that make it tiny.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Bert": ("bert_tiny", {**_TEXT, **_SIZE}),
    "Albert": ("albert_base_v2", {**_TEXT, **_SIZE, "embedding_dim": 12}),
    "DistilBert": ("distilbert_base", {**_TEXT, **_SIZE}),
    "Electra": ("electra_small", {**_TEXT, **_SIZE, "embedding_dim": 12}),
    # Padding as the tokenizers of the tests have it.
    "Roberta": ("roberta_base", {**_TEXT, **_SIZE, "padding_id": 0}),
    "GPT2": ("gpt2_small", {**_TEXT, **_SIZE}),
    # The second block alone has a window.
    "Llama": (
        "llama_micro",
        {**_TEXT, **_SIZE, "num_key_value_heads": 1, "window": 6, "window_from_layer": 1},
    ),
    "Transformer": ("transformer_tiny", {**_TEXT, **_SIZE}),
    "Marian": ("marian_base", {**_TEXT, **_SIZE, "num_decoder_layers": 1, "num_decoder_heads": 4}),
    "Bart": ("bart_base", {**_TEXT, **_SIZE, "num_decoder_layers": 1, "decoder_intermediate_dim": 20}),
    "T5": ("t5_v1_1_small", {"vocab_size": VOCAB_SIZE, **_SIZE, "num_decoder_layers": 3, "head_dim": 6}),
    "ViT": ("vit_micro_patch4_32", {**_SIZE, "image_size": 8}),
    "DeiT": ("deit_tiny_distilled_patch16_224", {**_SIZE, "image_size": 8, "patch_size": 4}),
    "CCT": ("cct_2_3x2_32", {**_SIZE, "image_size": 8, "convolution_dim": 5}),
    "CLIP": (
        "clip_base_patch32",
        {
            **_TEXT,
            **_SIZE,
            "image_size": 8,
            "patch_size": 4,
            "vision_hidden_dim": 12,
            "vision_num_layers": 1,
            "vision_num_heads": 3,
            "vision_intermediate_dim": 20,
            "projection_dim": 10,
            "end_id": END_ID,
        },
    ),
}


def tiny(family: str, **overrides: Any) -> TransformerModel:
    """Build a family's tiny model."""
    name, knobs = FAMILIES[family]
    return create_model(name, **{**knobs, **overrides})


def family_of(variant: str) -> str:
    """Return the architecture of a variant, told from one layer of it."""
    # As many heads as any variant has for keys and values, which divide them.
    knobs = {"hidden_dim": 16, "num_layers": 1, "num_heads": 8, "intermediate_dim": 8}
    return type(create_model(variant, **knobs).backbone).__name__


def shaken(model: TransformerModel, seed: int = 0, by: float = 0.2) -> TransformerModel:
    """Move every weight away from where it starts, so that a forgotten bias or norm shows."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        value = keras.ops.convert_to_numpy(variable.value).astype("float32")
        variable.assign(value + by * rng.normal(size=value.shape).astype("float32"))
    return model


def make_inputs(
    model: TransformerModel, batch: int = 3, length: int = 9, seed: int = 0
) -> dict[str, np.ndarray]:
    """Return inputs for a model by its signature; rows are padded on the right, the first is whole."""
    rng = np.random.default_rng(seed)
    # The two sequences of an encoder-decoder have lengths of their own.
    sizes = {"batch": batch, "sequence": length, "decoder_sequence": length + 2}
    # So have the numbers of texts and images.
    sizes |= {"texts": batch, "images": batch + 1}
    inputs: dict[str, np.ndarray] = {}
    for name, spec in model.signature().items():
        shape = tuple(sizes[size] if isinstance(size, str) else size for size in spec.shape)
        if name == "attention_mask":
            real = length - 2 * np.arange(batch)[:, None]
            inputs[name] = (np.arange(length)[None] < np.maximum(real, 1)).astype("int32")
        elif name == "token_type_ids":
            inputs[name] = rng.integers(0, 2, shape).astype("int32")
        elif spec.dtype == "int64":
            inputs[name] = rng.integers(0, VOCAB_SIZE, shape).astype("int32")
        else:
            inputs[name] = rng.normal(size=shape).astype(spec.dtype)
    if getattr(model.backbone.config, "end_id", None) is not None:
        last = inputs["attention_mask"].sum(axis=1) - 1
        inputs["input_ids"][np.arange(batch), last] = END_ID
    return inputs


def outputs(model: TransformerModel, inputs: Any) -> dict[str, np.ndarray]:
    """Call the model, and return its outputs as float32 arrays."""
    return {
        name: keras.ops.convert_to_numpy(keras.ops.cast(value, "float32"))
        for name, value in model(inputs).items()
    }
