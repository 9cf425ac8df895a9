"""LoRA: a few low-rank adapters train, and the model stands still (Hu et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kzoo.errors import KzooError, did_you_mean
from kzoo.training.freezing import count_trainable, forget_compiled, layer_depths, path_in_model, unfreeze


def add_lora(
    model: Any, rank: int, alpha: float | None = None, targets: Sequence[str] = ("query", "value")
) -> int:
    """Give a model's projections adapters, and let only these and the head train.

    Compile the model after it: one that has trained already is back at its defaults.

    An adapter adds `alpha / rank * x @ A @ B` to a projection of `x`; B starts as zeros, so that the model begins as
    it was.

    Args:
        model: a model of the zoo, built.
        rank: columns of A, and rows of B.
        alpha: how much adapters count; as the rank unless given, a factor of 1.
        targets: names of the projections in the blocks: `"query"`, `"key"`, `"value"`, `"output"`, `"expand"`,
            `"contract"`, and `"gate"` where there is one.

    Returns:
        How many parameters train.

    Raises:
        KzooError: there are no such projections, a number makes no sense, or the model has adapters.

    Example:
        >>> import kzoo
        >>> model = kzoo.models.bert_tiny(vocab_size=10)
        >>> add_lora(model, rank=4), model.count_params()
        (20866, 484738)
    """
    if adapted_layers(model):
        raise KzooError(f"'{model.name}' has adapters: merge them first, by merge_lora(model).")
    if rank < 1 or (alpha is not None and alpha <= 0):
        raise KzooError(f"rank={rank}, alpha={alpha}: give a rank of 1 or more, and an alpha above 0.")
    depths = layer_depths(model)
    layers = [layer for block in model.backbone.all_blocks() for layer in adaptable_layers(block)]
    names = {layer.name for layer in layers}
    for target in targets:
        if target not in names:
            raise KzooError(f"No projection is called '{target}'.{did_you_mean(target, sorted(names))}")
    if not targets:
        raise KzooError(f"targets is empty: name some of {', '.join(sorted(names))}.")
    for weight in model.weights:
        weight.trainable = weight.trainable and depths[path_in_model(weight)] == 0
    for layer in layers:
        if layer.name in targets:
            layer.enable_lora(rank, lora_alpha=alpha)
    forget_compiled(model)
    return count_trainable(model)


def merge_lora(model: Any) -> None:
    """Fold a model's adapters into its kernels, so that it is a plain one again, all of whose weights train.

    It is back at its default compile.

    Raises:
        KzooError: the model has no adapters.
    """
    layers = adapted_layers(model)
    if not layers:
        raise KzooError(f"'{model.name}' has no adapters to merge: add_lora(model, rank=...) gives it some.")
    for layer in layers:
        layer.merge_lora()
    unfreeze(model)


def adaptable_layers(layer: Any) -> list[Any]:
    """Return the projections in a model or layer that can have adapters, and be folded again."""
    return [each for each in layer._flatten_layers() if hasattr(each, "merge_lora")]


def adapted_layers(model: Any) -> list[Any]:
    """Return those that have adapters."""
    return [layer for layer in adaptable_layers(model) if layer.lora_enabled]


def fine_tuning_state(model: Any) -> dict[str, Any]:
    """Return what a model's config says of its adapters and of the weights that stand still, where there are any."""
    adapters = {path_in_model(layer): [layer.lora_rank, layer.lora_alpha] for layer in adapted_layers(model)}
    frozen = [path_in_model(weight) for weight in model.weights if not weight.trainable]
    state = {"adapters": adapters, "frozen": frozen}
    return {key: value for key, value in state.items() if value}


def restore_fine_tuning(model: Any, adapters: dict[str, list[Any]], frozen: list[str]) -> None:
    """Give a new model the adapters, and keep still the weights, that `fine_tuning_state` told of."""
    for layer in adaptable_layers(model):
        if (numbers := adapters.get(path_in_model(layer))) is not None:
            layer.enable_lora(numbers[0], lora_alpha=numbers[1])
    for weight in model.weights:
        weight.trainable = weight.trainable and path_in_model(weight) not in frozen
