"""Keras' own layers, each an output of a model, on whichever backend KERAS_BACKEND names."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import kzoo
from kzoo.errors import ExportError

pytestmark = pytest.mark.backend

Layers = dict[str, Callable[[Any], Any]]


def adapted(layer: Any, data: np.ndarray) -> Any:
    layer.adapt(data)
    return layer


def tokens_embedded(tokens: Any) -> Any:
    return layers.Embedding(20, 8, mask_zero=True)(tokens)


_DATA = np.random.default_rng(0).standard_normal((50, 8)).astype("float32") * 3 + 1

ACTIVATIONS = [
    "celu",
    "elu",
    "exponential",
    "gelu",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "tanh",
    "tanh_shrink",
]

VECTOR: Layers = {
    **{name: layers.Activation(name) for name in ACTIVATIONS},
    "prelu": layers.PReLU("ones"),
    "relu_with_bounds": layers.ReLU(6.0, 0.1, 0.2),
    "masked_softmax": lambda x: layers.Softmax()(x, x > 0),
    "dense": layers.Dense(3),
    "spectral": layers.SpectralNormalization(layers.Dense(4)),
    "unit": layers.UnitNormalization(),
    "normalization": lambda x: adapted(layers.Normalization(), _DATA)(x),
    "discretization": lambda x: adapted(layers.Discretization(num_bins=4), _DATA)(x),
    "reshape": layers.Reshape((2, -1)),
    "repeat": layers.RepeatVector(3),
    **{
        kind.__name__.lower(): lambda x, kind=kind: kind()([x, x * 2 - 1])
        for kind in (
            layers.Add,
            layers.Subtract,
            layers.Multiply,
            layers.Average,
            layers.Maximum,
            layers.Minimum,
            layers.Concatenate,
        )
    },
    "nothing_at_inference": lambda x: layers.GaussianNoise(1.0)(
        layers.AlphaDropout(0.5)(layers.GaussianDropout(0.5)(layers.Dropout(0.5)(x)))
    ),
}

SEQUENCE: Layers = {
    "einsum": layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"),
    "conv": layers.Conv1D(4, 3, padding="causal", dilation_rate=2),
    "depthwise": layers.DepthwiseConv1D(3, padding="same"),
    "separable": layers.SeparableConv1D(4, 3, padding="same"),
    "transposed": layers.Conv1DTranspose(4, 3, strides=2),
    "max_pool": layers.MaxPooling1D(2),
    "mean_pool": layers.AveragePooling1D(2),
    "max": layers.GlobalMaxPooling1D(),
    "mean": layers.GlobalAveragePooling1D(),
    "layer": layers.LayerNormalization(),
    "rms": layers.RMSNormalization(),
    "gru_backwards": layers.GRU(4, reset_after=False, go_backwards=True),
    "simple_rnn": lambda x: layers.SimpleRNN(4)(layers.Masking()(x)),
    "bidirectional": layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
    "multi_head": lambda x: layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True),
    "grouped": lambda x: layers.GroupQueryAttention(4, 4, 2)(x, x),
    "attention": lambda x: layers.Attention(use_scale=True)([x, x]),
    "additive": lambda x: layers.AdditiveAttention()([x, x]),
    "permute": layers.Permute((2, 1)),
    "reshape_sequence": layers.Reshape((-1, 2, 4)),
    "crop": layers.Cropping1D(1),
    "upsample": layers.UpSampling1D(2),
    "time_distributed_freely": layers.TimeDistributed(layers.Dense(3)),
    "pad": layers.ZeroPadding1D(1),
    "dot": lambda x: layers.Dot(axes=(2, 2), normalize=True)([x, x * 2]),
}

IMAGE: Layers = {
    "conv2d": layers.Conv2D(4, 3, strides=2, padding="same"),
    "conv2d_groups": layers.Conv2D(6, 3, groups=3),
    "depthwise2d": layers.DepthwiseConv2D(3, depth_multiplier=2),
    "separable2d": layers.SeparableConv2D(4, 3, dilation_rate=2),
    "transposed2d": layers.Conv2DTranspose(4, 3, strides=2, padding="same"),
    "max_pool2d": layers.MaxPooling2D(3, strides=2, padding="same"),
    # Padded, its edges differ between the backends of Keras 3.15.
    "mean_pool2d": layers.AveragePooling2D(3, strides=2),
    "adaptive2d": layers.AdaptiveAveragePooling2D((4, 5)),
    "max2d": layers.GlobalMaxPooling2D(keepdims=True),
    "mean2d": layers.GlobalAveragePooling2D(),
    # Keras 3.15 on torch normalizes only over the last axes.
    "layer2d": layers.LayerNormalization(axis=(2, 3)),
    "batch": layers.BatchNormalization(),
    "group": layers.GroupNormalization(3),
    "attention2d": lambda x: layers.MultiHeadAttention(2, 4, attention_axes=(1, 2))(x, x),
    "flatten": layers.Flatten(),
    "crop2d": layers.Cropping2D(((1, 2), (3, 1))),
    "upsample2d": layers.UpSampling2D(2),
    "upsample2d_bilinear": layers.UpSampling2D(2, interpolation="bilinear"),
    "pad2d": layers.ZeroPadding2D(((1, 2), (0, 1))),
    "rescaling": layers.Rescaling(1 / 255, -1),
    "resizing": layers.Resizing(7, 9),
    "resizing_padded": layers.Resizing(9, 7, pad_to_aspect_ratio=True),
    "center_crop": layers.CenterCrop(8, 6),
    "time_distributed": layers.TimeDistributed(layers.Conv1D(2, 3)),
}

# TensorFlow's own way: the other backends take other weights, or have no such kernel.
RESIZED: Layers = {
    f"{interpolation}_{size}{'_antialiased' * antialias}": layers.Resizing(
        size, size + 2, interpolation=interpolation, antialias=antialias
    )
    for interpolation, antialias in [
        ("bilinear", True),
        ("bicubic", False),
        ("bicubic", True),
        ("lanczos3", False),
        ("lanczos5", True),
        ("area", False),
    ]
    for size in (5, 33)
}

VOLUME: Layers = {
    "conv3d": layers.Conv3D(3, 3),
    "transposed3d": layers.Conv3DTranspose(2, 3, strides=2),
    "max_pool3d": layers.MaxPooling3D(2),
    "mean_pool3d": layers.AveragePooling3D(2),
    "mean3d": layers.GlobalAveragePooling3D(),
    "crop3d": layers.Cropping3D(1),
    "upsample3d": layers.UpSampling3D(2),
    "pad3d": layers.ZeroPadding3D(1),
    "conv_lstm": layers.ConvLSTM2D(3, 3),
}

TOKENS: Layers = {
    "embedding": layers.Embedding(20, 8),
    "time_distributed_masked": lambda x: layers.TimeDistributed(layers.Dense(3))(tokens_embedded(x)),
    "lstm_masked": lambda x: layers.LSTM(4)(tokens_embedded(x)),
    "mean_masked": lambda x: layers.GlobalAveragePooling1D()(tokens_embedded(x)),
    "attention_masked": lambda x: layers.MultiHeadAttention(2, 4)(*[tokens_embedded(x)] * 2),
    "reversible": lambda x: (tied := layers.ReversibleEmbedding(20, 8))(tied(x), reverse=True),
}

CLASSES: Layers = {
    "multi_hot": layers.CategoryEncoding(20, output_mode="multi_hot"),
    "count": layers.CategoryEncoding(20, output_mode="count"),
}

TABLE: dict[str, tuple[tuple[int | None, ...], str, Layers]] = {
    "vector": ((8,), "float32", VECTOR),
    "sequence": ((None, 8), "float32", SEQUENCE),
    "image": ((12, 12, 3), "float32", IMAGE),
    "resized": ((None, None, 3), "float32", RESIZED),
    "volume": ((6, 6, 6, 2), "float32", VOLUME),
    "tokens": ((None,), "int32", TOKENS),
    "classes": ((4,), "int32", CLASSES),
}
# On the other backends a child process converts, and all of this would take minutes to compile on JAX.
GROUPS = [[name] for name in TABLE] if keras.backend.backend() == "tensorflow" else [["image", "classes"]]


@pytest.mark.parametrize("groups", GROUPS, ids="+".join)
def test_layers_agree(groups: list[str], tmp_path: pathlib.Path) -> None:
    inputs, outputs = {}, {}
    for group in groups:
        shape, dtype, table = TABLE[group]
        inputs[group] = keras.Input(shape, dtype=dtype, name=group)
        outputs |= {name: layer(inputs[group]) for name, layer in table.items()}
    # Where a layer's result differs, the error names its output.
    kzoo.export.to_onnx(keras.Model(inputs, outputs), tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("layer", "data", "reason"),
    [
        (layers.Hashing(5, name="hashed"), (4,), "in '.*hashed"),
        (layers.IntegerLookup(vocabulary=[5, 7], name="looked_up"), (4,), "table .*looked_up"),
        (layers.CategoryEncoding(5, output_mode="one_hot", name="encoded"), (None,), "'encoded'.*free"),
        (layers.MelSpectrogram(name="mel"), (2000,), "Imag in '.*mel"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_what_onnx_lacks_is_refused_by_name(
    layer: Any, data: tuple[int | None, ...], reason: str, tmp_path: pathlib.Path
) -> None:
    if keras.backend.backend() != "tensorflow" and layer.name != "mel":
        pytest.skip("the same child process refuses it")
    whole = layer.name in ("hashed", "looked_up", "encoded")
    x = keras.Input(data, dtype="int32" if whole else "float32")
    with pytest.raises(ExportError, match=f"(?s){reason}"):
        kzoo.export.to_onnx(keras.Model(x, layer(x)), tmp_path / "model.onnx")
    assert not any(tmp_path.iterdir())
