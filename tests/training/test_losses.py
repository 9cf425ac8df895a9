"""The losses with smoothed labels, held against their definitions."""

import keras
import numpy as np
import pytest
from keras import ops

from kzoo.training import ClassAccuracy, ClassLoss, SmoothedTokenLoss, token_loss
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


def classes():
    random = np.random.default_rng(1)
    logits = random.normal(size=(6, 4)).astype("float32") * 2
    return logits, random.integers(0, 4, 6).astype("int32")


def cross_entropy(logits, wanted):
    log_probs = logits - np.log(np.exp(logits.astype(np.float64)).sum(-1, keepdims=True))
    return -(wanted * log_probs).sum(-1)


@pytest.mark.backend
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_classes_are_ids_or_rows_of_probabilities(smoothing):
    logits, ids = classes()
    rows = np.eye(4, dtype="float32")[ids]
    loss, wanted = ClassLoss(smoothing), rows * (1 - smoothing) + smoothing / 4
    expected = cross_entropy(logits, wanted).mean()
    for labels in (ids, ids[:, None], rows):
        assert float(loss(labels, logits)) == pytest.approx(expected, rel=1e-5)
    mixed = 0.3 * rows + 0.7 * rows[::-1]
    expected = cross_entropy(logits, mixed * (1 - smoothing) + smoothing / 4)
    assert float(loss(mixed, logits)) == pytest.approx(expected.mean(), rel=1e-5)
    weights = np.arange(6, dtype="float32")
    weighed = float(loss(mixed, logits, sample_weight=weights))
    assert weighed == pytest.approx((expected * weights).sum() / 6, rel=1e-5)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert (type(again), again.smoothing) == (ClassLoss, smoothing)


@pytest.mark.backend
def test_the_accuracy_of_mixed_labels_is_that_of_their_larger_part():
    logits, ids = classes()
    right = logits.argmax(-1) == ids
    others = (ids + 1) % 4
    for labels in (ids, np.eye(4)[ids], 0.6 * np.eye(4)[ids] + 0.4 * np.eye(4)[others]):
        metric = ClassAccuracy()
        metric.update_state(labels, logits)
        assert float(metric.result()) == pytest.approx(right.mean())
    metric.reset_state()
    metric.update_state(ids, logits, sample_weight=right)
    assert float(metric.result()) == 1.0
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert (type(again), again.name) == (ClassAccuracy, "accuracy")


def test_of_two_classes_ids_are_told_from_rows():
    logits = np.array([[2.0, 0.0], [0.0, 1.0]], "float32")
    assert float(ClassLoss()(np.array([0, 1]), logits)) == pytest.approx(
        cross_entropy(logits, np.eye(2)).mean(), rel=1e-5
    )
    assert float(ClassLoss()(np.array([[0], [1]]), logits)) == pytest.approx(
        float(ClassLoss()(np.eye(2, dtype="float32"), logits))
    )
