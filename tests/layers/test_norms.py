"""Norms by name, exact, and steady in half precision."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from kzoo.errors import KzooError
from kzoo.layers import norm

pytestmark = pytest.mark.backend

X = np.random.default_rng(0).normal(loc=0.5, size=(2, 5, 12)).astype("float32")


def built(kind, **options):
    layer = norm(kind, 1e-3, **options)
    layer.build((None, None, 12))
    return layer


def test_rms_norm_has_neither_mean_nor_shift():
    layer = built("rms")
    scale = np.linspace(-1, 2, 12).astype("float32")
    layer.scale.assign(scale)
    expected = X / np.sqrt((X**2).mean(axis=-1, keepdims=True) + 1e-3) * scale
    np.testing.assert_allclose(ops.convert_to_numpy(layer(X)), expected, atol=1e-5)


def test_layer_norm_has_both():
    layer = built("layer")
    layer.beta.assign(np.full(12, 2.0, "float32"))
    centred = X - X.mean(axis=-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-3) + 2.0
    np.testing.assert_allclose(ops.convert_to_numpy(layer(X)), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_squares_that_half_precision_cannot_hold(kind, dtype):
    exact, half = built(kind), built(kind, dtype=dtype)
    expected = ops.convert_to_numpy(exact(1000 * X))
    got = half(ops.cast(1000 * X, half.compute_dtype))
    assert keras.backend.standardize_dtype(got.dtype) == half.compute_dtype
    np.testing.assert_allclose(ops.convert_to_numpy(ops.cast(got, "float32")), expected, atol=0.03)


def test_an_unknown_norm():
    with pytest.raises(KzooError, match=r"Unknown norm 'layers'\. Did you mean 'layer'"):
        norm("layers", 1e-5)
