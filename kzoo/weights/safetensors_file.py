"""A checkpoint's folder: config.json, and tensors one at a time from or to one safetensors file or several."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kzoo.errors import KzooError

CONFIG_FILE, DECODING_FILE = "config.json", "generation_config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


class Checkpoint:
    """A folder in the common checkpoint format.

    Nothing is read into memory before it is asked for, and nothing is ever unpickled.

    Args:
        directory: a folder with config.json and model.safetensors, or model.safetensors.index.json and the
            files that it names.

    Raises:
        KzooError: it is no such folder, or a file of it is missing, damaged, or of a kind that is not read.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        if not self.directory.is_dir():
            raise KzooError(f"'{directory}' is not a folder: a checkpoint is one, with config.json in it.")
        self.config = read_json(self.directory / CONFIG_FILE)
        decoding = self.directory / DECODING_FILE
        self.decoding = read_json(decoding) if decoding.is_file() else {}
        self._files = self._find_tensors()

    @property
    def names(self) -> list[str]:
        """The tensors' names, as the files have them."""
        return list(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one tensor."""
        return self._files[name].shape

    def read(self, name: str) -> np.ndarray:
        """Return one tensor, read-only: a view of the memory-mapped file.

        bfloat16 comes back as float32, which holds every one of its values, in memory.

        Raises:
            KzooError: the tensor's dtype is not one of float16, bfloat16, float32 and float64.
        """
        return self._files[name].read(name)

    def _find_tensors(self) -> dict[str, _Tensor]:
        index_file = self.directory / INDEX_FILE
        if (self.directory / WEIGHTS_FILE).is_file():
            return _tensors_of(self.directory / WEIGHTS_FILE)
        if not index_file.is_file():
            raise KzooError(self._why_no_weights())
        weight_map = read_json(index_file).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise KzooError(f"{index_file} has no weight_map, which says which file holds which tensor.")
        files: dict[str, _Tensor] = {}
        for shard in sorted({str(value) for value in weight_map.values()}):
            if Path(shard).name != shard or not shard.endswith(".safetensors"):
                raise KzooError(
                    f"{index_file} names '{shard}', which is no safetensors file of its own folder."
                )
            files |= _tensors_of(self.directory / shard)
        absent = sorted(set(weight_map) - set(files))
        if absent:
            raise KzooError(
                f"{index_file} names {len(absent)} tensors that its files do not hold, the first '{absent[0]}': "
                "the download is not whole."
            )
        return files

    def _why_no_weights(self) -> str:
        pickles = sorted(file.name for file in self.directory.iterdir() if file.suffix in _PICKLES)
        if not pickles:
            return f"{self.directory} has no {WEIGHTS_FILE}: fetch it beside config.json."
        return (
            f"{self.directory} has no {WEIGHTS_FILE}, only {', '.join(pickles[:3])}. Such files are pickles: to open "
            "one is to run whatever program it holds, so kzoo does not. Most publishers offer model.safetensors "
            "too; else convert the file where you trust it."
        )


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        KzooError: there is no such file, or it holds something else.
    """
    return _read(path, dict, "object")


def read_json_list(path: Path) -> list[Any]:
    """Return the list in a JSON file.

    Raises:
        KzooError: there is no such file, or it holds something else.
    """
    return _read(path, list, "list")


def _read(path: Path, kind: type, name: str) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KzooError(f"{path.parent} has no {path.name}: fetch it from where the weights came.") from None
    except (OSError, ValueError) as error:
        raise KzooError(f"{path} cannot be read: {error}.") from None
    if not isinstance(content, kind):
        raise KzooError(f"{path} holds no JSON {name}.")
    return content


class _Tensor(NamedTuple):
    """Where a tensor is stored: bytes `start` to `stop` of a file."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    def read(self, name: str) -> np.ndarray:
        """Return its values; `name` is for the error."""
        if self.dtype not in _DTYPES:
            raise KzooError(
                f"{self.path}: the tensor '{name}' is stored as {self.dtype}; kzoo reads F16, BF16, F32 and F64. "
                "Quantized checkpoints are not read: take the one they were made from."
            )
        if self.start == self.stop:
            return np.empty(self.shape, "float32")
        # Mapped anew for each tensor, so that the pages of those read before count for nothing.
        data = np.memmap(self.path, np.uint8, "r", self.start, self.stop - self.start).view(np.ndarray)
        values = data.view(_DTYPES[self.dtype]).reshape(self.shape)
        return (values.astype("<u4") << 16).view("<f4") if self.dtype == "BF16" else values


# numpy has no bfloat16: its numbers are the upper halves of float32 ones.
_DTYPES = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}
_LARGEST_HEADER = 100_000_000


def read_file(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return one file's tensors by name, read-only, and what else it says of itself.

    Raises:
        KzooError: there is no such file, it is damaged, or a tensor's dtype is not read.
    """
    said, tensors = _header_of(path)
    return {name: tensor.read(name) for name, tensor in tensors.items()}, said


def _tensors_of(path: Path) -> dict[str, _Tensor]:
    return _header_of(path)[1]


def _header_of(path: Path) -> tuple[dict[str, Any], dict[str, _Tensor]]:
    """Read a file's header, and believe nothing of it that its size does not bear out."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            (header_size,) = struct.unpack("<Q", file.read(8))
            if header_size > min(size - 8, _LARGEST_HEADER):
                raise ValueError(f"its header would have {header_size:,} bytes")
            header = json.loads(file.read(header_size))
        said = dict(header.pop("__metadata__", {}))
        return said, {
            name: _check_tensor(name, entry, path, 8 + header_size, size) for name, entry in header.items()
        }
    except FileNotFoundError:
        raise KzooError(f"{path.parent} has no {path.name}: the download is not whole.") from None
    except (OSError, struct.error, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise KzooError(f"{path} is damaged or cut short ({error}). Fetch it again.") from None


def _check_tensor(name: str, entry: Any, path: Path, base: int, size: int) -> _Tensor:
    dtype, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, start, stop)):
        raise ValueError(f"'{name}' has no shape")
    if stop < start or base + stop > size:
        raise ValueError(f"'{name}' lies outside the file")
    # The width of other dtypes matters to nobody, since they are not read.
    if dtype in _DTYPES and stop - start != math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize:
        raise ValueError(f"'{name}' has {stop - start} bytes, which are not {shape} of {dtype}")
    return _Tensor(path, str(dtype), shape, base + start, base + stop)


class Pending(NamedTuple):
    """A tensor to be written: its shape, its dtype by numpy's name, and what gives its values when asked."""

    shape: tuple[int, ...]
    dtype: str
    values: Callable[[], np.ndarray]

    @property
    def size(self) -> int:
        """Number of bytes."""
        return math.prod(self.shape) * _WIDTHS[self.dtype]


_CODES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}
_WIDTHS = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
SHARD_SIZE = 5_000_000_000


def write_tensors(directory: Path, tensors: Mapping[str, Pending], shard_size: int = SHARD_SIZE) -> None:
    """Write model.safetensors, one tensor in memory at a time; above `shard_size` bytes, several files and an index.

    Args:
        directory: an existing folder.
        tensors: by name, in the order in which they are stored.
        shard_size: most bytes of tensors in a file, unless one alone has more.
    """
    shards: list[dict[str, Pending]] = [{}]
    for name, tensor in tensors.items():
        if shards[-1] and sum(other.size for other in shards[-1].values()) + tensor.size > shard_size:
            shards.append({})
        shards[-1][name] = tensor
    if len(shards) == 1:
        write_file(directory / WEIGHTS_FILE, shards[0])
        return
    weight_map: dict[str, str] = {}
    for index, shard in enumerate(shards, start=1):
        file = f"model-{index:05}-of-{len(shards):05}.safetensors"
        write_file(directory / file, shard)
        weight_map |= dict.fromkeys(shard, file)
    total = {"total_size": sum(tensor.size for tensor in tensors.values())}
    write_json(directory / INDEX_FILE, {"metadata": total, "weight_map": weight_map})


def write_file(path: Path, tensors: Mapping[str, Pending], said: Mapping[str, str] | None = None) -> None:
    """Write one file, one tensor in memory at a time, with what else it says of itself."""
    # The original library asks for that word before it reads a file.
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(said or {})}}
    # The widest numbers first, so that all are aligned, as the format asks.
    ordered = sorted(tensors.items(), key=lambda item: -_WIDTHS[item[1].dtype])
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.size
        header[name] = {
            "dtype": _CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    content = json.dumps(header, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(content)) + content)
        for name, tensor in ordered:
            values = np.ascontiguousarray(tensor.values())
            if tensor.dtype == "bfloat16" and values.dtype == np.float32:
                values = (values.view("<u4") >> 16).astype("<u2")
            if values.nbytes != tensor.size:
                raise ValueError(f"'{name}' has {values.nbytes} bytes; {tensor.size} were announced")
            file.write(values.data if values.dtype.kind == "f" else values.view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, content: Any) -> None:
    """Write an object or a list into a JSON file."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
