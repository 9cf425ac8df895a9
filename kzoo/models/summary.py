"""A model in numbers: parameters, shapes, FLOPs; all of them without a weight in memory."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras

from kzoo.layers import (
    ACTIVATIONS,
    Attention,
    ConvolutionalTokenizer,
    FeedForward,
    PatchEmbedding,
    PositionEmbedding,
    RelativePositionBias,
    TokenEmbedding,
    TransformerBlock,
)
from kzoo.models.backbone import Backbone
from kzoo.models.base import TransformerModel
from kzoo.models.heads import ImageTextSimilarityHead
from kzoo.models.licenses import license_of
from kzoo.models.registry import Design, design_of, get_variant
from kzoo.models.tasks import TASKS, HeadOptions

TEXT_LENGTH = 128


@dataclass(frozen=True)
class Part:
    """One part of a model, as a line of a table.

    `parameters` are those of one of the `times` that it stands there; `shared` says that all have the same weights.
    `parts` are a block's own.
    """

    name: str
    kind: str
    what: str
    parameters: int
    times: int = 1
    shared: bool = False
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Summary:
    """What `kzoo show` prints.

    `flops` are those of one example's forward pass at `length` tokens, a multiply-add counted as two; `inputs` and
    `outputs` map names to shapes, free axes by name.
    """

    name: str
    task: str
    license: str
    parameters: int
    flops: int
    length: int
    inputs: dict[str, list[int | str]]
    outputs: dict[str, list[int | str]]
    parts: list[Part]


@dataclass(frozen=True)
class Entry:
    """What `kzoo list` prints of a variant: its numbers without a head.

    `flops` are as in `Summary`; `input` says what it reads, and how much of it at most.
    """

    name: str
    description: str
    parameters: int
    flops: int
    length: int
    input: str
    license: str
    tasks: list[str]


def summarize(model: TransformerModel | str, task: str | None = None, length: int = TEXT_LENGTH) -> Summary:
    """Return the numbers of a model, or of the variant of that name, which is not built for it.

    Args:
        model: a model, or the name of a variant.
        task: for a variant's name: its task, its own default unless given.
        length: tokens of the text that FLOPs are counted for, at most the model's positions; an image has as many
            tokens as patches.

    Raises:
        KzooError: an unknown name or task.

    Example:
        >>> summarize("bert_tiny").parameters
        4386178
    """
    if isinstance(model, str):
        design = design_of(model, **({"task": task} if task else {}))
    else:
        options = {"name": model.name, "task": model.task, "num_classes": model.num_classes}
        design = Design(type(model.backbone), model.backbone.config, options)
    sketch = Sketch(design)
    return Summary(
        name=design.options["name"],
        task=design.options["task"],
        license=license_of(design.options["name"]),
        parameters=sketch.parameters(),
        flops=sketch.flops(length),
        length=_tokens(sketch.backbone, length),
        inputs={name: list(spec.shape) for name, spec in sketch.backbone.signature().items()},
        outputs=_output_shapes(design),
        parts=sketch.parts(),
    )


def describe(variant: str, length: int = TEXT_LENGTH) -> Entry:
    """Return what `kzoo list` says of a variant.

    Raises:
        KzooError: an unknown name.

    Example:
        >>> describe("gpt2_xl").parameters
        1557611200
    """
    design = design_of(variant, task="features")
    parameters, flops, tokens = _count(design, length)
    documentation = (get_variant(variant).__doc__ or "").strip()
    return Entry(
        name=variant,
        description=documentation.partition("\n")[0],
        parameters=parameters,
        flops=flops,
        length=tokens,
        input=_input(design.config),
        license=license_of(variant),
        tasks=list(design.backbone.tasks),
    )


class Sketch:
    """A model's layers without their weights, of which only the shapes are known.

    Args:
        design: what the model is made of.
    """

    def __init__(self, design: Design) -> None:
        self.task = TASKS[design.options["task"]]
        self.backbone = design.backbone(design.config, name="backbone")
        num_classes = design.options.get("num_classes") or design.backbone.num_classes
        self.head = self.task.head(self.backbone, HeadOptions(num_classes, "mean", -1, True))
        self._shapes: dict[int, list[tuple[int, ...]]] = {}
        for layer in self._all():
            layer.add_weight = functools.partial(self._note, layer)
        self.backbone.build()
        if self.head is not None:
            self.head.build((None, design.config.hidden_dim))

    def _note(self, layer: keras.layers.Layer, shape: Any = (), **options: Any) -> keras.KerasTensor:
        """Take the place of a layer's `add_weight`: remember the shape."""
        self._shapes.setdefault(id(layer), []).append(tuple(shape))
        return keras.KerasTensor(shape)

    def _all(self) -> Iterator[keras.layers.Layer]:
        for part in (self.backbone, self.head):
            if part is not None:
                yield from part._flatten_layers()

    def _own_shapes(self, layer: keras.layers.Layer) -> list[tuple[int, ...]]:
        # A head makes some layers only when it is built: small ones, which have their weights.
        noted = self._shapes.get(id(layer))
        return noted if noted is not None else [tuple(weight.shape) for weight in layer._trainable_variables]

    def parameters(self, *parts: Any) -> int:
        """Return how many parameters layers have together, each counted once; all of the model's if none is given."""
        given = (layer for part in parts for layer in part._flatten_layers())
        layers = _unique(given if parts else self._all())
        return sum(math.prod(shape) for layer in layers for shape in self._own_shapes(layer))

    # FLOPs: matrix products and convolutions, which all else is nothing to.

    def flops(self, length: int = TEXT_LENGTH) -> int:
        """Return the FLOPs of one example's forward pass."""
        return self._backbone_flops(self.backbone, length) + self._head_flops(_tokens(self.backbone, length))

    def _backbone_flops(self, backbone: Backbone, length: int) -> int:
        tokens = _tokens(backbone, length)
        blocks = [block for stack in _stacks(backbone) for block in stack]
        total = sum(_block_flops(block, tokens) for block in blocks)
        for layer in _children(backbone):
            if isinstance(layer, Backbone):
                total += self._backbone_flops(layer, length)
            elif isinstance(layer, PatchEmbedding):
                patches = (backbone.config.image_size // layer.patch_size) ** 2
                total += 2 * patches * self._products(layer)
            elif isinstance(layer, ConvolutionalTokenizer):
                total += self._tokenizer_flops(layer, backbone.config.image_size)
            elif isinstance(layer, keras.layers.Dense):
                total += 2 * (1 if _sees_one_token(layer) else tokens) * self._products(layer)
                if _weighs_tokens(layer):
                    total += 2 * tokens * backbone.config.hidden_dim
        return total

    def _head_flops(self, tokens: int) -> int:
        if self.head is None:
            return 0
        if isinstance(self.head, ImageTextSimilarityHead):
            return 2 * self.backbone.config.projection_dim
        products = sum(
            self._products(layer)
            for layer in self.head._flatten_layers(include_self=False)
            if isinstance(layer, keras.layers.Dense)
        )
        table = getattr(self.head, "token_embedding", None)
        if table is not None and not self._has_projection():
            products += table.input_dim * table.output_dim
        return 2 * products * (tokens if self.task.outputs_tokens else 1)

    def _products(self, layer: keras.layers.Layer) -> int:
        """Return the size of a layer's kernels, what one token is multiplied with."""
        shapes = (shape for part in layer._flatten_layers() for shape in self._own_shapes(part))
        return sum(math.prod(shape) for shape in shapes if len(shape) > 1)

    def _tokenizer_flops(self, layer: ConvolutionalTokenizer, side: int) -> int:
        total = 0
        for convolution in layer.convolutions:
            side = -(-side // convolution.strides[0])
            total += 2 * side**2 * self._products(convolution)
            side = -(-side // 2)
        return total

    # Parts.

    def parts(self) -> list[Part]:
        """Return the parts in the order in which the backbone makes them, embeddings first, the head last."""
        parts = list(self._backbone_parts(self.backbone))
        if self.head is not None:
            size = self.parameters(self.head) - self._shared_size(self.head)
            table = getattr(self.head, "token_embedding", None)
            tied = "" if table is None or self._has_projection() else f"{table.name} backwards"
            parts.append(Part("head", type(self.head).__name__, tied, size))
        return parts

    def _has_projection(self) -> bool:
        """Return whether a language model's head has a projection of its own, not the embeddings' table."""
        return getattr(self.head, "projection", None) is not None

    def _shared_size(self, head: keras.layers.Layer) -> int:
        """Return the parameters that the head has from the backbone."""
        inside = {id(layer) for layer in self.backbone._flatten_layers()}
        shared = [layer for layer in head._flatten_layers() if id(layer) in inside]
        return self.parameters(*shared) if shared else 0

    def _backbone_parts(self, backbone: Backbone, prefix: str = "") -> Iterator[Part]:
        stacks = {id(stack[0]): stack for stack in _stacks(backbone)}
        inside = {id(block) for stack in stacks.values() for block in stack}
        for layer in sorted(_children(backbone), key=_comes_later):
            if isinstance(layer, Backbone):
                yield from self._backbone_parts(layer, f"{prefix}{layer.name}/")
            elif id(layer) in stacks:
                stack = stacks[id(layer)]
                name = prefix + layer.name.rpartition("_")[0]
                inner = tuple(self._part(part.name, part) for part in _block_layers(stack[0]))
                yield Part(
                    name,
                    "TransformerBlock",
                    "",
                    self.parameters(stack[0]),
                    times=len(stack),
                    shared=len(stack) > 1 and stack[0] is stack[-1],
                    parts=inner,
                )
            elif id(layer) not in inside and self.parameters(layer):
                yield self._part(prefix + layer.name, layer)

    def _part(self, name: str, layer: keras.layers.Layer) -> Part:
        return Part(name, type(layer).__name__, self._what(layer), self.parameters(layer))

    def _what(self, layer: Any) -> str:
        """Return a layer's widths in words."""
        if isinstance(layer, Attention):
            shared = layer.num_key_value_heads
            keys = f", {shared} of keys and values" if shared != layer.num_heads else ""
            return f"{layer.num_heads} heads of {layer.head_dim}{keys}"
        if isinstance(layer, FeedForward):
            name = next(name for name, function in ACTIVATIONS.items() if function is layer.activation)
            gated = ", gated" if layer.gate is not None else ""
            return (
                f"{layer.hidden_dim:,} -> {layer.intermediate_dim:,} -> {layer.hidden_dim:,}, {name}{gated}"
            )
        if isinstance(layer, TokenEmbedding):
            return f"{layer.input_dim:,} x {layer.output_dim:,}"
        if isinstance(layer, PositionEmbedding):
            return f"{layer.max_positions:,} x {layer.hidden_dim:,}"
        if isinstance(layer, PatchEmbedding):
            return f"{layer.patch_size} x {layer.patch_size} x {layer.num_channels} -> {layer.hidden_dim:,}"
        if isinstance(layer, ConvolutionalTokenizer):
            return " -> ".join(f"{width:,}" for width in layer.widths) + ", convolutions"
        if isinstance(layer, keras.layers.Dense):
            return " -> ".join(f"{width:,}" for width in self._own_shapes(layer)[0])
        if isinstance(layer, RelativePositionBias):
            return f"{layer.num_buckets} distances x {layer.num_heads} heads"
        if isinstance(layer, keras.layers.LayerNormalization):
            return "layer norm"
        return "RMS norm" if isinstance(layer, keras.layers.RMSNormalization) else ""


def _unique(layers: Iterable[Any]) -> list[Any]:
    return list({id(layer): layer for layer in layers}.values())


def _children(backbone: Backbone) -> list[Any]:
    return _unique(backbone._flatten_layers(include_self=False, recursive=False))


def _comes_later(layer: keras.layers.Layer) -> bool:
    embeds = (TokenEmbedding, PositionEmbedding, PatchEmbedding, ConvolutionalTokenizer, RelativePositionBias)
    return not isinstance(layer, embeds)


def _stacks(backbone: Backbone) -> list[list[TransformerBlock]]:
    """Return the lists of blocks in the order in which they run, one that runs again and again as often."""
    lists = [value for value in vars(backbone).values() if isinstance(value, list)]
    return [value for value in lists if value and all(isinstance(item, TransformerBlock) for item in value)]


def _all_stacks(backbone: Backbone) -> list[tuple[Backbone, list[TransformerBlock]]]:
    """Return the stacks of a backbone and of those inside it, each with its owner."""
    inner = (layer for layer in _children(backbone) if isinstance(layer, Backbone))
    own = [(backbone, stack) for stack in _stacks(backbone)]
    return own + [pair for layer in inner for pair in _all_stacks(layer)]


def _block_layers(block: TransformerBlock) -> list[keras.layers.Layer]:
    """Return a block's sub-layers in the order in which they run."""
    layers = []
    for name in ("attention", "cross_attention", "feed_forward"):
        layer, norm, scale = (getattr(block, name + ending) for ending in ("", "_norm", "_scale"))
        layers += [norm, layer, scale] if block.norm_first else [layer, scale, norm]
    return [layer for layer in layers if layer is not None]


def _tokens(backbone: Backbone, length: int) -> int:
    """Return how many tokens one example has in the blocks."""
    if hasattr(backbone.config, "image_size") and not hasattr(backbone.config, "vocab_size"):
        return backbone.position_embedding.max_positions
    return min(length, getattr(backbone.config, "max_positions", None) or length)


def _sees_one_token(layer: keras.layers.Dense) -> bool:
    return layer.name != "embedding_projection" and not _weighs_tokens(layer)


def _weighs_tokens(layer: keras.layers.Dense) -> bool:
    # CCT's pooler gives each token its weight, for a product with the tokens' states; all others pool first.
    return layer.units == 1


def _block_flops(block: TransformerBlock, tokens: int) -> int:
    """Return a block's FLOPs; the memory of cross-attention has as many tokens."""
    network = block.feed_forward
    matrices = 2 if network.gate is None else 3
    total = matrices * 2 * tokens * network.hidden_dim * network.intermediate_dim
    for attention in (block.attention, block.cross_attention):
        if attention is not None:
            width = attention.num_heads * attention.head_dim
            keys = attention.num_key_value_heads * attention.head_dim
            total += 4 * tokens * attention.hidden_dim * (width + keys) + 4 * tokens**2 * width
    return total


def _depths(config: Any) -> dict[str, int]:
    """Return the fields that say how many blocks there are."""
    values = config.knobs()
    return {name: values[name] for name in values if "num_" in name and name.endswith("layers")}


def _shallow(config: Any) -> Any:
    """Return a config with one block a stack, and without dropout, whose random states take time to make."""
    rates = {
        field.name: 0.0
        for field in dataclasses.fields(config)
        if "dropout" in field.name or field.name == "drop_path"
    }
    return dataclasses.replace(config, **rates, **dict.fromkeys(_depths(config), 1))


@functools.cache
def _stack_fields(backbone: type[Backbone]) -> list[tuple[str, bool]]:
    """Return for each stack of an architecture the field that is its depth, and whether its blocks are one."""
    config = _shallow(backbone.Config())
    fields = dict(enumerate(_depths(config), start=2))
    config = dataclasses.replace(config, **{name: depth for depth, name in fields.items()})
    return [(fields[len(stack)], stack[0] is stack[1]) for _, stack in _all_stacks(backbone(config))]


def _count(design: Design, length: int) -> tuple[int, int, int]:
    """Return parameters, FLOPs and tokens, counted on one block a stack: every other is like it."""
    sketch = Sketch(design._replace(config=_shallow(design.config)))
    parameters, flops, depths = sketch.parameters(), sketch.flops(length), _depths(design.config)
    fields = _stack_fields(design.backbone)  # type: ignore[arg-type]  # mypy takes the class for unhashable
    stacks = zip(_all_stacks(sketch.backbone), fields, strict=True)
    for (owner, [block]), (field, shared) in stacks:
        others = depths[field] - 1
        parameters += 0 if shared else others * sketch.parameters(block)
        flops += others * _block_flops(block, _tokens(owner, length))
    return parameters, flops, _tokens(sketch.backbone, length)


def _input(config: Any) -> str:
    parts = []
    if hasattr(config, "vocab_size"):
        positions = getattr(config, "max_positions", None)
        parts.append(f"{positions:,} tokens" if positions else "tokens")
    if hasattr(config, "image_size"):
        parts.append(f"{config.image_size} x {config.image_size} x {config.num_channels}")
    return " and ".join(parts)


# A number of tokens that stands for a large vocabulary where only shapes matter; no width is a prime.
_SOME_TOKENS = 1_009


def _output_shapes(design: Design) -> dict[str, list[int | str]]:
    """Return the outputs' shapes, by calling a model of one block and few tokens on two sizes of zeros."""
    config, vocabulary = _shallow(design.config), getattr(design.config, "vocab_size", 0)
    if vocabulary > _SOME_TOKENS:
        config = dataclasses.replace(config, vocab_size=_SOME_TOKENS)
    model = TransformerModel(design.backbone(config, name="backbone"), **design.options)
    signature = model.signature()
    names = sorted({axis for spec in signature.values() for axis in spec.shape if isinstance(axis, str)})
    sizes = [{name: start + index for index, name in enumerate(names)} for start in (2, 7)]
    shapes = []
    for size in sizes:
        inputs = {
            name: keras.ops.zeros(
                [size[axis] if isinstance(axis, str) else axis for axis in spec.shape], spec.dtype
            )
            for name, spec in signature.items()
        }
        shapes.append({name: tuple(tensor.shape) for name, tensor in model(inputs).items()})

    def axis(first: int, second: int) -> int | str:
        if first == second:
            return vocabulary if first == _SOME_TOKENS else int(first)
        return next(name for name in names if (sizes[0][name], sizes[1][name]) == (first, second))

    return {
        name: [axis(*pair) for pair in zip(shapes[0][name], shapes[1][name], strict=True)]
        for name in shapes[0]
    }
