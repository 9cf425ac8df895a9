"""What LoRA trained, as a small file of its own: adapters and head without the model that they belong to."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

from kzoo.errors import KzooError, did_you_mean
from kzoo.models.base import TransformerModel
from kzoo.replace import replacing
from kzoo.training.freezing import forget_compiled, path_in_model
from kzoo.training.lora import adaptable_layers, adapted_layers, restore_fine_tuning
from kzoo.weights import Pending, read_file, write_file

_A, _B = "/lora_kernel_a", "/lora_kernel_b"


def save_adapters(model: TransformerModel, path: str | os.PathLike[str]) -> None:
    """Write the weights that train in a model with adapters, these and the head, as a safetensors file.

    Args:
        model: one that `kzoo.training.add_lora` gave adapters.
        path: the file; its tensors are called as the variables' paths in the model.

    Raises:
        KzooError: the model has no adapters, or they count unequally.
    """
    layers = adapted_layers(model)
    if not layers:
        raise KzooError(
            f"'{model.name}' has no adapters to save: kzoo.training.add_lora(model, rank=...) gives it some."
        )
    alphas = {float(layer.lora_alpha) for layer in layers}
    if len(alphas) > 1:
        raise KzooError(f"The adapters have different alphas, {sorted(alphas)}: a file can say only one.")
    tensors = {
        path_in_model(weight): Pending(tuple(weight.shape), "float32", partial(_as_float, weight))
        for weight in model.trainable_weights
    }
    target = pathlib.Path(path)
    with replacing(target, is_file=True) as folder:
        write_file(folder / target.name, tensors, {"alpha": str(alphas.pop())})


def _as_float(weight: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(weight, "float32")))


def load_adapters(model: TransformerModel, path: str | os.PathLike[str]) -> None:
    """Put what `save_adapters` wrote into a model of the same shape; one without adapters gets them first.

    Raises:
        KzooError: the file is none, or is of another model: another path, rank, alpha or shape.
    """
    file = pathlib.Path(path)
    tensors, said = read_file(file)
    try:
        alpha = float(said["alpha"])
    except (KeyError, ValueError, TypeError):
        raise KzooError(
            f"{file} holds no adapters: `kzoo.models.save_adapters` writes files that do."
        ) from None
    wanted = {
        name.removesuffix(_A): (int(values.shape[1]), alpha)
        for name, values in tensors.items()
        if name.endswith(_A) and values.ndim == 2
    }
    shapes = {path_in_model(weight): tuple(weight.shape) for weight in model.weights}
    found = {
        path_in_model(layer): (int(layer.lora_rank), float(layer.lora_alpha))
        for layer in adapted_layers(model)
    }
    if found:
        _check_adapters(file, found, wanted)
    else:
        adaptable = {path_in_model(layer) for layer in adaptable_layers(model)}
        for name, (rank, _) in wanted.items():
            if name in adaptable:
                width, units = shapes[f"{name}/kernel"]
                shapes |= {name + _A: (width, rank), name + _B: (rank, units)}
    for name, values in tensors.items():
        if name not in shapes:
            raise KzooError(f"{file} has '{name}', which the model has not.{did_you_mean(name, shapes)}")
        if values.shape != shapes[name]:
            raise KzooError(f"{file}: '{name}' has shape {values.shape}; the model's has {shapes[name]}.")
    if not found:
        frozen = [name for name in shapes if name not in tensors]
        restore_fine_tuning(model, {name: list(numbers) for name, numbers in wanted.items()}, frozen)
        forget_compiled(model)
    for weight in model.weights:
        if (name := path_in_model(weight)) in tensors:
            weight.assign(tensors[name])


def _check_adapters(
    file: pathlib.Path, found: Mapping[str, tuple[int, float]], wanted: Mapping[str, tuple[int, float]]
) -> None:
    """Refuse adapters in other places, or with other numbers, than the model's."""
    for name in sorted(found.keys() ^ wanted.keys()):
        has, has_not = ("the model", file) if name in found else (file, "the model")
        raise KzooError(f"{has} has an adapter of '{name}', {has_not} has none: add_lora had other targets.")
    for name, numbers in wanted.items():
        if numbers != found[name]:
            raise KzooError(
                f"{file}: the adapter of '{name}' has rank {numbers[0]} and alpha {numbers[1]:g}; the model's "
                f"has rank {found[name][0]} and alpha {found[name][1]:g}."
            )
