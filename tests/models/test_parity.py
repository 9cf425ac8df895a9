"""The same weights give the same outputs as the public reference implementations."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from tests.models import references
from tests.optional import require

pytestmark = pytest.mark.backend

TOLERANCE = 1e-4

BERT = {
    "vocab_size": 101,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 41,
    "max_position_embeddings": 19,
    "type_vocab_size": 3,
}
GPT2 = {
    "vocab_size": 97,
    "n_embd": 24,
    "n_layer": 3,
    "n_head": 2,
    "n_positions": 23,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
VIT = {
    "image_size": 20,
    "patch_size": 5,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 41,
}


def assert_same(ours: Any, theirs: np.ndarray, where: np.ndarray | None = None) -> None:
    ours = keras.ops.convert_to_numpy(ours)
    assert ours.shape == theirs.shape
    if where is not None:
        ours, theirs = ours[where], theirs[where]
    assert np.std(theirs) > 0.05, "the reference says too little to compare with"
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)


def tokens(vocab_size: int, shape: tuple[int, int] = (4, 17)) -> np.ndarray:
    return np.random.default_rng(1).integers(0, vocab_size, shape)


def right_padding(lengths: list[int], size: int = 17) -> np.ndarray:
    return (np.arange(size)[None] < np.array(lengths)[:, None]).astype("int64")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"layer_norm_eps": 0.1},
        {"hidden_act": "relu"},
        {"hidden_act": "gelu_new"},
    ],
    ids=["default", "epsilon", "relu", "gelu_new"],
)
def test_bert_features(tmp_path, fields):
    theirs = references.reference("BertModel", "BertConfig", **BERT, **fields)
    ours = kzoo.models.from_pretrained(references.save(theirs, tmp_path), task="features")

    mask = right_padding([17, 1, 9, 16])
    inputs = {
        "input_ids": tokens(101),
        "attention_mask": mask,
        "token_type_ids": tokens(3),
    }
    expected, got = references.run(theirs, **inputs), ours(inputs)
    assert_same(got["last_hidden_state"], expected["last_hidden_state"], where=mask == 1)
    assert_same(got["pooled"], expected["pooler_output"])


def test_bert_without_mask_and_types(tmp_path):
    theirs = references.reference("BertModel", "BertConfig", **BERT)
    ours = kzoo.models.from_pretrained(references.save(theirs, tmp_path), task="features")
    ids = tokens(101)
    assert_same(ours(ids)["last_hidden_state"], references.run(theirs, input_ids=ids)["last_hidden_state"])


def test_bert_classifier(tmp_path):
    theirs = references.reference("BertForSequenceClassification", "BertConfig", **BERT, num_labels=5)
    ours = kzoo.models.from_pretrained(references.save(theirs, tmp_path))
    assert (ours.task, ours.num_classes, ours.labels) == ("classification", 5, None)
    inputs = {"input_ids": tokens(101), "attention_mask": right_padding([17, 1, 9, 16])}
    assert_same(ours(inputs)["logits"], references.run(theirs, **inputs)["logits"])


@pytest.mark.parametrize("model_class", ["GPT2Model", "GPT2LMHeadModel"])
def test_gpt2(tmp_path, model_class):
    theirs = references.reference(model_class, "GPT2Config", **GPT2, n_inner=37, layer_norm_epsilon=0.01)
    ours = kzoo.models.from_pretrained(references.save(theirs, tmp_path), task="features")
    mask = right_padding([17, 1, 9, 16])
    inputs = {"input_ids": tokens(97), "attention_mask": mask}
    backbone = theirs if model_class == "GPT2Model" else theirs.transformer
    expected = references.run(backbone, **inputs)
    assert_same(ours(inputs)["last_hidden_state"], expected["last_hidden_state"], where=mask == 1)


def test_gpt2_logits(tmp_path):
    theirs = references.reference("GPT2LMHeadModel", "GPT2Config", **GPT2)
    ours = kzoo.models.from_pretrained(references.save(theirs, tmp_path))
    assert ours.task == "causal_lm"
    ids = tokens(97)
    assert_same(ours(ids)["logits"], references.run(theirs, input_ids=ids)["logits"])


def test_gpt2_left_padding(tmp_path):
    theirs = references.reference("GPT2LMHeadModel", "GPT2Config", **GPT2)
    ours = kzoo.models.from_pretrained(references.save(theirs, tmp_path))
    mask = right_padding([17, 2, 9, 16])[:, ::-1].copy()
    ids = tokens(97)
    positions = np.maximum(mask.cumsum(axis=1) - 1, 0)
    expected = references.run(theirs, input_ids=ids, attention_mask=mask, position_ids=positions)
    got = ours({"input_ids": ids, "attention_mask": mask})
    assert_same(got["logits"], expected["logits"], where=mask == 1)


@pytest.mark.parametrize("fields", [{}, {"num_channels": 1, "layer_norm_eps": 0.1}], ids=["rgb", "grey"])
def test_vit_features(tmp_path, fields):
    theirs = references.reference("ViTModel", "ViTConfig", **VIT, **fields)
    ours = kzoo.models.from_pretrained(references.save(theirs, tmp_path), task="features")
    pixels = np.random.default_rng(2).normal(size=(3, 20, 20, fields.get("num_channels", 3)))
    pixels = pixels.astype("float32")
    expected = references.run(theirs, pixel_values=pixels.transpose(0, 3, 1, 2))
    assert_same(ours(pixels)["last_hidden_state"], expected["last_hidden_state"])


def test_vit_classifier(tmp_path):
    labels = dict(enumerate(["cat", "dog", "owl"]))
    theirs = references.reference("ViTForImageClassification", "ViTConfig", **VIT, id2label=labels)
    ours = kzoo.models.from_pretrained(references.save(theirs, tmp_path))
    assert (ours.task, ours.labels) == ("image_classification", ["cat", "dog", "owl"])
    pixels = np.random.default_rng(2).normal(size=(3, 20, 20, 3)).astype("float32")
    expected = references.run(theirs, pixel_values=pixels.transpose(0, 3, 1, 2))
    assert_same(ours(pixels)["logits"], expected["logits"])


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
    inputs = {
        "input_ids": tokens(89, (3, 13)),
        "attention_mask": right_padding([13, 1, 7], 13),
        "decoder_input_ids": tokens(89, (3, 11)),
    }
    encoded, logits = theirs(**inputs)
    got = ours.backbone(inputs)
    real = inputs["attention_mask"] == 1
    assert_same(got["encoder_last_hidden_state"], encoded, where=real)
    assert_same(ours(inputs)["logits"], logits)
