"""Conversion in a child process on TensorFlow, for models that live on another backend or in another precision.

The child gets the model's config, its custom classes by value, and the weights of those few layers where their
values matter. It rebuilds the model, its other variables without values, converts it, and hands back graphs whose
weights are still inputs. The trained weights then come from the model itself.
"""

from __future__ import annotations

import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kzoo.errors import ExportError, MissingDependencyError
from kzoo.export.rebuilding import TRUSTED, custom_objects_of, float32_config
from kzoo.export.signatures import Signature
from kzoo.export.skeleton import Skeleton

REQUEST, RESULT = "request.pkl", "result.pkl"
# Where KerasHub decides how its layers attend.
KERASHUB_UTILS = "keras_hub.src.utils.keras_utils"


@dataclass(frozen=True)
class Request:
    """What the child is asked: a model to rebuild, and what to convert of it.

    `fused_attention` says whether KerasHub's layers attend by `ops.dot_product_attention` on the model's own backend.
    They do otherwise on TensorFlow, which differs for queries whose every key is masked. `variables` are the paths
    and shapes of the model's, in order: the rebuilt model's are matched with them. `values` are the weights of layers
    that make constants of them, as `load_own_variables` takes them, by their places among all layers.
    """

    config: dict[str, Any]
    custom_objects: dict[str, Any]
    signature: Signature | None
    serving: bool
    explained: bool
    fused_attention: bool
    variables: list[tuple[str, tuple[int, ...]]]
    values: dict[int, dict[str, Any]]
    target: str


def convert_in_child(
    model: keras.Model,
    signature: Signature | None,
    serving: bool,
    custom_objects: dict[str, Any] | None,
    target: str,
    folder: pathlib.Path,
    explained: bool = False,
) -> dict[str, Skeleton]:
    """Convert a model of any backend.

    Args:
        model: the model; its config, and those of its layers, must be complete.
        signature: how it is called, unless it is one of ours, which know.
        serving: whether to convert a bundle's graphs rather than the model as it is called.
        custom_objects: classes and functions by name that the config speaks of, beside those found in the model.
        target: where the graphs will run, one of `kzoo.export.layout.TARGETS`.
        folder: takes what the two processes tell each other, meanwhile.
        explained: whether to convert the graph of explanations too.

    Raises:
        ExportError: a constructor argument that cannot be serialised, or a conversion that failed.
    """
    try:
        import cloudpickle
        import tensorflow  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(f"Export needs {error.name}: pip install 'kzoo[export]'.") from error

    request = describe_model(model, signature, serving, custom_objects, target, explained)
    with tempfile.TemporaryDirectory(prefix="handover-", dir=folder) as place:
        directory = pathlib.Path(place)
        with (directory / REQUEST).open("wb") as file:
            cloudpickle.dump(request, file)
        del request
        return _run_child(directory)


def describe_model(
    model: keras.Model,
    signature: Signature | None,
    serving: bool,
    custom_objects: dict[str, Any] | None = None,
    target: str = "any",
    explained: bool = False,
) -> Request:
    """Return what the child is asked; the arguments are those of `convert_in_child`."""
    return Request(
        config=float32_config(model),
        custom_objects={**custom_objects_of(model), **(custom_objects or {})},
        signature=signature,
        serving=serving,
        explained=explained,
        fused_attention=_kerashub_attends_fused(),
        variables=[(variable.path, tuple(variable.shape)) for variable in model.variables],
        values=_values_that_matter(model),
        target=target,
    )


def _run_child(directory: pathlib.Path) -> dict[str, Skeleton]:
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # The modules that the model's classes come from must be found there as they are here.
        "PYTHONPATH": os.pathsep.join(entry or str(pathlib.Path.cwd()) for entry in sys.path),
    }
    child = subprocess.run(
        [sys.executable, "-m", "kzoo.export.child", str(directory)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    result = directory / RESULT
    if not result.is_file():
        raise ExportError(
            f"The conversion on TensorFlow ended with code {child.returncode}:\n{child.stderr.strip()[-2000:]}"
        )
    answer = pickle.loads(result.read_bytes())
    if isinstance(answer, str):
        raise ExportError(answer)
    return answer


def _kerashub_attends_fused() -> bool:
    module = sys.modules.get(KERASHUB_UTILS)
    return module is not None and module.fused_attention_op_available()


def _values_that_matter(model: keras.Model) -> dict[int, dict[str, Any]]:
    """Return the weights of the layers that make constants of them when they are loaded, as of adapted statistics.

    Of the others only the shapes are traced, and no value need be anywhere but in the model itself.
    """
    values = {}
    for place, layer in enumerate(model._flatten_layers()):
        loader = next(kind for kind in type(layer).__mro__ if "load_own_variables" in vars(kind))
        if hasattr(layer, "finalize_state") or loader.__module__.split(".")[0] not in TRUSTED:
            layer.save_own_variables(store := _Store())
            values[place] = dict(store)
    return values


class _Store(dict[str, Any]):
    """What a layer saves its variables in, as arrays."""

    def __setitem__(self, name: str, value: Any) -> None:
        array = np.asarray(keras.ops.convert_to_numpy(value))
        super().__setitem__(name, array.astype("float32") if array.dtype.name == "bfloat16" else array)
