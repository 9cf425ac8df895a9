"""Explanations of Keras models: which words of a text count for its label, and where attention goes.

Bundles explain themselves without Keras, by `kzoo.runtime.explanation`.
"""

from kzoo.explanation.models import attention_maps, explain, rollout
from kzoo.runtime.explanation import Explanation
from kzoo.runtime.shading import draw_attention, draw_words

__all__ = ["Explanation", "attention_maps", "draw_attention", "draw_words", "explain", "rollout"]
