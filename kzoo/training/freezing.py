"""Which of a model's weights train: all, those above a depth, or more and more of them from the top."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from typing import Any

import keras

from kzoo.errors import KzooError, did_you_mean
from kzoo.training.optimizers import LayeredAdamW

# Layers of a backbone outside its blocks that come after them: what a head begins with, and the last blocks' norms.
# All others are what makes the first block's inputs.
_HEADS = re.compile(r"^backbone/(pooler|text_projection|vision_projection)/")
_LAST_NORMS = re.compile(r"/(final|encoder|decoder)_norm/")
_FROZEN = ("embeddings", "backbone")


def layer_depths(model: Any) -> dict[str, int]:
    """Return how far below the top each weight of a model is, by its path in the model.

    0 is the head with the pooler; 1 the last block and the norm after it, 2 the block before it, and so on, each
    stack of blocks counted from its own top; what makes the first block's inputs is the deepest.

    Args:
        model: a model of the zoo.

    Raises:
        KzooError: another model, which has no backbone.

    Example:
        >>> import kzoo
        >>> depths = layer_depths(kzoo.models.bert_tiny(vocab_size=10))
        >>> depths["head/classifier/bias"], depths["backbone/block_1/attention_norm/beta"]
        (0, 1)
        >>> depths["backbone/block_0/attention_norm/beta"], max(depths.values())
        (2, 3)
    """
    stacks = _stacks(model)
    depths: dict[str, int] = {}
    deepest = max(map(len, stacks)) + 1
    within = {id(weight) for weight in model.backbone.weights}
    for weight in model.weights:
        path = path_in_model(weight)
        if id(weight) not in within or _HEADS.search(path):
            depths[path] = 0
        else:
            depths[path] = 1 if _LAST_NORMS.search(path) else deepest
    for blocks in stacks:
        for depth, block in enumerate(reversed(blocks), start=1):
            depths |= dict.fromkeys((path_in_model(weight) for weight in block.weights), depth)
    return depths


def path_in_model(thing: Any) -> str:
    """Return the path of a layer or variable without the name of the model, which differs from one to the next."""
    return re.sub(r"^[^/]+/(?=(backbone|head)/)", "", str(thing.path))


def _stacks(model: Any) -> list[list[Any]]:
    """Return a model's blocks, each stack in the order in which they run."""
    if not hasattr(model, "backbone") or not hasattr(model.backbone, "all_blocks"):
        raise KzooError(
            f"'{model.name}' is no model of the zoo: which of its layers are blocks cannot be told. Set "
            "`layer.trainable = False` yourself."
        )
    stacks: dict[str, dict[int, Any]] = defaultdict(dict)
    for block in model.backbone.all_blocks():
        stack, _, index = block.path.rpartition("_")
        stacks[stack][int(index)] = block
    return [[blocks[index] for index in sorted(blocks)] for blocks in stacks.values()]


def freeze(model: Any, what: str | int) -> int:
    """Keep a part of a model as it is while the rest trains.

    Compile the model after it: one that has trained already is back at its defaults.

    Args:
        model: a model of the zoo.
        what: `"embeddings"`, what makes the first block's inputs; a number, these and so many of the lowest blocks
            (of each stack, where there are several); `"backbone"`, all but the head and the pooler.

    Returns:
        How many parameters still train.

    Raises:
        KzooError: there is no such part, or nothing would be left to train.
    """
    stacks, depths = _stacks(model), layer_depths(model)
    most = max(map(len, stacks))
    if isinstance(what, str) and what not in _FROZEN:
        raise KzooError(
            f"freeze='{what}' is none of 'embeddings', 'backbone' and a number of blocks."
            f"{did_you_mean(what, _FROZEN)}"
        )
    if not isinstance(what, str) and not 0 < what <= most:
        raise KzooError(f"freeze={what}: the model has {most} blocks; give a number from 1 to {most}.")
    first = 1 if what == "backbone" else most + 1
    for weight in model.weights:
        if depths[path_in_model(weight)] >= first:
            weight.trainable = False
    lowest = 0 if isinstance(what, str) else what
    for weight in (weight for blocks in stacks for block in blocks[:lowest] for weight in block.weights):
        weight.trainable = False
    if not model.trainable_variables:
        raise KzooError(
            f"freeze={what!r} leaves nothing to train: task='{model.task}' has no weights of its own."
        )
    forget_compiled(model)
    return count_trainable(model)


def unfreeze(model: keras.Model) -> None:
    """Let all weights train again, but those of layers whose own `trainable` is False; compile as after `freeze`."""
    for layer in model._flatten_layers():
        for variable in layer._trainable_variables if layer.trainable else ():
            variable.trainable = True
    forget_compiled(model)


def count_trainable(model: keras.Model) -> int:
    """Return how many of a model's parameters train."""
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def forget_compiled(model: Any) -> None:
    """Drop what was compiled for the variables that a model had, or trained, before they were changed."""
    model.train_function = model.test_function = model.predict_function = None
    if model.optimizer is not None and model.optimizer.built:
        # Its state is that of other variables.
        model.compile_defaults()


class GradualUnfreezing(keras.callbacks.Callback):
    """Trains the head first, then a block more, from the top, every few epochs (Howard and Ruder, 2018, section 3.3).

    The model is compiled with an optimizer of `make_optimizer(..., depths=layer_depths(model), gradual=True)`, which
    holds the deeper weights still, to the bit. How far it has come is part of the optimizer's state, so that a
    training that is loaded from a checkpoint goes on as it would have done.

    Args:
        epochs: how many go by from one block to the next.

    Raises:
        KzooError: the number makes no sense, or, at the start of training, the optimizer is another.
    """

    # `trainable` stays true for all: the three backends each compile a training step for the variables that train,
    # JAX's takes no other number of them than the optimizer was built for, and the state of those to come must be in
    # the checkpoints. Zero gradients and a zero rate are exact; the price is a backward pass through all blocks.

    def __init__(self, epochs: int = 1) -> None:
        super().__init__()
        if epochs < 1:
            raise KzooError(f"epochs={epochs}: give 1 or more from one block to the next.")
        self.epochs = epochs

    def on_train_begin(self, logs: Any = None) -> None:
        """Check the optimizer."""
        optimizer = self._optimizer()
        if not isinstance(optimizer, LayeredAdamW) or not optimizer.gradual:
            raise KzooError(
                "GradualUnfreezing needs an optimizer that can hold weights still: compile the model with "
                "make_optimizer(schedule, depths=layer_depths(model), gradual=True)."
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Hold the depths whose time has not come, and begin with those whose has."""
        optimizer = self._optimizer()
        if not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        optimizer.train_depths(1 + epoch // self.epochs)

    def _optimizer(self) -> Any:
        # Keras wraps it where losses are scaled for float16.
        return getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
