"""Sinusoids against the formula, learned tables, and lengths."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from kzoo.errors import KzooError
from kzoo.layers import PositionEmbedding, check_length, sinusoids

pytestmark = pytest.mark.backend


def test_sinusoids_are_the_papers_with_channels_in_another_order():
    positions = np.arange(50)
    ours = ops.convert_to_numpy(sinusoids(positions, 16))
    for pair in range(8):
        angle = positions / 10_000 ** (pair / 8)
        np.testing.assert_allclose(ours[:, pair], np.sin(angle), atol=1e-5)
        np.testing.assert_allclose(ours[:, 8 + pair], np.cos(angle), atol=1e-5)


def test_every_position_differs():
    ours = ops.convert_to_numpy(sinusoids(np.arange(200), 32))
    distances = np.linalg.norm(ours[:, None] - ours[None], axis=-1) + np.eye(200)
    assert distances.min() > 0.1


def test_learned_positions_are_looked_up():
    layer = PositionEmbedding(6, 4)
    layer.build()
    table = np.arange(24, dtype="float32").reshape(6, 4)
    layer.embeddings.assign(table)
    positions = np.array([[0, 5], [3, 3]])
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(positions)), table[positions])


def test_lengths_beyond_the_positions():
    check_length(8, 8)
    check_length(None, 8)
    with pytest.raises(KzooError, match=r"9 tokens, but the model has 8 positions.*max_positions=9 or more"):
        check_length(9, 8)
