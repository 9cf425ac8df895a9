"""The child process of `kzoo.export.handover`: `python -m kzoo.export.child FOLDER`, on TensorFlow."""

from __future__ import annotations

import importlib
import itertools
import pathlib
import pickle
import sys

import keras
import numpy as np

from kzoo.errors import ExportError
from kzoo.export.conversion import convert
from kzoo.export.handover import KERASHUB_UTILS, REQUEST, RESULT, WEIGHTS, Request
from kzoo.export.signatures import Signature, model_graphs
from kzoo.export.skeleton import Skeleton


def _rebuild(request: Request, weights: pathlib.Path) -> keras.Model:
    # The config is the parent's own model, so its lambdas are as trusted as its code.
    keras.config.enable_unsafe_deserialization()
    if request.fused_attention:
        _attend_fused()
    try:
        model = keras.saving.deserialize_keras_object(request.config, custom_objects=request.custom_objects)
        if request.signature is not None and not model.built:
            _call_once(model, request.signature)
        if weights.exists():
            model.load_weights(weights)
    except Exception as error:
        raise ExportError(
            f"The model cannot be rebuilt from its config, which export needs on this backend: {error}\n"
            "Give each custom layer a get_config() that returns its constructor's arguments."
        ) from error
    for variable, shape in itertools.zip_longest(model.variables, request.shapes):
        if variable is None or tuple(variable.shape) != shape:
            path = "one that is missing" if variable is None else f"'{variable.path}'"
            raise ExportError(
                f"The model rebuilt from its config has other weights, the first being {path}: "
                "let each custom layer's get_config() return all of its constructor's arguments."
            )
    return model


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
        model = _rebuild(request, directory / WEIGHTS)
        graphs = model_graphs(model, request.signature, request.serving)
        return {role: convert(graph, model.variables) for role, graph in graphs.items()}
    except ExportError as error:
        return str(error)


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    (folder / RESULT).write_bytes(pickle.dumps(_answer(folder)))
