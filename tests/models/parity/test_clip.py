"""CLIP against the public reference implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kzoo.models import from_pretrained
from tests.models import references
from tests.models.parity.compare import assert_same, check
from tests.optional import require

pytestmark = pytest.mark.backend

END = 7
USUAL = {
    "text_config": {
        "vocab_size": 90,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 40,
        "max_position_embeddings": 19,
        "bos_token_id": 0,
        "eos_token_id": END,
    },
    "vision_config": {
        "image_size": 20,
        "patch_size": 5,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 40,
    },
    "projection_dim": 16,
}
ODD = {
    "text_config": {
        **USUAL["text_config"],
        "num_attention_heads": 3,
        "intermediate_size": 41,
        "hidden_act": "gelu",
        "layer_norm_eps": 0.1,
        # What the first configs say, by which a text ends at its highest id.
        "eos_token_id": 2,
    },
    "vision_config": {
        **USUAL["vision_config"],
        "image_size": 8,
        "patch_size": 2,
        "num_channels": 1,
        "hidden_size": 20,
        "num_hidden_layers": 3,
        "num_attention_heads": 5,
        "hidden_act": "gelu_new",
        "layer_norm_eps": 0.01,
    },
    "projection_dim": 11,
}


def make_inputs(fields: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return four texts of several lengths, each with its end twice over, and three images."""
    rng = np.random.default_rng(1)
    lengths = np.array([13, 4, 9, 2])
    mask = (np.arange(13)[None] < lengths[:, None]).astype("int64")
    ids = np.where(mask == 1, rng.integers(8, 80, mask.shape), END)
    end = fields["text_config"]["eos_token_id"]
    ids[np.arange(4), lengths - 1] = 89 if end == 2 else end
    vision = fields["vision_config"]
    shape = (3, vision["image_size"], vision["image_size"], vision.get("num_channels", 3))
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "pixel_values": rng.normal(size=shape).astype("float32"),
    }


@pytest.mark.parametrize("fields", [USUAL, ODD], ids=["usual", "odd"])
def test_similarities_and_towers(tmp_path, fields):
    inputs = make_inputs(fields)
    ours = check(tmp_path, "CLIPModel", fields, inputs=inputs)
    assert ours.task == "image_text_similarity"

    torch = require("torch")
    theirs = require("transformers").CLIPModel.from_pretrained(tmp_path / "theirs")
    with torch.no_grad():
        expected = theirs(
            input_ids=torch.as_tensor(inputs["input_ids"]),
            attention_mask=torch.as_tensor(inputs["attention_mask"]),
            pixel_values=torch.as_tensor(inputs["pixel_values"].transpose(0, 3, 1, 2)),
            output_hidden_states=True,
        )
    features, mask = ours.backbone(inputs), inputs["attention_mask"]
    for prefix, tower, real in (("", "text", mask), ("vision_", "vision", None)):
        output = expected[f"{tower}_model_output"]
        for ours_state, state in zip(features[f"{prefix}hidden_states"], output.hidden_states, strict=True):
            assert_same(ours_state, state.numpy(), real)
        assert_same(features[f"{prefix}last_hidden_state"], output.last_hidden_state.numpy(), real)


def test_padding_on_the_left(tmp_path):
    theirs = references.reference("CLIPModel", "CLIPConfig", **USUAL)
    ours = from_pretrained(references.save(theirs, tmp_path))
    inputs = make_inputs(USUAL)
    turned = {name: inputs[name][:, ::-1].copy() for name in ("input_ids", "attention_mask")}
    turned["input_ids"][:, -1] = END
    turned["input_ids"][:, :-1] += turned["input_ids"][:, :-1] == END
    inputs |= turned
    expected = references.run(
        theirs, **{**inputs, "pixel_values": inputs["pixel_values"].transpose(0, 3, 1, 2)}
    )
    assert_same(ours(inputs)["text_embeds"], expected["text_embeds"])
