"""The bundle's manifest: what a reader must know to run its graphs, and the hashes to trust them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from kzoo.vision import ImagePreprocessing

FORMAT_VERSION = 2
MANIFEST_FILE = "manifest.json"
TOKENIZER_FILE = "tokenizer.json"
GOLDEN_FILE = "golden.npz"
# The role of the graph that explains what another one gives.
EXPLANATION = "explanation"

# Names of files inside a bundle: one level deep, no separators, so that no path escapes the folder.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


# Sizes of tensors; what is larger than this could not be run.
Size = Annotated[int, Field(ge=0, lt=2**31)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(_Section):
    """A graph's input or output: name, numpy dtype, and a shape whose free dimensions are names."""

    name: str
    dtype: str = Field(pattern=r"^(bool|u?int(8|16|32|64)|float(16|32|64))$")
    shape: list[Size | str]


class GraphSpec(_Section):
    """One ONNX file: `model.onnx`, or `encoder.onnx` and `decoder.onnx` for encoder-decoders."""

    file: FileName
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]


class TextPreprocessing(_Section):
    """How strings become token ids: the tokenizer's file and the most tokens the model can take."""

    tokenizer: FileName = TOKENIZER_FILE
    max_length: int = Field(gt=0)


class GenerationDefaults(_Section):
    """Token ids and limits that decoding starts from; a call may override `max_new_tokens`.

    With `ends_at_limit` the last token that the limit leaves room for is the end token.
    """

    start_id: int | None = None
    end_id: int | None = None
    max_new_tokens: int = Field(default=128, gt=0)
    ends_at_limit: bool = False


class FileRecord(_Section):
    """Size in bytes and sha256 of one file of the bundle."""

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """The contents of `manifest.json`.

    `graphs` is keyed by role: `model`, or `encoder` and `decoder`. `files` records every other file in the
    bundle. `thresholds` are the least scores of the labels that are given, in the order of `labels`, where there may
    be any number of them. `examples` are texts to try it with, or pairs of texts if it takes pairs. `metrics` holds
    what was measured at export (largest difference to Keras, task scores).
    """

    model_config = ConfigDict(extra="forbid")

    format_version: int = FORMAT_VERSION
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    task: str
    graphs: dict[str, GraphSpec]
    labels: list[str] | None = None
    thresholds: list[Annotated[float, Field(ge=0, le=1)]] | None = None
    examples: list[str | tuple[str, str]] | None = None
    text: TextPreprocessing | None = None
    image: ImagePreprocessing | None = None
    generation: GenerationDefaults | None = None
    opset: int
    tolerance: float = Field(default=1e-4, gt=0, allow_inf_nan=False)
    versions: dict[str, str]
    metrics: dict[str, float] = {}
    files: dict[FileName, FileRecord] = {}
