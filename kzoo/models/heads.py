"""Heads: what turns a backbone's features into a task's outputs."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kzoo.errors import KzooError, did_you_mean
from kzoo.layers import TokenEmbedding

POOLINGS = ("mean", "max", "cls")


@keras.saving.register_keras_serializable("kzoo")
class ClassificationHead(keras.layers.Layer):
    """Class logits from the pooled features.

    Args:
        num_classes: number of classes.
        dropout: rate on the pooled features while training.
    """

    def __init__(self, num_classes: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        # float32 whatever the policy, for the loss' sake.
        self.classifier = keras.layers.Dense(num_classes, dtype="float32", name="classifier")

    def build(self, input_shape: Any) -> None:
        """Create the projection, from (batch, hidden_dim)."""
        self.classifier.build(input_shape)
        self.built = True

    def call(
        self, features: dict[str, Any], attention_mask: Any = None, training: bool = False
    ) -> dict[str, Any]:
        """Return `logits` (batch, num_classes), float32."""
        return {"logits": self.classifier(self.dropout(features["pooled"], training=training))}


@keras.saving.register_keras_serializable("kzoo")
class EmbeddingHead(keras.layers.Layer):
    """One vector of length 1 for each text (Reimers and Gurevych, 2019, section 3).

    Args:
        pooling: `"mean"` or `"max"` over the real tokens, or `"cls"`, the first token's state.
    """

    def __init__(self, pooling: str = "mean", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if pooling not in POOLINGS:
            raise KzooError(f"Unknown pooling '{pooling}'.{did_you_mean(pooling, POOLINGS)}")
        self.pooling = pooling

    def build(self, input_shape: Any) -> None:
        """Create nothing."""
        self.built = True

    def call(
        self, features: dict[str, Any], attention_mask: Any = None, training: bool = False
    ) -> dict[str, Any]:
        """Return `embedding` (batch, hidden_dim), float32."""
        states = ops.cast(features["last_hidden_state"], "float32")
        if attention_mask is None:
            attention_mask = ops.ones_like(states[:, :, 0])
        real = ops.expand_dims(ops.cast(attention_mask, "float32"), -1)
        if self.pooling == "cls":
            pooled = states[:, 0]
        elif self.pooling == "max":
            pooled = ops.max(states + (real - 1.0) * 1e9, axis=1)
        else:
            pooled = ops.sum(states * real, axis=1) / ops.maximum(ops.sum(real, axis=1), 1.0)
        norm = ops.sqrt(ops.sum(pooled * pooled, axis=-1, keepdims=True))
        return {"embedding": pooled / ops.maximum(norm, 1e-12)}


@keras.saving.register_keras_serializable("kzoo")
class LanguageModelHead(keras.layers.Layer):
    """Token logits through the transposed embedding table (Press and Wolf, 2016).

    Args:
        token_embedding: the backbone's table, shared.
    """

    def __init__(self, token_embedding: TokenEmbedding, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.token_embedding = token_embedding

    def build(self, input_shape: Any) -> None:
        """Create nothing: the table is the backbone's."""
        self.built = True

    def call(
        self, features: dict[str, Any], attention_mask: Any = None, training: bool = False
    ) -> dict[str, Any]:
        """Return `logits` (batch, sequence, vocab_size), float32."""
        return {"logits": ops.cast(self.token_embedding.logits(features["last_hidden_state"]), "float32")}
