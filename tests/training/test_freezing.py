"""Freezing, gradual unfreezing and layer-wise learning rates: which weights move, when, and how far."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo import KzooError
from kzoo.models import TransformerModel
from kzoo.training import (
    GradualUnfreezing,
    LayeredAdamW,
    cosine_schedule,
    freeze,
    layer_depths,
    make_optimizer,
    unfreeze,
)
from tests.models.tiny import FAMILIES, make_inputs, shaken, tiny

LABELS = np.array([0, 1, 0])


def build(**knobs: Any) -> TransformerModel:
    keras.utils.set_random_seed(0)
    return shaken(tiny("Bert", dropout=0.0, attention_dropout=0.0, **knobs))


def compiled(model: TransformerModel, eager: bool = True, **knobs: Any) -> TransformerModel:
    """Compile for Keras, and unless `eager` for the machine too, which takes longer than a few steps do."""
    model.compile(
        optimizer=make_optimizer(cosine_schedule(1e-2, 100, 0), depths=layer_depths(model), **knobs),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=eager,
        jit_compile=not eager and keras.backend.backend() == "jax",
    )
    return model


def train(model: TransformerModel, steps: int = 2) -> None:
    for _ in range(steps):
        model.train_on_batch(make_inputs(model), LABELS)


def values(model: TransformerModel) -> dict[str, np.ndarray]:
    return {
        re.sub("^bert_tiny/", "", weight.path): np.array(keras.ops.convert_to_numpy(weight))
        for weight in model.weights
    }


def moved(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    return {path for path, value in before.items() if not np.array_equal(value, after[path])}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_of_every_family_has_its_depth(family: str) -> None:
    depths = layer_depths(tiny(family))
    for path, depth in depths.items():
        if block := re.match(r"(.*block_)(\d+)/", path):
            above = {int(other[1]) for other in re.finditer(rf"{block[1]}(\d+)/", "\n".join(depths))}
            assert depth == max(above) + 1 - int(block[2]), path
        elif re.search(r"^head/|pooler|(text|vision)_projection", path):
            assert depth == 0, path
        elif re.search(r"(final|encoder|decoder)_norm/", path):
            assert depth == 1, path
        else:
            assert re.search(r"embedding|relative_bias|_token/|patches|stem", path), path
            assert depth == max(depths.values()), path


@pytest.mark.parametrize(
    ("what", "stay"),
    [
        ("embeddings", r"_embedding/|embedding_norm"),
        (1, r"_embedding/|embedding_norm|block_0/"),
        ("backbone", r"_embedding/|embedding_norm|block_"),
    ],
)
def test_what_is_frozen_stays_to_the_bit_and_all_else_moves(what: str | int, stay: str) -> None:
    model = build()
    model.fit(
        make_inputs(model), LABELS, verbose=0
    )  # what was compiled for all weights is of no use any more
    count = freeze(model, what)
    before = values(model)
    free = {path for path in before if not re.search(stay, path)}
    assert count == sum(before[path].size for path in free)
    model.fit(make_inputs(model), LABELS, epochs=2, verbose=0)
    # The bias of keys shifts all scores of a query alike, which changes nothing.
    keys = {path for path in free if path.endswith("key/bias")}
    assert free - keys <= moved(before, values(model)) <= free


def test_a_frozen_model_is_saved_as_such(tmp_path: Path) -> None:
    model = build()
    freeze(model, 1)
    train(compiled(model, layer_decay=0.5))
    model.save(tmp_path / "model.keras")
    again = kzoo.models.load(tmp_path / "model.keras")
    before = values(again)
    train(model), train(again)
    assert not any(re.search("_embedding/|block_0/", path) for path in moved(before, values(again)))
    for path, value in values(model).items():
        np.testing.assert_allclose(values(again)[path], value, atol=1e-4)
    unfreeze(again)
    assert len(again.trainable_variables) == len(again.weights)


def test_a_model_that_was_compiled_for_all_its_weights_heeds_what_is_frozen_after() -> None:
    model = build(num_layers=1)
    inputs = make_inputs(model)
    model.fit(inputs, LABELS, verbose=0)
    freeze(model, "backbone")
    before = values(model)
    model.fit(inputs, LABELS, verbose=0)
    assert moved(before, values(model)) <= {path for path in before if re.search("^head/|pooler", path)}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("embedings", "Did you mean 'embeddings'"),
        (0, "give a number from 1 to 2"),
        (3, "give a number from 1 to 2"),
    ],
)
def test_parts_that_are_not_there_are_named(what: str | int, message: str) -> None:
    with pytest.raises(KzooError, match=message):
        freeze(build(), what)


def test_a_model_without_a_head_has_nothing_left_to_train() -> None:
    with pytest.raises(KzooError, match="leaves nothing to train"):
        freeze(build(task="embedding"), "backbone")


@pytest.mark.backend
@pytest.mark.parametrize("gradual", [True, False])
def test_depths_learn_and_decay_at_rates_of_their_own(gradual: bool) -> None:
    """Two updates with the same gradients as a plain optimizer at each depth's rate."""
    model = build()
    start, depths = values(model), layer_depths(model)
    rng = np.random.default_rng(0)
    gradients = [
        [rng.normal(size=weight.shape).astype("float32") for weight in model.weights] for _ in range(2)
    ]

    def after(optimizer: keras.optimizers.Optimizer) -> dict[str, np.ndarray]:
        for weight, value in zip(model.weights, start.values(), strict=True):
            weight.assign(value)
        for each in gradients:
            optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in each], model.weights)
        return values(model)

    # More decay than anybody takes, so that it shows.
    numbers: dict[str, Any] = {"weight_decay": 3.0, "clip_norm": None}
    schedule = cosine_schedule(1e-2, 100, 0)
    got = after(make_optimizer(schedule, depths=depths, layer_decay=0.6, gradual=gradual, **numbers))
    for depth in sorted(set(depths.values())):
        plain = after(make_optimizer(cosine_schedule(1e-2 * 0.6**depth, 100, 0), **numbers))
        for path, its_depth in depths.items():
            if its_depth == depth:
                np.testing.assert_allclose(got[path], plain[path], rtol=1e-5, atol=1e-6)


class Watch(keras.callbacks.Callback):
    """Notes which depths moved in each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.moved: list[set[int]] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.before = values(self.model)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        depths = layer_depths(self.model)
        self.moved.append({depths[path] for path in moved(self.before, values(self.model))})


@pytest.mark.backend
def test_a_block_more_is_trained_each_epoch_also_after_a_checkpoint(tmp_path: Path) -> None:
    model = compiled(build(), eager=False, gradual=True)
    watch, inputs = Watch(), make_inputs(model)
    model.fit(inputs, LABELS, epochs=2, verbose=0, callbacks=[GradualUnfreezing(), watch])
    model.save(tmp_path / "model.keras")
    again = kzoo.models.load(tmp_path / "model.keras")
    for each, watched in ((again, Watch()), (model, watch)):
        callbacks = [GradualUnfreezing(), watched]
        each.fit(inputs, LABELS, initial_epoch=2, epochs=5, verbose=0, callbacks=callbacks)
    assert watch.moved == [{0}, {0, 1}, {0, 1, 2}, {0, 1, 2, 3}, {0, 1, 2, 3}]
    for path, value in values(model).items():
        np.testing.assert_allclose(values(again)[path], value, atol=1e-4)


def test_the_head_trains_as_it_would_alone_clipping_included() -> None:
    whole, part = build(), build()
    compiled(whole, gradual=True).optimizer.build(whole.trainable_variables)
    whole.optimizer.train_depths(1)
    train(whole, 3)
    freeze(part, "backbone")
    train(compiled(part), 3)
    for path, value in values(part).items():
        np.testing.assert_allclose(values(whole)[path], value, atol=1e-6)


def test_weights_that_are_let_go_begin_as_with_a_new_optimizer() -> None:
    first, late, reference = (keras.Variable(np.ones(3, "float32"), name=name) for name in ("a", "b", "b"))
    gradual = LayeredAdamW(0.1, depths={"a": 0, "b": 1}, gradual=True, weight_decay=0.1)
    plain = keras.optimizers.AdamW(0.1, weight_decay=0.1)
    gradient = keras.ops.convert_to_tensor(np.array([0.3, -2.0, 0.01], "float32"))
    gradual.build([first, late])
    gradual.train_depths(1)
    for _ in range(7):
        gradual.apply([gradient, gradient], [first, late])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(late), np.ones(3))
    gradual.train_depths(2)
    for _ in range(3):
        gradual.apply([gradient, gradient], [first, late])
        plain.apply([gradient], [reference])
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(late), keras.ops.convert_to_numpy(reference), rtol=1e-5
    )


def test_mistakes_are_named() -> None:
    model = build()
    with pytest.raises(KzooError, match="1 or more"):
        GradualUnfreezing(0)
    with pytest.raises(KzooError, match=r"make_optimizer\(.*gradual=True"):
        model.fit(make_inputs(model), LABELS, verbose=0, callbacks=[GradualUnfreezing()])
    with pytest.raises(KzooError, match="depths of the weights are missing"):
        make_optimizer(cosine_schedule(1e-3, 10), layer_decay=0.5)
    with pytest.raises(KzooError, match="at most 1"):
        make_optimizer(cosine_schedule(1e-3, 10), layer_decay=1.5, depths=layer_depths(model))
