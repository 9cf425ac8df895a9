"""The child process of `kzoo.export.handover`: `python -m kzoo.export.child FOLDER`, on TensorFlow."""

from __future__ import annotations

import importlib
import itertools
import pathlib
import pickle
import sys
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state

from kzoo.errors import ExportError
from kzoo.export.conversion import convert
from kzoo.export.handover import KERASHUB_UTILS, REQUEST, RESULT, Request
from kzoo.export.signatures import Signature, model_graphs
from kzoo.export.skeleton import Skeleton


def rebuild(request: Request) -> keras.Model:
    """Return the model anew; its variables have values only where those matter.

    Raises:
        ExportError: its config does not do.
    """
    # The config is the parent's own model, so its lambdas are as trusted as its code.
    keras.config.enable_unsafe_deserialization()
    if request.fused_attention:
        _attend_fused()
    try:
        model = _rebuild_without_values(request)
        if model is None:
            model = _deserialize(request)
        layers = model._flatten_layers()
        for place, layer in enumerate(layers):
            if place in request.values:
                _initialize(layer.variables)
                layer.load_own_variables(request.values[place])
    except Exception as error:
        raise ExportError(
            f"The model cannot be rebuilt from its config, which export needs on this backend: {error}\n"
            "Give each custom layer a get_config() that returns its constructor's arguments."
        ) from error
    return model


def _deserialize(request: Request) -> keras.Model:
    model = keras.saving.deserialize_keras_object(request.config, custom_objects=request.custom_objects)
    if request.signature is not None and not model.built:
        _call_once(model, request.signature)
    return model


def _rebuild_without_values(request: Request) -> keras.Model | None:
    """Return the model, its variables only declared; None where a layer cannot be built without them."""
    try:
        # Inside this scope Keras makes variables without values.
        with keras.StatelessScope(initialize_variables=False):
            model = _deserialize(request)
    except Exception:
        # Layers are numbered by the process, and their numbers are part of the variables' paths.
        keras.utils.clear_session()
        keras.config.enable_unsafe_deserialization()
        return None
    declared = global_state.get_global_attribute("uninitialized_variables", [])
    # Else Keras would initialize them all when it next leaves such a scope.
    global_state.set_global_attribute("uninitialized_variables", [])
    own = {id(variable) for variable in model.variables}
    _initialize(variable for variable in declared if id(variable) not in own)
    return model


def _initialize(variables: Iterable[Any]) -> None:
    for variable in variables:
        if variable._value is None:
            variable._deferred_initialize()


def _matched(model: keras.Model, wanted: list[tuple[str, tuple[int, ...]]]) -> list[Any]:
    """Return the rebuilt model's variables in the order of the original's, which depends on the backend.

    Raises:
        ExportError: the two models differ.
    """
    by_path = {variable.path: variable for variable in model.variables}
    paths = [path for path, _ in wanted]
    if _named(paths) == _named(by_path) and len(by_path) == len(wanted) == len(set(paths)):
        seeds = iter([variable for path, variable in by_path.items() if path.endswith(_SEED)])
        variables = [next(seeds) if path.endswith(_SEED) else by_path[path] for path in paths]
    else:
        # Layers that a model makes for itself are numbered otherwise in another process.
        variables = model.variables
    found = [(variable.path, tuple(variable.shape)) for variable in variables]
    for here, there in itertools.zip_longest(wanted, found, fillvalue=("nothing", ())):
        if here[1] != there[1] or "nothing" in (here[0], there[0]):
            raise ExportError(
                f"The model rebuilt from its config has other weights: '{here[0]}' {here[1]} became '{there[0]}' "
                f"{there[1]}. Let each custom layer's get_config() return all of its constructor's arguments."
            )
    return variables


# A layer that draws random numbers counts its generator under a number of the process.
_SEED = "seed_generator_state"


def _named(paths: Iterable[str]) -> set[str]:
    return {path for path in paths if not path.endswith(_SEED)}


def _attend_fused() -> None:
    """Let KerasHub's layers attend here as on the model's own backend."""
    name = "fused_attention_op_available"
    own = getattr(importlib.import_module(KERASHUB_UTILS), name)
    for path, module in list(sys.modules.items()):
        if path.startswith("keras_hub.") and vars(module).get(name) is own:
            setattr(module, name, lambda: True)


def _call_once(model: keras.Model, signature: Signature) -> None:
    """Build a subclassed model the way it was built at first: by calling it."""
    arrays = {
        name: np.zeros([2 if isinstance(size, str) else size for size in spec.shape], spec.dtype)
        for name, spec in signature.inputs.items()
    }
    model(signature.arguments(arrays))


def _answer(directory: pathlib.Path) -> dict[str, Skeleton] | str:
    request = pickle.loads((directory / REQUEST).read_bytes())
    try:
        model = rebuild(request)
        variables = _matched(model, request.variables)
        graphs = model_graphs(model, request.signature, request.serving, request.explained)
        return {role: convert(graph, variables, request.target) for role, graph in graphs.items()}
    except ExportError as error:
        return str(error)


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    (folder / RESULT).write_bytes(pickle.dumps(_answer(folder)))
