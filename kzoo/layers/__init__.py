"""The layers every architecture is made of: one attention, one feed-forward, one block."""

from kzoo.layers.activations import ACTIVATIONS, activation
from kzoo.layers.attention import Attention, KeyValueCache, record_attention
from kzoo.layers.embeddings import TokenEmbedding
from kzoo.layers.feed_forward import FeedForward
from kzoo.layers.masks import causal_bias, combine_biases, padding_bias
from kzoo.layers.patches import PatchEmbedding
from kzoo.layers.positions import PositionEmbedding, check_length, sinusoids
from kzoo.layers.transformer_block import TransformerBlock

__all__ = [
    "ACTIVATIONS",
    "Attention",
    "FeedForward",
    "KeyValueCache",
    "PatchEmbedding",
    "PositionEmbedding",
    "TokenEmbedding",
    "TransformerBlock",
    "activation",
    "causal_bias",
    "check_length",
    "combine_biases",
    "padding_bias",
    "record_attention",
    "sinusoids",
]
