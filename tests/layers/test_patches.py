"""Patches run along rows and see exactly their own pixels."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from kzoo.layers import PatchEmbedding

pytestmark = pytest.mark.backend


def test_patches_against_a_loop():
    layer = PatchEmbedding(patch_size=3, hidden_dim=5, num_channels=2)
    layer.build(None)
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(3, 3, 2, 5)), rng.normal(size=5)
    layer.projection.kernel.assign(kernel)
    layer.projection.bias.assign(bias)
    images = rng.normal(size=(2, 6, 9, 2)).astype("float32")
    got = ops.convert_to_numpy(layer(images))
    assert got.shape == (2, 6, 5)
    for row in range(2):
        for column in range(3):
            patch = images[:, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
            expected = np.einsum("bhwc,hwcd->bd", patch, kernel) + bias
            np.testing.assert_allclose(got[:, 3 * row + column], expected, atol=1e-4)
