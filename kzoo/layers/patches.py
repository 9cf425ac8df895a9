"""Images as sequences: patches, and what a small convolutional network makes of them."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("kzoo")
class PatchEmbedding(keras.layers.Layer):
    """Cut images into square patches and project each one (Dosovitskiy et al., 2020, section 3.1).

    Args:
        patch_size: side of a patch in pixels.
        hidden_dim: width of the projection.
        num_channels: channels of the images.
        use_bias: whether the projection has biases.
    """

    def __init__(
        self, patch_size: int, hidden_dim: int, num_channels: int, use_bias: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.patch_size = patch_size
        self.hidden_dim = hidden_dim
        self.num_channels = num_channels
        self.projection = keras.layers.Conv2D(
            hidden_dim,
            patch_size,
            strides=patch_size,
            use_bias=use_bias,
            data_format="channels_last",
            dtype=self.dtype_policy,
            name="projection",
        )

    def build(self, input_shape: Any) -> None:
        """Create the projection."""
        self.projection.build((None, None, None, self.num_channels))
        self.built = True

    def call(self, pixel_values: Any) -> Any:
        """Return patches (batch, num_patches, hidden_dim) of images (batch, height, width, num_channels).

        Patches run along rows, from the top left.
        """
        patches = self.projection(pixel_values)
        height, width = ops.shape(patches)[1:3]
        return ops.reshape(patches, (-1, height * width, self.hidden_dim))


@keras.saving.register_keras_serializable("kzoo")
class ConvolutionalTokenizer(keras.layers.Layer):
    """Turn images into tokens by convolutions, each rectified and max-pooled (Hassani et al., 2021, section 3.3).

    A pooling halves height and width, as a convolution of stride 2 does.

    Args:
        num_convolutions: how many.
        kernel_size: their side in pixels, odd.
        stride: their stride.
        hidden_dim: channels that the last one gives.
        inner_dim: channels that the others give.
        num_channels: channels of the images.
    """

    def __init__(
        self,
        num_convolutions: int,
        kernel_size: int,
        stride: int,
        hidden_dim: int,
        inner_dim: int,
        num_channels: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.widths = [num_channels, *[inner_dim] * (num_convolutions - 1), hidden_dim]

        def options(name: str) -> dict[str, Any]:
            return {"data_format": "channels_last", "dtype": self.dtype_policy, "name": name}

        # What "same" would pad depends on the image's size; the paper's own padding does not.
        self.pad = keras.layers.ZeroPadding2D(kernel_size // 2, **options("pad"))
        self.convolutions = [
            keras.layers.Conv2D(
                width,
                kernel_size,
                strides=stride,
                use_bias=False,
                activation="relu",
                kernel_initializer="he_normal",
                **options(f"convolution_{index}"),
            )
            for index, width in enumerate(self.widths[1:])
        ]
        # What is pooled is never negative, so zeros around it change no maximum.
        self.pool_pad = keras.layers.ZeroPadding2D(1, **options("pool_pad"))
        self.pool = keras.layers.MaxPooling2D(3, strides=2, **options("pool"))

    def build(self, input_shape: Any) -> None:
        """Create the convolutions."""
        for convolution, width in zip(self.convolutions, self.widths, strict=False):
            convolution.build((None, None, None, width))
        self.built = True

    def call(self, pixel_values: Any) -> Any:
        """Return tokens (batch, num_tokens, hidden_dim) of images (batch, height, width, num_channels).

        Tokens run along rows, from the top left.
        """
        x = pixel_values
        for convolution in self.convolutions:
            x = self.pool(self.pool_pad(convolution(self.pad(x))))
        height, width = ops.shape(x)[1:3]
        return ops.reshape(x, (-1, height * width, self.hidden_dim))
