"""Masked image modelling: a model learns to paint the hidden parts of images."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kzoo.errors import KzooError
from kzoo.training import batches
from kzoo.training.pretraining import Pretraining


@keras.saving.register_keras_serializable("kzoo")
class MaskedImages(Pretraining):
    """Trains a model of images to paint patches that it does not see, after SimMIM (Xie et al., 2021, section 3).

    In each image patches are drawn; learnt pixels, the same in all, stand in their place. From what the backbone
    makes of such a patch one projection tells the pixels that were there; the loss is how far they are off.

    Args:
        model: a kzoo model that cuts images into patches, such as ViT; all but its head is trained in place.
        share: how many of an image's patches are hidden.
        name: of this object.

    Raises:
        KzooError: a model without patches, or a share that hides none of them or all.

    Example:
        >>> import kzoo
        >>> model = kzoo.models.vit_micro_patch4_32(num_layers=1, labels=["cat", "dog"])
        >>> painting = MaskedImages(model)
        >>> painting.hidden_patches, painting.patches
        (38, 64)
        >>> painting.fit(images, epochs=20)  # doctest: +SKIP
        >>> model.fit(some_images, labels, epochs=20)  # doctest: +SKIP
    """

    def __init__(self, model: Any, *, share: float = 0.6, name: str | None = "masked_images") -> None:
        config = model.backbone.config
        super().__init__(config.hidden_dim, name)
        if set(model.signature()) != {"pixel_values"} or not hasattr(config, "patch_size"):
            kind = type(model.backbone).__name__
            raise KzooError(f"{kind} does not cut images into patches alone: take a ViT or a DeiT.")
        self.side, self.patch_size = config.image_size // config.patch_size, config.patch_size
        self.patches = self.side**2
        self.hidden_patches = round(share * self.patches)
        if not 0 < self.hidden_patches < self.patches:
            raise KzooError(
                f"share={share} hides {self.hidden_patches} of {self.patches} patches: give one that hides some."
            )
        # Behind a function Keras does not see the head, which no loss reaches.
        self._model = lambda: model
        self._share = share
        self.backbone = model.backbone
        self.painter = keras.layers.Dense(
            config.patch_size**2 * config.num_channels, dtype="float32", name="painter"
        )
        self.painter.build((None, None, config.hidden_dim))
        self.hidden_pixels = self.add_weight(
            name="hidden_pixels",
            shape=(config.patch_size, config.patch_size, config.num_channels),
            initializer="zeros",
        )
        self.built = True

    @property
    def encoder(self) -> batches.Encoder:
        """What makes pixel values of images."""
        return self._model()._encoder

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """Return what is painted of images in which patches are hidden.

        Args:
            inputs: `pixel_values` (batch, height, width, channels), by that name or alone.
            training: whether dropout is on.

        Returns:
            `pixels` and `painted` (batch, patches, pixels of a patch), what is there and what the model makes of it,
            and `hidden` (batch, patches), 1 for the patches that it does not see.
        """
        config = self.backbone.config
        # From a dataset TensorFlow knows of no size.
        shape = (-1, config.image_size, config.image_size, config.num_channels)
        images = ops.reshape(ops.cast(_pixels(inputs), "float32"), shape)
        hidden = self._drawn(ops.shape(images)[0], training)
        mask = ops.reshape(hidden, (-1, self.side, self.side, 1))
        for axis in (1, 2):
            mask = ops.repeat(mask, self.patch_size, axis=axis)
        instead = ops.tile(ops.cast(self.hidden_pixels, "float32"), (self.side, self.side, 1))
        shown = images * (1.0 - mask) + instead * mask
        states = self.backbone({"pixel_values": shown}, training=training)["last_hidden_state"]
        # Class tokens come first.
        painted = self.painter(states[:, -self.patches :])
        return {"pixels": self._cut(images), "painted": painted, "hidden": hidden}

    def _drawn(self, images: Any, training: bool) -> Any:
        """Return float32 (images, patches), 1 for as many patches of each image as are to be hidden."""
        lots = keras.random.uniform((images, self.patches), seed=self.chance(training))
        last = ops.sort(lots, axis=1)[:, self.hidden_patches - 1 : self.hidden_patches]
        return ops.cast(lots <= last, "float32")

    def _cut(self, images: Any) -> Any:
        """Return images as patches, along rows from the top left."""
        side, size, channels = self.side, self.patch_size, images.shape[-1]
        cut = ops.reshape(images, (-1, side, size, side, size, channels))
        return ops.reshape(ops.transpose(cut, (0, 1, 3, 2, 4, 5)), (-1, self.patches, size * size * channels))

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the mean absolute difference of the hidden pixels."""
        apart = ops.mean(ops.abs(y_pred["painted"] - y_pred["pixels"]), axis=-1)
        return ops.sum(apart * y_pred["hidden"]) / ops.sum(y_pred["hidden"])

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs to build the same object, around a model with a new head."""
        model = keras.saving.serialize_keras_object(self._model())
        return {"model": model, "share": self._share, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> MaskedImages:
        """Build an object from `get_config`'s result."""
        config = dict(config)
        model = keras.saving.deserialize_keras_object(config.pop("model"), custom_objects)
        opened = cls(model, **config)
        # Or Keras would warn that there is nothing to put the saved optimizer's state into.
        opened.optimizer.build(opened.trainable_variables)
        return opened


def _pixels(inputs: Any) -> Any:
    return inputs["pixel_values"] if isinstance(inputs, dict) else inputs
