"""The Transformer against one put together from torch's own layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import kzoo
from tests.models import references
from tests.models.parity.compare import assert_same
from tests.optional import require

pytestmark = pytest.mark.backend


class TorchTransformer:
    """An encoder-decoder put together from torch's own layers."""

    def __init__(self, config: Any) -> None:
        torch = require("torch")
        torch.manual_seed(0)
        knobs = {
            "d_model": config.hidden_dim,
            "nhead": config.num_heads,
            "dim_feedforward": config.intermediate_dim,
            "dropout": 0.0,
            "activation": "relu",
            "layer_norm_eps": config.layer_norm_epsilon,
            "batch_first": True,
            "norm_first": config.norm_first,
        }
        self.config = config
        self.embedding = torch.nn.Embedding(config.vocab_size, config.hidden_dim)
        layers = range(config.num_layers)
        self.encoder = torch.nn.ModuleList(torch.nn.TransformerEncoderLayer(**knobs) for _ in layers)
        self.decoder = torch.nn.ModuleList(torch.nn.TransformerDecoderLayer(**knobs) for _ in layers)
        self.norms = {
            side: torch.nn.LayerNorm(config.hidden_dim, eps=config.layer_norm_epsilon)
            for side in ("encoder", "decoder")
        }
        for module in (self.encoder, self.decoder, *self.norms.values()):
            references.shake(module)
            module.eval()

    def embed(self, ids: np.ndarray) -> Any:
        torch = require("torch")
        half = self.config.hidden_dim // 2
        angles = np.arange(ids.shape[1])[:, None] / 10_000 ** (np.arange(half) / half)
        positions = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype("float32")
        return self.embedding(torch.as_tensor(ids)) * self.config.hidden_dim**0.5 + torch.as_tensor(positions)

    def __call__(
        self, input_ids: np.ndarray, attention_mask: np.ndarray, decoder_input_ids: np.ndarray
    ) -> Any:
        torch = require("torch")
        padding = torch.as_tensor(attention_mask == 0)
        length = decoder_input_ids.shape[1]
        later = torch.triu(torch.ones(length, length, dtype=torch.bool), diagonal=1)
        with torch.no_grad():
            x = self.embed(input_ids)
            for layer in self.encoder:
                x = layer(x, src_key_padding_mask=padding)
            encoded = self.norms["encoder"](x) if self.config.norm_first else x
            x = self.embed(decoder_input_ids)
            for layer in self.decoder:
                x = layer(x, encoded, tgt_mask=later, memory_key_padding_mask=padding)
            decoded = self.norms["decoder"](x) if self.config.norm_first else x
            return encoded.numpy(), (decoded @ self.embedding.weight.T).numpy()

    def copy_to(self, backbone: Any) -> None:
        """Give kzoo's backbone the same weights."""
        assign(backbone.token_embedding, embeddings=self.embedding.weight)
        for block, layer in zip(backbone.encoder_blocks, self.encoder, strict=True):
            copy_attention(block.attention, layer.self_attn)
            copy_feed_forward(block, layer, [block.attention_norm, block.feed_forward_norm])
        for block, layer in zip(backbone.decoder_blocks, self.decoder, strict=True):
            copy_attention(block.attention, layer.self_attn)
            copy_attention(block.cross_attention, layer.multihead_attn)
            copy_feed_forward(
                block, layer, [block.attention_norm, block.cross_attention_norm, block.feed_forward_norm]
            )
        if self.config.norm_first:
            copy_norm(backbone.encoder_norm, self.norms["encoder"])
            copy_norm(backbone.decoder_norm, self.norms["decoder"])


def assign(layer: Any, **values: Any) -> None:
    for name, value in values.items():
        getattr(layer, name).assign(value.detach().numpy())


def copy_norm(ours: Any, theirs: Any) -> None:
    assign(ours, gamma=theirs.weight, beta=theirs.bias)


def copy_dense(ours: Any, theirs: Any) -> None:
    assign(ours, kernel=theirs.weight.T, bias=theirs.bias)


def copy_attention(ours: Any, theirs: Any) -> None:
    weights, biases = theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3)
    for layer, weight, bias in zip((ours.query, ours.key, ours.value), weights, biases, strict=True):
        assign(layer, kernel=weight.T, bias=bias)
    copy_dense(ours.output_projection, theirs.out_proj)


def copy_feed_forward(block: Any, layer: Any, norms: list[Any]) -> None:
    copy_dense(block.feed_forward.expand, layer.linear1)
    copy_dense(block.feed_forward.contract, layer.linear2)
    for index, norm in enumerate(norms, start=1):
        copy_norm(norm, getattr(layer, f"norm{index}"))


@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
def test_transformer(norm_first):
    ours = kzoo.models.transformer_tiny(
        vocab_size=89,
        hidden_dim=24,
        num_heads=3,
        num_layers=2,
        intermediate_dim=37,
        norm_first=norm_first,
        layer_norm_epsilon=0.01,
    )
    theirs = TorchTransformer(ours.backbone.config)
    theirs.copy_to(ours.backbone)
    rng = np.random.default_rng(1)
    inputs = {
        "input_ids": rng.integers(0, 89, (3, 13)),
        "attention_mask": (np.arange(13)[None] < np.array([13, 1, 7])[:, None]).astype("int64"),
        "decoder_input_ids": rng.integers(0, 89, (3, 11)),
    }
    encoded, logits = theirs(**inputs)
    got = ours.backbone(inputs)
    assert_same(got["encoder_last_hidden_state"], encoded, inputs["attention_mask"])
    assert_same(ours(inputs)["logits"], logits)
