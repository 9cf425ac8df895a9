"""What a conversion yields: a graph whose weights are still inputs."""

from __future__ import annotations

from dataclasses import dataclass

import onnx


@dataclass(frozen=True)
class Skeleton:
    """An ONNX model without weights; `weights` maps an input's name to the index of its Keras variable."""

    model: onnx.ModelProto
    weights: dict[str, int]
