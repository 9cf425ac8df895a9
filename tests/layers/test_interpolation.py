"""Tables of positions for another image size."""

from __future__ import annotations

import numpy as np
import pytest

from kzoo.errors import KzooError
from kzoo.layers import resize_positions
from tests.optional import require


@pytest.mark.parametrize(("old", "new"), [(7, 12), (12, 5), (4, 3), (1, 3), (6, 6)])
@pytest.mark.parametrize("num_tokens", [0, 2])
def test_as_torch_resizes(old, new, num_tokens):
    torch = require("torch")
    table = np.random.default_rng(0).normal(size=(num_tokens + old**2, 5)).astype("float32")
    grid = torch.as_tensor(table[num_tokens:]).reshape(1, old, old, 5).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    got = resize_positions(table, new, num_tokens)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[:num_tokens], table[:num_tokens])
    np.testing.assert_allclose(
        got[num_tokens:], expected.permute(0, 2, 3, 1).reshape(-1, 5).numpy(), rtol=0, atol=1e-5
    )


def test_the_same_size_changes_nothing():
    table = np.random.default_rng(0).normal(size=(1 + 9, 4))
    np.testing.assert_array_equal(resize_positions(table, 3), table)


@pytest.mark.parametrize(("rows", "size", "num_tokens"), [(11, 4, 1), (1, 4, 1), (10, 0, 1), (1, 4, 3)])
def test_what_is_no_grid(rows, size, num_tokens):
    with pytest.raises(KzooError, match=rf"{rows} positions.*{size} by {size} patches"):
        resize_positions(np.zeros((rows, 2)), size, num_tokens)
