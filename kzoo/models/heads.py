"""Heads: what turns a backbone's features into a task's outputs.

A head is called on the backbone's features, a dict: `last_hidden_state` (batch, sequence, hidden_dim), where the
backbone has one `pooled` (batch, hidden_dim), and `hidden_states`, what enters the first block and what leaves each.
Its outputs are float32 whatever the dtype policy, for the loss' sake.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kzoo.errors import KzooError, did_you_mean
from kzoo.layers import TokenEmbedding, activation

POOLINGS = ("mean", "max", "cls")


class Head(keras.layers.Layer):
    """The projections that heads are made of."""

    def _dense(self, width: int, activation_name: str) -> keras.layers.Dense:
        """Make the hidden layer, which follows the dtype policy."""
        function = activation(activation_name)
        return keras.layers.Dense(width, activation=function, dtype=self.dtype_policy, name="dense")

    def _classifier(self, width: int, name: str = "classifier", use_bias: bool = True) -> keras.layers.Dense:
        """Make the last projection."""
        return keras.layers.Dense(width, use_bias=use_bias, dtype="float32", name=name)


@keras.saving.register_keras_serializable("kzoo")
class ClassificationHead(Head):
    """Class logits from the pooled features, or from the first token's state through a hidden layer.

    Args:
        num_classes: number of classes.
        dropout: rate on what enters the classifier while training.
        hidden_activation: activation of a hidden layer over the first token's state, for backbones that do not
            pool; None takes `pooled` as it is.
        distilled: average with a second classifier, of the distillation token's state
            `pooled_distillation` (Touvron et al., 2020, section 4).
        biased: whether the classifier has biases.
    """

    def __init__(
        self,
        num_classes: int,
        dropout: float = 0.0,
        hidden_activation: str | None = None,
        distilled: bool = False,
        biased: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_activation = hidden_activation
        self.hidden: Any = None
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.output_projection = self._classifier(num_classes, use_bias=biased)
        self.distillation: Any = None
        if distilled:
            self.distillation = self._classifier(num_classes, "distillation_classifier")

    def build(self, input_shape: Any) -> None:
        """Create the projections, from (batch, hidden_dim)."""
        if self.hidden_activation is not None:
            self.hidden = self._dense(input_shape[-1], self.hidden_activation)
        for layer in (self.hidden, self.output_projection, self.distillation):
            if layer is not None:
                layer.build(input_shape)
        self.built = True

    def call(
        self, features: dict[str, Any], attention_mask: Any = None, training: bool = False
    ) -> dict[str, Any]:
        """Return `logits` (batch, num_classes)."""
        if self.hidden is None:
            pooled = features["pooled"]
        else:
            pooled = self.hidden(features["last_hidden_state"][:, 0])
        logits = self.output_projection(self.dropout(pooled, training=training))
        if self.distillation is not None:
            logits = (logits + self.distillation(features["pooled_distillation"])) / 2.0
        return {"logits": logits}


@keras.saving.register_keras_serializable("kzoo")
class TokenClassificationHead(Head):
    """Class logits of each token.

    Args:
        num_classes: number of classes.
        dropout: rate on the tokens' states while training.
    """

    def __init__(self, num_classes: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.output_projection = self._classifier(num_classes)

    def build(self, input_shape: Any) -> None:
        """Create the projection, from (batch, hidden_dim)."""
        self.output_projection.build(input_shape)
        self.built = True

    def call(
        self, features: dict[str, Any], attention_mask: Any = None, training: bool = False
    ) -> dict[str, Any]:
        """Return `logits` (batch, sequence, num_classes)."""
        states = self.dropout(features["last_hidden_state"], training=training)
        return {"logits": self.output_projection(states)}


@keras.saving.register_keras_serializable("kzoo")
class QuestionAnsweringHead(Head):
    """For each token how likely an answer starts there, and how likely it ends there (Devlin et al., 2018, 4.2)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.span = self._classifier(2, "span")

    def build(self, input_shape: Any) -> None:
        """Create the projection, from (batch, hidden_dim)."""
        self.span.build(input_shape)
        self.built = True

    def call(
        self, features: dict[str, Any], attention_mask: Any = None, training: bool = False
    ) -> dict[str, Any]:
        """Return `start_logits` and `end_logits`, each (batch, sequence)."""
        logits = self.span(features["last_hidden_state"])
        return {"start_logits": logits[:, :, 0], "end_logits": logits[:, :, 1]}


@keras.saving.register_keras_serializable("kzoo")
class ReplacedTokenHead(Head):
    """For each token how likely it is not the original one (Clark et al., 2020, section 2).

    Args:
        hidden_activation: activation of the hidden layer.
    """

    def __init__(self, hidden_activation: str = "gelu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden_activation = hidden_activation
        self.output_projection = self._classifier(1)

    def build(self, input_shape: Any) -> None:
        """Create the projections, from (batch, hidden_dim)."""
        self.hidden = self._dense(input_shape[-1], self.hidden_activation)
        self.hidden.build(input_shape)
        self.output_projection.build(input_shape)
        self.built = True

    def call(
        self, features: dict[str, Any], attention_mask: Any = None, training: bool = False
    ) -> dict[str, Any]:
        """Return `logits` (batch, sequence), above 0 where a token is taken for a replacement."""
        return {"logits": self.output_projection(self.hidden(features["last_hidden_state"]))[:, :, 0]}


@keras.saving.register_keras_serializable("kzoo")
class EmbeddingHead(Head):
    """One vector for each text (Reimers and Gurevych, 2019, section 3).

    Args:
        pooling: `"mean"` or `"max"` over the real tokens, or `"cls"`, the first token's state.
        layer: whose output is pooled: 0 what enters the first block, 1 what leaves it, and so on; -1 the last,
            after the final norm where there is one.
        normalize: whether vectors are scaled to length 1.
    """

    def __init__(self, pooling: str = "mean", layer: int = -1, normalize: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if pooling not in POOLINGS:
            raise KzooError(f"Unknown pooling '{pooling}'.{did_you_mean(pooling, POOLINGS)}")
        self.pooling = pooling
        self.layer = layer
        self.normalize = normalize

    def build(self, input_shape: Any) -> None:
        """Create nothing."""
        self.built = True

    def call(
        self, features: dict[str, Any], attention_mask: Any = None, training: bool = False
    ) -> dict[str, Any]:
        """Return `embedding` (batch, hidden_dim)."""
        states = features["last_hidden_state"] if self.layer == -1 else features["hidden_states"][self.layer]
        states = ops.cast(states, "float32")
        if attention_mask is None:
            attention_mask = ops.ones_like(states[:, :, 0])
        real = ops.expand_dims(ops.cast(attention_mask, "float32"), -1)
        if self.pooling == "cls":
            pooled = states[:, 0]
        elif self.pooling == "max":
            pooled = ops.max(states + (real - 1.0) * 1e9, axis=1)
        else:
            pooled = ops.sum(states * real, axis=1) / ops.maximum(ops.sum(real, axis=1), 1.0)
        return {"embedding": _unit(pooled) if self.normalize else pooled}


def _unit(vectors: Any) -> Any:
    norm = ops.sqrt(ops.sum(vectors * vectors, axis=-1, keepdims=True))
    return vectors / ops.maximum(norm, 1e-12)


@keras.saving.register_keras_serializable("kzoo")
class LanguageModelHead(Head):
    """Token logits through the transposed embedding table (Press and Wolf, 2016), or a projection of its own.

    Args:
        token_embedding: the backbone's table.
        tied: whether the table is the projection too.
        biased: whether there is a bias on the logits.
        scale: what the states are multiplied with first.
    """

    def __init__(
        self,
        token_embedding: TokenEmbedding,
        tied: bool = True,
        biased: bool = False,
        scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.token_embedding = token_embedding
        self.biased = biased
        self.scale = scale
        self.projection: Any = None
        if not tied:
            self.projection = keras.layers.Dense(
                token_embedding.input_dim, use_bias=False, dtype=self.dtype_policy, name="projection"
            )
        self.bias: Any = None

    def build(self, input_shape: Any) -> None:
        """Create the projection and the bias, where there are any, from (batch, hidden_dim)."""
        if self.projection is not None:
            self.projection.build(input_shape)
        if self.biased:
            self.bias = _vocabulary_bias(self, self.token_embedding)
        self.built = True

    def call(
        self, features: dict[str, Any], attention_mask: Any = None, training: bool = False
    ) -> dict[str, Any]:
        """Return `logits` (batch, sequence, vocab_size)."""
        states = features["last_hidden_state"]
        if self.scale != 1.0:
            states = states * self.scale
        project = self.token_embedding.logits if self.projection is None else self.projection
        logits = ops.cast(project(states), "float32")
        return {"logits": logits if self.bias is None else logits + self.bias}


@keras.saving.register_keras_serializable("kzoo")
class MaskedLanguageModelHead(Head):
    """Token logits through a hidden layer, a norm, and the transposed embedding table (Devlin et al., 2018, A.2).

    Args:
        token_embedding: the backbone's table, shared; its width, perhaps another than the backbone's, is the
            hidden layer's.
        hidden_activation: activation of the hidden layer.
        layer_norm_epsilon: added to the variance in the norm.
    """

    def __init__(
        self,
        token_embedding: TokenEmbedding,
        hidden_activation: str = "gelu",
        layer_norm_epsilon: float = 1e-12,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.token_embedding = token_embedding
        self.hidden = self._dense(token_embedding.output_dim, hidden_activation)
        self.norm = keras.layers.LayerNormalization(
            epsilon=layer_norm_epsilon, dtype=self.dtype_policy, name="norm"
        )

    def build(self, input_shape: Any) -> None:
        """Create all but the table, which is the backbone's, from (batch, hidden_dim)."""
        self.hidden.build(input_shape)
        self.norm.build((None, None, self.hidden.units))
        self.bias = _vocabulary_bias(self, self.token_embedding)
        self.built = True

    def call(
        self, features: dict[str, Any], attention_mask: Any = None, training: bool = False
    ) -> dict[str, Any]:
        """Return `logits` (batch, sequence, vocab_size)."""
        states = self.norm(self.hidden(features["last_hidden_state"]))
        return {"logits": ops.cast(self.token_embedding.logits(states), "float32") + self.bias}


def _vocabulary_bias(head: keras.layers.Layer, table: TokenEmbedding) -> Any:
    return head.add_weight(name="bias", shape=(table.input_dim,), initializer="zeros", autocast=False)


@keras.saving.register_keras_serializable("kzoo")
class ImageTextSimilarityHead(Head):
    """Cosines of all pairs of images and texts, sharpened by a learned scale (Radford et al., 2021, section 2.3).

    The features are `text_embeds` (texts, projection_dim) and `image_embeds` (images, projection_dim).
    """

    def build(self, input_shape: Any) -> None:
        """Create the logarithm of the scale, which starts at 1 / 0.07."""
        self.logit_scale = self.add_weight(
            name="logit_scale",
            shape=(),
            initializer=keras.initializers.Constant(2.6592),
            autocast=False,
        )
        self.built = True

    def call(
        self, features: dict[str, Any], attention_mask: Any = None, training: bool = False
    ) -> dict[str, Any]:
        """Return `logits_per_image` (images, texts), its transpose `logits_per_text`, and the vectors.

        `text_embeds` and `image_embeds` have length 1. Of texts alone, or images alone, only these are returned.
        """
        outputs: dict[str, Any] = {
            name: _unit(ops.cast(features[name], "float32"))
            for name in ("text_embeds", "image_embeds")
            if name in features
        }
        if len(outputs) == 2:
            logits = ops.matmul(outputs["image_embeds"], ops.transpose(outputs["text_embeds"]))
            logits = logits * ops.exp(self.logit_scale)
            outputs |= {"logits_per_image": logits, "logits_per_text": ops.transpose(logits)}
        return outputs
