"""Images to pixel values, in plain numpy."""

from kzoo.vision.preprocessing import ImageInput, ImagePreprocessing, is_image, preprocess

__all__ = ["ImageInput", "ImagePreprocessing", "is_image", "preprocess"]
