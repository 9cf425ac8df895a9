"""Checkpoints of images: other sizes than they were trained at, and both readers of CLIP."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from kzoo.errors import KzooError
from kzoo.models import from_pretrained
from tests.models import references
from tests.models.parity import test_clip, test_vit
from tests.optional import require


@pytest.mark.parametrize("size", [30, 10])
@pytest.mark.parametrize("family", ["ViT", "DeiT", "CLIP"])
def test_images_of_another_size(tmp_path, family, size):
    torch = require("torch")
    fields = test_clip.USUAL if family == "CLIP" else test_vit.USUAL
    theirs = references.reference(f"{family}Model", f"{family}Config", **fields)
    ours = from_pretrained(references.save(theirs, tmp_path), task="features", image_size=size)
    pixels = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype("float32")
    encode = theirs.vision_model if family == "CLIP" else theirs
    with torch.no_grad():
        expected = encode(torch.as_tensor(pixels.transpose(0, 3, 1, 2)), interpolate_pos_encoding=True)
    name = "vision_last_hidden_state" if family == "CLIP" else "last_hidden_state"
    got = keras.ops.convert_to_numpy(ours({"pixel_values": pixels})[name])
    np.testing.assert_allclose(got, expected["last_hidden_state"].numpy(), atol=1e-4)


def test_positions_that_do_not_fit_are_refused_unless_another_size_is_asked_for(tmp_path):
    folder = references.save(references.reference("ViTModel", "ViTConfig", **test_vit.USUAL), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "image_size": 30}))
    with pytest.raises(KzooError, match=r"position_embeddings' has shape \(1, 17, 24\).*\(37, 24\)"):
        from_pretrained(folder, task="features")


def test_tokenizer_and_image_preprocessing_come_along(tmp_path, bpe):
    text = {**test_clip.USUAL["text_config"], "vocab_size": 300}
    theirs = references.reference("CLIPModel", "CLIPConfig", **{**test_clip.USUAL, "text_config": text})
    bpe.save(references.save(theirs, tmp_path) / "tokenizer.json")
    file = {"image_processor_type": "CLIPImageProcessor", "size": 24, "crop_size": 20}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(file))
    ours = from_pretrained(tmp_path, end_id=bpe.end_id)
    assert ours.tokenizer.vocab_size == bpe.vocab_size
    settings = ours.image_preprocessing
    assert (settings.height, settings.resize, settings.resample) == (20, 24, "bicubic")
    assert round(settings.mean[0], 3) == 0.481
