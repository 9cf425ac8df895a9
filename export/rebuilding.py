"""A model anew from its config, in float32 whatever it computes in."""

from __future__ import annotations

import inspect
from typing import Any, cast

import keras

from kzoo.errors import ExportError
from kzoo.models import TransformerModel

# Whose classes are found by their names, and read no weights' values.
TRUSTED = ("keras", "kzoo", "keras_hub")


def in_float32(model: TransformerModel) -> TransformerModel:
    """Return a model of the same weights that computes in float32, without the tokenizer.

    Raises:
        ExportError: a layer whose arguments cannot be serialised.
    """
    config, classes = float32_config(model), custom_objects_of(model)
    made = cast(TransformerModel, keras.saving.deserialize_keras_object(config, custom_objects=classes))
    made.set_weights(model.get_weights())
    return made


def float32_config(model: keras.Model) -> dict[str, Any]:
    """Return a model's config with all dtype policies set to float32.

    Raises:
        ExportError: a layer whose arguments cannot be serialised.
    """
    try:
        config = keras.saving.serialize_keras_object(model)
    except Exception as error:
        raise ExportError(_unserializable(_culprit(model))) from error
    config.pop("compile_config", None)
    return _in_float32(config)


def _culprit(model: keras.Model) -> keras.layers.Layer:
    """Return the innermost layer whose config cannot be made."""
    culprit: keras.layers.Layer = model
    for layer in model._flatten_layers(include_self=False, recursive=False):
        try:
            keras.saving.serialize_keras_object(layer)
        except Exception:
            culprit = _culprit(layer)
            break
    return culprit


def _unserializable(layer: keras.layers.Layer) -> str:
    names = [
        name for name in inspect.signature(type(layer).__init__).parameters if name not in ("self", "kwargs")
    ]
    plain = (str, int, float, bool, type(None))
    culprits = [
        name
        for name in names
        if any(not isinstance(value, plain) for value in keras.tree.flatten(getattr(layer, name, None)))
    ]
    listed = ", ".join(f"'{name}'" for name in culprits or names)
    return (
        f"The layer '{layer.name}' ({type(layer).__name__}) cannot be rebuilt for export: its constructor "
        f"argument {listed} is not plain data. Write its get_config(), which returns the constructor's arguments, "
        "and from_config() if they need turning back; on the TensorFlow backend neither is needed."
    )


def _in_float32(config: Any) -> Any:
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {"name": "float32"}}
        return {
            key: "float32" if key == "dtype" and value in _REDUCED else _in_float32(value)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_in_float32(value) for value in config)
    return config


_REDUCED = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def custom_objects_of(model: keras.Model) -> dict[str, Any]:
    """Return the classes and functions of a model that are neither Keras' nor ours, by the names of its config."""
    objects: dict[str, Any] = {}
    item: Any
    for layer in model._flatten_layers():
        functions = [
            value
            for name, value in vars(layer).items()
            if inspect.isfunction(value) and not hasattr(type(layer), name)
        ]
        for item in [type(layer), *functions]:
            if item.__module__.split(".")[0] not in TRUSTED:
                objects[item.__name__] = item
                objects[keras.saving.get_registered_name(item)] = item
    return objects
