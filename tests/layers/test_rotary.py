"""Rotary positions against complex numbers and against the public reference."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from keras import ops

from kzoo.errors import KzooError
from kzoo.layers import RotaryScaling, rotary_rotation, rotate, token_positions
from tests.optional import require

pytestmark = pytest.mark.backend

LLAMA3 = RotaryScaling(
    "llama3", factor=8.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_max_positions=64
)
X = np.random.default_rng(0).normal(size=(2, 3, 5, 8)).astype("float32")
POSITIONS = np.array([[0, 1, 2, 3, 4], [0, 7, 100, 1000, 2000]], "int32")


def turned(x, positions, **options):
    rotation = rotary_rotation(ops.convert_to_tensor(positions), x.shape[-1], **options)
    return ops.convert_to_numpy(rotate(ops.convert_to_tensor(x), rotation))


@pytest.mark.parametrize("theta", [10_000.0, 37.5])
def test_pairs_of_channels_turn_as_complex_numbers(theta):
    pairs = X[..., :4] + 1j * X[..., 4:]
    angles = POSITIONS[:, None, :, None] * theta ** (-np.arange(4) / 4)
    expected = pairs * np.exp(1j * angles)
    got = turned(X, POSITIONS, theta=theta)
    np.testing.assert_allclose(got[..., :4], expected.real, atol=1e-3)
    np.testing.assert_allclose(got[..., 4:], expected.imag, atol=1e-3)


def test_scores_depend_on_distances_alone():
    query, key = X[:1, :, :1], X[1:, :, :1]

    def score(query_position, key_position):
        positions = [np.array([[position]], "int32") for position in (query_position, key_position)]
        return (turned(query, positions[0]) * turned(key, positions[1])).sum(axis=-1)

    np.testing.assert_allclose(score(9, 4), score(105, 100), atol=1e-4)
    assert np.abs(score(9, 4) - score(9, 5)).max() > 1e-2


def test_linear_scaling_divides_positions():
    stretched = turned(X, 4 * POSITIONS, scaling=RotaryScaling("linear", factor=4.0))
    np.testing.assert_allclose(stretched, turned(X, POSITIONS), atol=1e-3)


def test_llama3_scaling_keeps_short_waves_and_stretches_long_ones():
    waves = np.array([8.0, 15.9, 16.1, 32.0, 63.9, 64.1, 1000.0])
    ratios = LLAMA3.apply(2 * math.pi / waves) / (2 * math.pi / waves)
    np.testing.assert_allclose(ratios[:2], 1.0)
    np.testing.assert_allclose(ratios[-2:], 1 / 8)
    assert (np.diff(ratios[1:-1]) < 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "yarn"}, "Unknown rotary scaling 'yarn': kzoo has linear and llama3"),
        ({"kind": "llama3", "low_frequency_factor": 1.0}, "'llama3' needs high_frequency_factor"),
        ({"kind": "linear", "original_max_positions": 64}, "'linear' has no original_max_positions"),
    ],
)
def test_scalings_that_say_too_little_or_too_much(options, message):
    with pytest.raises(KzooError, match=message):
        RotaryScaling(**options, factor=2.0)


@pytest.mark.parametrize(
    ("rope_parameters", "options"),
    [
        ({"rope_type": "default", "rope_theta": 1234.5}, {"theta": 1234.5}),
        (
            {"rope_type": "linear", "rope_theta": 100.0, "factor": 3.0},
            {"theta": 100.0, "scaling": RotaryScaling("linear", factor=3.0)},
        ),
        (
            {
                "rope_type": "llama3",
                "rope_theta": 500.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
            {"theta": 500.0, "scaling": LLAMA3},
        ),
    ],
    ids=["default", "linear", "llama3"],
)
def test_against_the_reference(rope_parameters, options):
    torch, transformers = require("torch"), require("transformers")
    llama = transformers.models.llama.modeling_llama
    x = np.random.default_rng(1).normal(size=(2, 3, 5, 32)).astype("float32")
    config = transformers.LlamaConfig(
        hidden_size=96, num_attention_heads=3, max_position_embeddings=4096, rope_parameters=rope_parameters
    )
    tensor = torch.as_tensor(x)
    cosines, sines = llama.LlamaRotaryEmbedding(config)(tensor, torch.as_tensor(POSITIONS))
    expected, _ = llama.apply_rotary_pos_emb(tensor, tensor, cosines, sines)
    np.testing.assert_allclose(turned(x, POSITIONS, **options), expected.numpy(), atol=1e-3)


def test_half_precision_stays_half():
    rotation = rotary_rotation(ops.convert_to_tensor(POSITIONS), 8)
    half = rotate(ops.cast(X, "bfloat16"), rotation)
    assert keras.backend.standardize_dtype(half.dtype) == "bfloat16"
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.cast(half, "float32")), turned(X, POSITIONS), atol=0.05
    )


@pytest.mark.parametrize(
    ("mask", "length", "expected"),
    [
        (None, 2, [[3, 4]]),
        ([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]], 5, [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]]),
        ([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]], 2, [[1, 2], [2, 2]]),
    ],
    ids=["no mask", "left padding", "the last two"],
)
def test_positions_count_real_tokens(mask, length, expected):
    positions = token_positions(length, 5, None if mask is None else np.array(mask))
    np.testing.assert_array_equal(ops.convert_to_numpy(positions), expected)
