"""Patches run along rows and see exactly their own pixels; convolutional tokens are those of the paper's code."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from kzoo.layers import ConvolutionalTokenizer, PatchEmbedding
from tests.optional import require

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


def test_patches_without_biases():
    layer = PatchEmbedding(patch_size=2, hidden_dim=3, num_channels=1, use_bias=False)
    layer.build(None)
    assert [weight.name for weight in layer.weights] == ["kernel"]
    assert not ops.convert_to_numpy(layer(np.zeros((1, 4, 4, 1), "float32"))).any()


@pytest.mark.parametrize(
    ("count", "kernel", "stride", "side"), [(1, 3, 1, 8), (2, 3, 1, 9), (1, 7, 2, 9), (2, 1, 1, 6)]
)
def test_convolutional_tokens_as_torch_makes_them(count, kernel, stride, side):
    torch = require("torch")
    layer = ConvolutionalTokenizer(count, kernel, stride, hidden_dim=6, inner_dim=5, num_channels=3)
    layer.build(None)
    images = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype("float32")
    x = torch.as_tensor(images).permute(0, 3, 1, 2)
    for convolution in layer.convolutions:
        weight = torch.as_tensor(ops.convert_to_numpy(convolution.kernel)).permute(3, 2, 0, 1)
        x = torch.relu(torch.nn.functional.conv2d(x, weight, stride=stride, padding=kernel // 2))
        x = torch.nn.functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)
    got = ops.convert_to_numpy(layer(images))
    np.testing.assert_allclose(got, x.flatten(2).transpose(1, 2).numpy(), rtol=0, atol=1e-5)
