"""Put a model's trained weights into a converted graph, under their Keras paths."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import onnx

# Protobuf refuses messages of 2 GiB; beyond this, weights go into a file beside the graph.
EXTERNAL_DATA_BYTES = 1_900_000_000


def fill(proto: onnx.ModelProto, weights: dict[str, int], variables: list[Any]) -> None:
    """Turn a graph's weight inputs into initializers.

    Args:
        proto: the graph, changed in place.
        weights: names of the inputs that are weights, each with the index of its variable.
        variables: the trained model's Keras variables, of any backend.
    """
    names: dict[str, str] = {}
    for name, index in weights.items():
        path = variables[index].path
        names[name] = path if path not in names.values() else f"{path}_{index}"
    for node in proto.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    inputs = [value for value in proto.graph.input if value.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    for name, index in weights.items():
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(variables[index].value))
        if array.dtype not in (np.float32, np.float64) and array.dtype.kind not in "iub":
            array = array.astype("float32")
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, names[name]))


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
