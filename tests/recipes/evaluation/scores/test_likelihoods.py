"""How probable texts are, by character, byte and token."""

import numpy as np
import pytest

from kzoo.errors import KzooError
from kzoo.recipes.evaluation.scores import compare_likelihoods, likelihood_scores
from kzoo.runtime.generation import Likelihood

PARTS = [Likelihood(-3.0, tokens=2, characters=4, size=5), Likelihood(-1.0, tokens=2, characters=6, size=6)]


def test_units_are_counted_over_all_parts():
    scores = {name: score.value for name, score in likelihood_scores(PARTS, resamples=0).items()}
    assert scores == pytest.approx(
        {
            "nats_per_character": 0.4,
            "bits_per_character": 0.4 / np.log(2),
            "bits_per_byte": 4 / 11 / np.log(2),
            "perplexity": np.e,
        }
    )


def test_many_parts_leave_little_to_chance():
    random = np.random.default_rng(0)
    parts = [Likelihood(-float(nats), 10, 20, 20) for nats in random.normal(30, 3, 400)]
    score = likelihood_scores(parts)["nats_per_character"]
    assert score.value == pytest.approx(1.5, abs=0.02)
    assert score.margin == pytest.approx(1.96 * 3 / 20 / 20, rel=0.15)
    assert likelihood_scores(parts[:1])["perplexity"].margin is None
    better = [Likelihood(part.log_probability + 0.5, 10, 20, 20) for part in parts]
    assert compare_likelihoods(parts, better)["perplexity"].p_value < 0.01


def test_nothing_to_tell_is_refused():
    with pytest.raises(KzooError, match="no text to measure on"):
        likelihood_scores([])
    with pytest.raises(KzooError, match="One text says nothing of chance"):
        compare_likelihoods(PARTS[:1], PARTS[:1])
