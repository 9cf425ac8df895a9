"""Models that begin with another's backbone, under another head."""

from __future__ import annotations

import numpy as np
import pytest

from kzoo import KzooError
from kzoo.models import with_task
from kzoo.text import Tokenizer
from tests.models.tiny import make_inputs, outputs, shaken, tiny


@pytest.mark.parametrize("family", ["Bert", "Albert", "ViT"])
def test_a_backbone_goes_on_under_another_head(family):
    task = "features" if family == "ViT" else "mlm"
    model = shaken(tiny(family, task=task))
    inputs = make_inputs(model)
    other = with_task(model, "image_classification" if family == "ViT" else "classification", num_classes=3)
    assert outputs(other, inputs)["logits"].shape == (3, 3)
    # All of it learns, what no loss of the first task reached among it.
    assert len(other.trainable_variables) == len(other.weights)
    states = outputs(with_task(model, "features"), inputs)["last_hidden_state"]
    np.testing.assert_array_equal(states, outputs(with_task(other, "features"), inputs)["last_hidden_state"])
    again = outputs(with_task(model, task), inputs)
    for name, value in outputs(model, inputs).items():
        np.testing.assert_allclose(again[name], value, atol=1e-6)


def test_what_comes_along_and_what_may_change():
    tokenizer = Tokenizer.train(["a dog runs"], vocab_size=60)
    model = tiny("Bert", task="mlm", tokenizer=tokenizer, max_length=16)
    other = with_task(model, "classification", labels=["ham", "spam"], dropout=0.3, max_length=8)
    assert other.tokenizer is tokenizer and other.max_length == 8 and other.labels == ["ham", "spam"]
    assert other.backbone.config.dropout == 0.3 and with_task(model, "tokens").max_length == 16
    with pytest.raises(KzooError, match="leave out what changes it"):
        with_task(model, "classification", max_positions=20)
    with pytest.raises(KzooError, match="Bert cannot carry it"):
        with_task(model, "causal_lm")
    with pytest.raises(KzooError, match="Unknown option 'drop_out'"):
        with_task(model, "classification", drop_out=0.3)
