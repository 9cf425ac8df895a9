"""The layers every architecture is made of: one attention, one feed-forward, one block."""

from kzoo.layers.activations import ACTIVATIONS, activation
from kzoo.layers.attention import Attention, KeyValueCache, record_attention
from kzoo.layers.embeddings import TokenEmbedding, scale_embeddings
from kzoo.layers.feed_forward import FeedForward
from kzoo.layers.interpolation import resize_positions
from kzoo.layers.masks import causal_bias, combine_biases, document_bias, padding_bias
from kzoo.layers.norms import NORMS, norm
from kzoo.layers.patches import ConvolutionalTokenizer, PatchEmbedding
from kzoo.layers.positions import PositionEmbedding, check_length, sinusoids, token_positions
from kzoo.layers.relative_positions import RelativePositionBias, alibi_bias
from kzoo.layers.residuals import LayerScale, StochasticDepth
from kzoo.layers.rotary import RotaryScaling, rotary_rotation, rotate
from kzoo.layers.transformer_block import TransformerBlock

__all__ = [
    "ACTIVATIONS",
    "NORMS",
    "Attention",
    "ConvolutionalTokenizer",
    "FeedForward",
    "KeyValueCache",
    "LayerScale",
    "PatchEmbedding",
    "PositionEmbedding",
    "RelativePositionBias",
    "RotaryScaling",
    "StochasticDepth",
    "TokenEmbedding",
    "TransformerBlock",
    "activation",
    "alibi_bias",
    "causal_bias",
    "check_length",
    "combine_biases",
    "document_bias",
    "norm",
    "padding_bias",
    "record_attention",
    "resize_positions",
    "rotary_rotation",
    "rotate",
    "scale_embeddings",
    "sinusoids",
    "token_positions",
]
