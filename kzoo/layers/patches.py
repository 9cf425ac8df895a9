"""Images as sequences of patches."""

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
    """

    def __init__(self, patch_size: int, hidden_dim: int, num_channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.patch_size = patch_size
        self.hidden_dim = hidden_dim
        self.num_channels = num_channels
        self.projection = keras.layers.Conv2D(
            hidden_dim,
            patch_size,
            strides=patch_size,
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
