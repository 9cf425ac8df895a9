"""Batches by tokens: what is in them, how full they are, and that they come again."""

import itertools

import numpy as np
import pytest

from kzoo.training import Position, TokenBatches
from kzoo.training.objectives import IGNORED

RANDOM = np.random.default_rng(1)
SIZES = np.maximum(RANDOM.integers(2, 30, (200, 1)) + RANDOM.integers(-2, 3, (200, 2)), 2)
# Each pair's first token says which it is.
PAIRS = [[[100 + row, *range(4, 3 + size)] for row, size in enumerate(SIZES[:, side])] for side in (0, 1)]


def batches(**options):
    settings = {"batch_tokens": 120, "seed": 0, "start_id": 1, "pad_id": 0, **options}
    return TokenBatches(lambda random: (PAIRS[0], PAIRS[1]), **settings)


def check(inputs, labels, rows):
    for place, row in enumerate(rows):
        source, target = PAIRS[0][row], PAIRS[1][row]
        length = len(target)
        assert inputs["input_ids"][place, : len(source)].tolist() == source
        assert inputs["attention_mask"][place].sum() == len(source)
        assert labels[place, :length].tolist() == target
        assert (labels[place, length:] == IGNORED).all()
        assert inputs["decoder_input_ids"][place, :length].tolist() == [1, *target[:-1]]


@pytest.mark.parametrize("fixed_shapes", [False, True])
def test_a_pass_has_each_pair_once_in_batches_that_are_full_but_not_over(fixed_shapes):
    seen = []
    passed = batches(fixed_shapes=fixed_shapes).one_pass()
    for inputs, labels in passed:
        assert max(inputs["input_ids"].size, labels.size) <= 120
        rows = (labels[:, 0][labels[:, 0] != IGNORED] - 100).tolist()
        check(inputs, labels, rows)
        seen += rows
    assert sorted(seen) == list(range(200))
    filled = [labels.size for _, labels in passed]
    assert np.mean(filled) > 80
    shapes = {labels.shape for _, labels in passed}
    assert (len(shapes) <= 4) == fixed_shapes


def test_a_stream_begins_anywhere():
    whole = list(itertools.islice(batches().stream(Position(0, 0)), 120))
    assert whole[-1][0].data_pass >= 2
    for place in (0, 17, 90):
        position, inputs, labels = next(batches().stream(whole[place][0]))
        assert position == whole[place][0]
        np.testing.assert_array_equal(inputs["input_ids"], whole[place][1]["input_ids"])
        np.testing.assert_array_equal(labels, whole[place][2])


def test_order_depends_on_seed_and_pass():
    def first(seed, number):
        return next(batches(seed=seed).stream(Position(number, 0)))[2].tolist()

    assert first(0, 0) == first(0, 0)
    assert first(0, 0) != first(1, 0)
    assert first(0, 0) != first(0, 1)


def test_a_pair_longer_than_a_batch_is_one_by_itself():
    long = TokenBatches(
        lambda random: ([[5] * 50, [6, 7]], [[5] * 3, [6, 7]]), batch_tokens=20, seed=0, start_id=1, pad_id=0
    )
    assert sorted(inputs["input_ids"].shape for inputs, _ in long.one_pass()) == [(1, 2), (1, 50)]
