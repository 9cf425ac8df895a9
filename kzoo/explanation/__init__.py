"""Explanations of Keras models: which words or pixels count for a label, and where attention goes.

Bundles explain themselves without Keras, by `kzoo.runtime.explanation`.
"""

from kzoo.explanation.models import attention_maps, explain, explain_image, rollout
from kzoo.runtime.explanation import Explanation
from kzoo.runtime.image_explanation import ImageExplanation
from kzoo.runtime.shading import draw_attention, draw_image, draw_words

__all__ = [
    "Explanation",
    "ImageExplanation",
    "attention_maps",
    "draw_attention",
    "draw_image",
    "draw_words",
    "explain",
    "explain_image",
    "rollout",
]
