"""Gradient checkpointing: a layer run again in the backward pass instead of keeping all that it computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


def recomputed(layer: keras.layers.Layer, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return `function(*arguments)`, of which only the arguments are kept for the backward pass (Chen et al., 2016).

    Dropout draws the same masks both times.

    Args:
        layer: what `function` runs: all variables that it reads are this layer's.
        function: whose result is one tensor.
        *arguments: tensors, structures of tensors, or anything else; gradients reach those of floating point, as
            they reach the layer's weights.
    """
    # `keras.remat` calls the function twice, and what a seed generator gives changes from call to call. So inside,
    # all variables stand for the tensors that they hold now: both calls see the same seeds, and gradients reach
    # weights as they do any other tensor, on every backend. The seeds' next states come out as results.
    generators = [getattr(part, "seed_generator", None) for part in layer._flatten_layers()]
    states = [generator.state for generator in generators if generator is not None]
    weights = layer.trainable_variables
    others = [(variable, variable.value) for variable in layer.non_trainable_weights]
    # Copies, since TensorFlow and torch write a variable's next value over the one it gave out.
    others += [(state, keras.ops.copy(state.value)) for state in states]
    leaves = keras.tree.flatten(arguments)
    places = [place for place, leaf in enumerate(leaves) if _is_differentiable(leaf)]

    def run(*tensors: Any) -> tuple[Any, ...]:
        given = list(leaves)
        for place, tensor in zip(places, tensors[len(weights) :], strict=True):
            given[place] = tensor
        mapping = [*others, *zip(weights, tensors[: len(weights)], strict=True)]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            result = function(*keras.tree.pack_sequence_as(arguments, given))
            return result, *(scope.get_current_value(state) for state in states)

    tensors = (*(weight.value for weight in weights), *(leaves[place] for place in places))
    result, *seeds = keras.remat(run)(*tensors)
    for state, seed in zip(states, seeds, strict=True):
        state.assign(seed)
    return result


def _is_differentiable(leaf: Any) -> bool:
    return keras.ops.is_tensor(leaf) and "float" in keras.backend.standardize_dtype(leaf.dtype)
