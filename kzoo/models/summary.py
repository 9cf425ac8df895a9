"""A model in numbers: parameters, shapes, FLOPs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from kzoo.layers import PatchEmbedding, TokenEmbedding, TransformerBlock
from kzoo.models.base import TransformerModel
from kzoo.models.heads import LanguageModelHead


@dataclass(frozen=True)
class Part:
    """One part of a model, as a line of a table."""

    name: str
    kind: str
    parameters: int


@dataclass(frozen=True)
class Summary:
    """What `kzoo show` prints.

    `flops` are those of one example's forward pass at `length` tokens, a multiply-add counted as two; `inputs` and
    `outputs` map names to shapes, free axes by name.
    """

    name: str
    task: str
    parameters: int
    flops: int
    length: int
    inputs: dict[str, list[int | str]]
    outputs: dict[str, list[int | str]]
    parts: list[Part]


def summarize(model: TransformerModel, length: int = 128) -> Summary:
    """Return a model's numbers.

    Args:
        model: the model.
        length: tokens of the text that FLOPs are counted for, at most the model's positions; an image has as many
            tokens as patches.

    Example:
        >>> import kzoo
        >>> summarize(kzoo.models.bert_tiny()).parameters
        4386178
    """
    config = model.backbone.config
    if hasattr(config, "image_size"):
        length = 1 + (config.image_size // config.patch_size) ** 2
    else:
        length = min(length, config.max_positions)
    return Summary(
        name=model.name,
        task=model.task,
        parameters=model.count_params(),
        flops=sum(_flops(layer, length) for layer in model._flatten_layers()),
        length=length,
        inputs={name: list(spec.shape) for name, spec in model.signature().items()},
        outputs=_output_shapes(model),
        parts=_parts(model),
    )


def _parts(model: TransformerModel) -> list[Part]:
    layers = list(model.backbone._flatten_layers(include_self=False, recursive=False))
    if model.head is not None:
        layers.append(model.head)
    shared = isinstance(model.head, LanguageModelHead)
    return [
        Part(layer.name, type(layer).__name__, 0 if shared and layer is model.head else layer.count_params())
        for layer in layers
        if layer.weights
    ]


def _flops(layer: Any, length: int) -> int:
    """Return a layer's own matrix products; blocks count their sub-layers'."""
    if isinstance(layer, TransformerBlock):
        width, inner = layer.hidden_dim, layer.feed_forward.intermediate_dim
        attention = 8 * length * width**2 + 4 * length**2 * width
        count = 2 if layer.cross_attention is not None else 1
        return count * attention + 4 * length * width * inner
    if isinstance(layer, PatchEmbedding):
        return 2 * (length - 1) * layer.patch_size**2 * layer.num_channels * layer.hidden_dim
    if isinstance(layer, LanguageModelHead):
        table: TokenEmbedding = layer.token_embedding
        return 2 * length * table.input_dim * table.output_dim
    if isinstance(layer, keras.layers.Dense) and layer.name in ("pooler", "classifier"):
        return 2 * layer.kernel.shape[0] * layer.kernel.shape[1]
    return 0


def _output_shapes(model: TransformerModel) -> dict[str, list[int | str]]:
    """Return the outputs' shapes, by calling the model on two sizes of zeros."""
    sizes = [
        {"batch": 1, "sequence": 3, "decoder_sequence": 4},
        {"batch": 2, "sequence": 5, "decoder_sequence": 7},
    ]
    shapes = []
    for size in sizes:
        inputs = {
            name: keras.ops.zeros(
                [size[axis] if isinstance(axis, str) else axis for axis in spec.shape], spec.dtype
            )
            for name, spec in model.signature().items()
        }
        shapes.append({name: tuple(tensor.shape) for name, tensor in model(inputs).items()})
    return {
        name: [
            _axis(first, second, sizes)
            for first, second in zip(shapes[0][name], shapes[1][name], strict=True)
        ]
        for name in shapes[0]
    }


def _axis(first: int, second: int, sizes: list[dict[str, int]]) -> int | str:
    if first == second:
        return int(first)
    return next(name for name in sizes[0] if (sizes[0][name], sizes[1][name]) == (first, second))
