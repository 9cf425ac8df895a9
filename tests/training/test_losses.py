"""The smoothed loss, held against its definition."""

import keras
import numpy as np
import pytest
from keras import ops

from kzoo.training import SmoothedTokenLoss, token_loss
from kzoo.training.objectives import IGNORED


def batch():
    random = np.random.default_rng(0)
    logits = random.normal(size=(3, 5, 11)).astype("float32") * 3
    labels = random.integers(0, 11, (3, 5)).astype("int32")
    labels[0, 3:] = labels[2, 1:] = IGNORED
    return logits, labels


def by_definition(logits, labels, smoothing):
    """Cross-entropy with the label's share, and the rest even, over real labels."""
    real = labels != IGNORED
    wanted = np.eye(11)[np.where(real, labels, 0)] * (1 - smoothing) + smoothing / 11
    log_probs = logits - np.log(np.exp(logits.astype(np.float64)).sum(-1, keepdims=True))
    return -((wanted * log_probs).sum(-1) * real).sum() / real.sum()


@pytest.mark.backend
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_cross_entropy_of_real_labels(smoothing):
    logits, labels = batch()
    found = float(SmoothedTokenLoss(smoothing)(labels, logits))
    assert found == pytest.approx(by_definition(logits, labels, smoothing), rel=1e-5)
    if not smoothing:
        assert found == pytest.approx(float(token_loss()(labels, logits)), rel=1e-5)


@pytest.mark.backend
def test_the_gradient_is_that_of_the_loss():
    # One step of SGD on a table of logits shows the gradient on every backend.
    logits, labels = batch()
    table = keras.layers.Embedding(15, 11, embeddings_initializer=keras.initializers.Constant(0.0))
    model = keras.Sequential([keras.Input((5,), dtype="int32"), table])
    table.embeddings.assign(logits.reshape(15, 11))
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss=SmoothedTokenLoss(0.1))
    model.train_on_batch(np.arange(15, dtype="int32").reshape(3, 5), labels)
    moved = logits - ops.convert_to_numpy(table.embeddings).reshape(3, 5, 11)

    nudge = 1e-3
    for place in ((0, 0, 3), (1, 4, int(labels[1, 4])), (0, 4, 2)):
        higher, lower = logits.astype(np.float64), logits.astype(np.float64)
        higher[place] += nudge
        lower[place] -= nudge
        slope = (by_definition(higher, labels, 0.1) - by_definition(lower, labels, 0.1)) / (2 * nudge)
        assert moved[place] == pytest.approx(slope, abs=1e-5)
    assert not moved[0, 3:].any()
