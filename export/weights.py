"""Put a model's trained weights into a converted graph, under their Keras paths."""

from __future__ import annotations

import itertools
import pathlib
from typing import Any

import keras
import numpy as np
import onnx

# Protobuf refuses messages of 2 GiB; beyond this, weights go into a file beside the graph.
EXTERNAL_DATA_BYTES = 1_900_000_000


def fill(proto: onnx.ModelProto, weights: dict[str, tuple[int, ...]], variables: list[Any]) -> None:
    """Turn a graph's weight inputs into initializers.

    Args:
        proto: the graph, changed in place.
        weights: names of the inputs that are weights, each with the indices of the variables that it holds side by
            side along their last axis, mostly one.
        variables: the trained model's Keras variables, of any backend.
    """
    names: dict[str, str] = {}
    for name, indices in weights.items():
        path = _joint_path([variables[index].path for index in indices])
        names[name] = path if path not in names.values() else f"{path}_{indices[0]}"
    for node in proto.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    inputs = [value for value in proto.graph.input if value.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    for name, indices in weights.items():
        arrays = [_as_array(variables[index]) for index in indices]
        array = np.concatenate(arrays, axis=-1) if len(arrays) > 1 else np.ascontiguousarray(arrays[0])
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, names[name]))


def _joint_path(paths: list[str]) -> str:
    """Return the path of weights that are stored as one: their common parent, and what each is there."""
    if len(paths) == 1:
        return paths[0]
    parts = [path.split("/") for path in paths]
    same = itertools.takewhile(lambda step: len(set(step)) == 1, zip(*parts, strict=False))
    return "/".join([*(step[0] for step in same), parts[0][-1]])


def _as_array(variable: Any) -> np.ndarray:
    array = keras.ops.convert_to_numpy(variable.value)
    if array.dtype not in (np.float32, np.float64) and array.dtype.kind not in "iub":
        return array.astype("float32")
    return array


def save(proto: onnx.ModelProto, path: pathlib.Path) -> list[pathlib.Path]:
    """Write a graph, with its weights in `NAME.data` beside it if it is too large for one file.

    Returns:
        The files written.
    """
    if proto.ByteSize() < EXTERNAL_DATA_BYTES:
        onnx.save_model(proto, str(path))
        return [path]
    data = path.with_name(f"{path.name}.data")
    onnx.save_model(proto, str(path), save_as_external_data=True, location=data.name, size_threshold=1024)
    return [path, data]
