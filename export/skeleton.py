"""What a conversion yields: a graph whose weights are still inputs."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx


@dataclass(frozen=True)
class Skeleton:
    """An ONNX model without weights, and how it came about.

    Attributes:
        model: the graph.
        weights: the name of each input that is a weight, with the index of its Keras variable; those of several
            variables where it holds them side by side along their last axis.
        nodes_before: number of nodes before any were fused; 0 where nothing tried to.
        fused: how many nodes of each fused operation there are.
        unfused: what could have been fused and was not, with the reason.
        padding: inputs that say which tokens are padding, where the graph leaves those out.
        seconds: how long each stage of the conversion took.
        caution: what was not done to the graph, in a few words; empty where all was.
        alternatives: the same graph with less done to it, for the case that what was done was wrong.
    """

    model: onnx.ModelProto
    weights: dict[str, tuple[int, ...]]
    nodes_before: int = 0
    fused: dict[str, int] = field(default_factory=dict)
    unfused: list[str] = field(default_factory=list)
    padding: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    caution: str = ""
    alternatives: list[Skeleton] = field(default_factory=list)
