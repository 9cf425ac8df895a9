"""Put a model's trained weights into a converted graph, under their Keras paths, one at a time.

A graph holds its weights declared, without their values, until they are written: no more than one of them is in
memory beside the model's own. What was written is read back the same way, its weights mapped from the file.
"""

from __future__ import annotations

import itertools
import math
import mmap
import pathlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import keras
import numpy as np
import onnx

from kzoo.export.editing import all_nodes
from kzoo.runtime.protobuf import read_fields

# Protobuf refuses messages of 2 GiB; beyond this, weights go into a file beside the graph.
EXTERNAL_DATA_BYTES = 1_900_000_000
# Smaller tensors stay in the graph, where its readers find the constants that they fold.
_SMALLEST_OUTSIDE = 1024
# How much of a weight is copied at a time.
_PIECE_BYTES = 16 * 2**20
# Where a file may be mapped from, on every system.
_PAGE = 65_536

# Fields of ONNX' messages: ModelProto.graph, GraphProto.initializer, TensorProto.raw_data; all of wire type 2.
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9


@dataclass(frozen=True)
class Weight:
    """A weight of a graph, in its own shape: one Keras variable, or several side by side along their last axis."""

    variables: tuple[Any, ...]
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """Its dtype in the graph: reduced precision is stored as float32."""
        dtype = keras.backend.standardize_dtype(self.variables[0].dtype)
        return np.dtype(dtype if dtype in ("float64", "bool") or "int" in dtype else "float32")

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def path(self) -> str:
        """Its Keras path."""
        return _joint_path([variable.path for variable in self.variables])

    def pieces(self) -> Iterator[np.ndarray]:
        """Yield its value, copied from the model's: a large one by some rows at a time."""
        values = [variable.value for variable in self.variables]
        if self.size <= _PIECE_BYTES or any(tuple(value.shape[:1]) != self.shape[:1] for value in values):
            yield self._join(values, self.shape[:-1])
            return
        rows = max(1, _PIECE_BYTES * self.shape[0] // self.size)
        for start in range(0, self.shape[0], rows):
            count = min(rows, self.shape[0] - start)
            yield self._join([value[start : start + count] for value in values], (count, *self.shape[1:-1]))

    def _join(self, values: list[Any], leading: tuple[int, ...]) -> np.ndarray:
        arrays = [keras.ops.convert_to_numpy(value) for value in values]
        if len(arrays) == 1:
            return np.ascontiguousarray(arrays[0], self.dtype)
        return np.concatenate([array.reshape(*leading, -1) for array in arrays], axis=-1, dtype=self.dtype)


@dataclass(frozen=True)
class _Stored:
    """A weight of a graph that lies in a file."""

    array: np.ndarray

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.array.nbytes

    def pieces(self) -> Iterator[np.ndarray]:
        """Yield its value, mapped."""
        yield self.array


def stored_values(tensor: onnx.TensorProto, folder: pathlib.Path | None = None) -> np.ndarray:
    """Return the numbers of a graph's weight.

    Args:
        tensor: the weight.
        folder: where its file is, if the graph is from `mapped`; the numbers stay there, to be read when used.
    """
    if tensor.data_location != onnx.TensorProto.EXTERNAL or folder is None:
        return onnx.numpy_helper.to_array(tensor)
    place = {entry.key: entry.value for entry in tensor.external_data}
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    offset, shape = int(place.get("offset", 0)), tuple(tensor.dims)
    return np.memmap(folder / place["location"], dtype, "r", offset, shape)


def declare(
    proto: onnx.ModelProto, weights: Mapping[str, tuple[int, ...]], variables: list[Any]
) -> dict[str, Weight]:
    """Turn a graph's weight inputs into initializers that have no values yet.

    Args:
        proto: the graph, changed in place.
        weights: names of the inputs that are weights, each with the indices of the variables that it holds side by
            side along their last axis, mostly one.
        variables: the trained model's Keras variables, of any backend.

    Returns:
        The weights by the names of their initializers, for `save`.
    """
    declared: dict[str, Weight] = {}
    names = {}
    shapes = {value.name: value.type.tensor_type.shape for value in proto.graph.input}
    for name, indices in weights.items():
        shape = tuple(size.dim_value for size in shapes[name].dim)
        weight = Weight(tuple(variables[index] for index in indices), shape)
        path = weight.path
        names[name] = path if path not in declared else "_".join([path, *map(str, indices)])
        declared[names[name]] = weight
    for node in all_nodes(proto.graph):
        node.input[:] = [names.get(name, name) for name in node.input]
    inputs = [value for value in proto.graph.input if value.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    for name, weight in declared.items():
        dtype = onnx.helper.np_dtype_to_tensor_dtype(weight.dtype)
        proto.graph.initializer.append(onnx.TensorProto(name=name, data_type=dtype, dims=weight.shape))
    return declared


def _joint_path(paths: list[str]) -> str:
    """Return the path of weights that are stored as one: their common parent, and what each is there."""
    if len(paths) == 1:
        return paths[0]
    parts = [path.split("/") for path in paths]
    same = itertools.takewhile(lambda step: len(set(step)) == 1, zip(*parts, strict=False))
    return "/".join([*(step[0] for step in same), parts[0][-1]])


def save(
    proto: onnx.ModelProto,
    path: pathlib.Path,
    weights: Mapping[str, Weight] | None = None,
    folder: pathlib.Path | None = None,
) -> list[pathlib.Path]:
    """Write a graph, with its weights in `NAME.data` beside it if it is too large for one file.

    Args:
        proto: the graph.
        path: where to write it.
        weights: those that are declared and have no values.
        folder: where the others' values are, for a graph from `mapped`.

    Returns:
        The files written.
    """
    known: dict[str, Weight | _Stored] = dict(weights or {})
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            known[tensor.name] = _Stored(stored_values(tensor, folder))
    tensors = [_Tensor(tensor, known.get(tensor.name)) for tensor in proto.graph.initializer]
    graph = _without(proto.graph, "initializer").SerializeToString()
    rest = _without(proto, "graph").SerializeToString()
    files = [path]
    if len(graph) + len(rest) + sum(tensor.size for tensor in tensors) >= EXTERNAL_DATA_BYTES:
        files.append(path.with_name(f"{path.name}.data"))
        with files[-1].open("wb") as file:
            for tensor in tensors:
                if tensor.size >= _SMALLEST_OUTSIDE:
                    tensor.write_outside(file)
    with path.open("wb") as file:
        length = len(graph) + sum(
            len(_head(_INITIALIZER, tensor.length)) + tensor.length for tensor in tensors
        )
        file.write(rest + _head(_GRAPH, length) + graph)
        for tensor in tensors:
            file.write(_head(_INITIALIZER, tensor.length))
            tensor.write_inside(file)
    return files


class _Tensor:
    """An initializer on its way into a file."""

    def __init__(self, proto: onnx.TensorProto, weight: Weight | _Stored | None) -> None:
        self._proto, self._weight = _without(proto, "external_data", "data_location"), weight
        self._message = _without(self._proto, "raw_data").SerializeToString()
        # The bytes of its numbers, and of those that stay in the graph.
        self.size = self._inside = weight.size if weight else len(proto.raw_data)

    @property
    def length(self) -> int:
        """The length of its message in the graph."""
        head = len(_head(_RAW_DATA, self._inside)) if self._inside else 0
        return len(self._message) + head + self._inside

    def write_outside(self, file: BinaryIO) -> None:
        """Write its numbers into a file beside the graph."""
        file.write(bytes(-file.tell() % _PAGE) if self.size >= _PAGE else b"")
        place = {"location": pathlib.Path(file.name).name, "offset": file.tell(), "length": self.size}
        self._message = _outside(_without(self._proto, "raw_data"), place).SerializeToString()
        self._write_numbers(file)
        self._inside = 0

    def write_inside(self, file: BinaryIO) -> None:
        """Write its message, with those of its numbers that are not outside."""
        file.write(self._message)
        if self._inside:
            file.write(_head(_RAW_DATA, self._inside))
            self._write_numbers(file)

    def _write_numbers(self, file: BinaryIO) -> None:
        if self._weight is None:
            file.write(self._proto.raw_data)
            return
        for piece in self._weight.pieces():
            file.write(piece.reshape(-1).view("uint8").data)


def mapped(path: pathlib.Path) -> onnx.ModelProto:
    """Read a graph without the numbers of its weights, which then stand for places in the file.

    The result is small, whatever the graph's size. ONNX Runtime maps the weights when it opens the result's bytes and
    is told, by `session.model_external_initializers_file_folder_path`, the folder that `path` is in.
    """
    rest, graph, tensors = bytearray(), bytearray(), []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for number, start, payload, end in read_fields(data, 0, len(data)):
            if number != _GRAPH:
                rest += data[start:end]
                continue
            for inner, inner_start, inner_payload, inner_end in read_fields(data, payload, end):
                if inner == _INITIALIZER:
                    tensors.append(_mapped_tensor(path.name, data, inner_payload, inner_end))
                else:
                    graph += data[inner_start:inner_end]
    proto = onnx.ModelProto.FromString(bytes(rest))
    proto.graph.MergeFromString(bytes(graph))
    proto.graph.initializer.extend(tensors)
    return proto


def _mapped_tensor(location: str, data: mmap.mmap, first: int, last: int) -> onnx.TensorProto:
    message = bytearray()
    place = None
    for number, start, payload, end in read_fields(data, first, last):
        if number == _RAW_DATA and end - payload >= _SMALLEST_OUTSIDE:
            place = {"location": location, "offset": payload, "length": end - payload}
        else:
            message += data[start:end]
    tensor = onnx.TensorProto.FromString(bytes(message))
    return _outside(tensor, place) if place else tensor


def _outside(tensor: onnx.TensorProto, place: Mapping[str, object]) -> onnx.TensorProto:
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _without(message: Any, *left_out: str) -> Any:
    """Return a copy of a message without some of its fields, which are not copied."""
    copy = type(message)()
    for field, value in message.ListFields():
        if field.name in left_out:
            continue
        if field.is_repeated:
            getattr(copy, field.name).extend(value)
        elif field.message_type is not None:
            getattr(copy, field.name).CopyFrom(value)
        else:
            setattr(copy, field.name, value)
    return copy


def _head(field: int, length: int) -> bytes:
    """Return what stands before a field of wire type 2: its number and its length."""
    head = bytearray([field << 3 | 2])
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head)
