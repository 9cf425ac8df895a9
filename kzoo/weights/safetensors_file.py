"""Read a checkpoint's folder: config.json, and tensors one at a time from one safetensors file or several."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.errors import KzooError, MissingDependencyError

CONFIG_FILE = "config.json"
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
            raise KzooError(
                f"'{directory}' is not a folder. Checkpoints are read from a local folder that holds config.json "
                "and model.safetensors: download it first, and give the folder's path."
            )
        self.config = read_json(self.directory / CONFIG_FILE)
        self._files = self._find_tensors()

    @property
    def names(self) -> list[str]:
        """The tensors' names, as the files have them."""
        return list(self._files)

    def read(self, name: str) -> np.ndarray:
        """Return one tensor; bfloat16 comes back as float32, which holds every one of its values.

        Raises:
            KzooError: the tensor's dtype is not one of float16, bfloat16, float32 and float64.
        """
        path = self._files[name]
        with _open(path) as file:
            part = file.get_slice(name)
            dtype, shape = part.get_dtype(), part.get_shape()
            if dtype in ("F16", "F32", "F64"):
                return file.get_tensor(name)
        if dtype == "BF16":
            return _read_bfloat16(path, name, shape)
        raise KzooError(
            f"{path}: the tensor '{name}' is stored as {dtype}; kzoo reads F16, BF16, F32 and F64. Quantized "
            "checkpoints are not read: take the one they were made from."
        )

    def _find_tensors(self) -> dict[str, Path]:
        index_file = self.directory / INDEX_FILE
        if (self.directory / WEIGHTS_FILE).is_file():
            return _tensors_of(self.directory / WEIGHTS_FILE)
        if not index_file.is_file():
            raise KzooError(self._why_no_weights())
        weight_map = read_json(index_file).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise KzooError(f"{index_file} has no weight_map, which says which file holds which tensor.")
        files: dict[str, Path] = {}
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
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KzooError(f"{path.parent} has no {path.name}: fetch it from where the weights came.") from None
    except (OSError, ValueError) as error:
        raise KzooError(f"{path} cannot be read: {error}.") from None
    if not isinstance(content, dict):
        raise KzooError(f"{path} holds no JSON object.")
    return content


def _open(path: Path) -> Any:
    try:
        import safetensors
    except ImportError as error:
        raise MissingDependencyError(
            "Reading checkpoints needs the safetensors package: pip install 'kzoo[train]'."
        ) from error
    try:
        return safetensors.safe_open(path, framework="np")
    except FileNotFoundError:
        raise KzooError(f"{path.parent} has no {path.name}: the download is not whole.") from None
    except (OSError, safetensors.SafetensorError) as error:
        raise KzooError(f"{path} is damaged or cut short ({error}). Fetch it again.") from None


def _tensors_of(path: Path) -> dict[str, Path]:
    with _open(path) as file:
        return dict.fromkeys(file.keys(), path)


def _read_bfloat16(path: Path, name: str, shape: list[int]) -> np.ndarray:
    """Read what numpy has no dtype for: the upper halves of float32 numbers."""
    with path.open("rb") as file:
        (header_size,) = struct.unpack("<Q", file.read(8))
        start, end = json.loads(file.read(header_size))[name]["data_offsets"]
        file.seek(8 + header_size + start)
        halves = np.frombuffer(file.read(end - start), "<u2")
    return (halves.astype("<u4") << 16).view("<f4").reshape(shape)
