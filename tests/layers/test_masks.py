"""Masks as biases: what they hide, exactly."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from kzoo.layers import causal_bias, combine_biases, padding_bias

pytestmark = pytest.mark.backend


def hidden(bias):
    return ops.convert_to_numpy(bias) < -1e8


def test_causal_bias_of_a_whole_sequence():
    bias = causal_bias(3, 3)
    assert bias.shape == (1, 1, 3, 3)
    np.testing.assert_array_equal(hidden(bias)[0, 0], [[0, 1, 1], [0, 0, 1], [0, 0, 0]])


def test_causal_bias_of_a_step_that_follows_a_past():
    np.testing.assert_array_equal(hidden(causal_bias(2, 5))[0, 0], [[0, 0, 0, 0, 1], [0, 0, 0, 0, 0]])


def test_a_window_counts_the_query_itself():
    whole = hidden(causal_bias(4, 4, window=2))[0, 0]
    np.testing.assert_array_equal(whole, [[0, 1, 1, 1], [0, 0, 1, 1], [1, 0, 0, 1], [1, 1, 0, 0]])
    np.testing.assert_array_equal(hidden(causal_bias(1, 4, window=2))[0, 0], whole[-1:])


@pytest.mark.parametrize("dtype", ["int32", "int64", "bool", "float32"])
def test_padding_bias_of_any_dtype(dtype):
    bias = padding_bias(np.array([[1, 1, 0], [0, 0, 0]], dtype))
    assert bias.shape == (2, 1, 1, 3)
    np.testing.assert_array_equal(hidden(bias)[:, 0, 0], [[0, 0, 1], [1, 1, 1]])
    assert ops.convert_to_numpy(bias)[0, 0, 0, 0] == 0.0


def test_no_mask_no_bias():
    assert padding_bias(None) is None
    assert combine_biases(None, None) is None
    bias = causal_bias(2, 2)
    assert combine_biases(None, bias) is bias


def test_combined_biases_hide_what_either_hides():
    both = combine_biases(causal_bias(3, 3), padding_bias(np.array([[0, 1, 1]])))
    np.testing.assert_array_equal(hidden(both)[0, 0], [[1, 1, 1], [1, 0, 1], [1, 0, 0]])
    assert np.isfinite(ops.convert_to_numpy(both)).all()
