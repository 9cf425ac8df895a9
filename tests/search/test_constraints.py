"""Constraints against the public reference implementation's processors, whatever part of the tokens is asked for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kzoo.errors import KzooError
from kzoo.search import AveragedStep, Constraints, beam_search, greedy
from tests.optional import require
from tests.search.models import END, VOCAB, Remembering, log_softmax, ranked


def walk(step, top_k, prompts, steps=9):
    """Return what a step function answers while rows leave and change places, the tokens being the same ever."""
    rng = np.random.default_rng(3)
    tokens, rows, answers = prompts, np.arange(len(prompts)), []
    for length in range(steps):
        answers.append(step(tokens, rows, top_k))
        rows = rng.integers(0, len(rows), len(rows) if length % 2 else max(1, len(rows) - 1))
        # Few tokens, so that they repeat.
        tokens = rng.integers(0, 3, (len(rows), 1))
    return answers


PROMPTS = np.random.default_rng(1).integers(0, 3, (5, 4))
CASES = [(1.7, 0), (0.6, 0), (1.0, 1), (1.0, 2), (1.0, 3), (1.4, 2), (0.8, 2)]


@pytest.mark.parametrize(("penalty", "ngram"), CASES)
def test_all_tokens_as_the_reference_has_them(penalty, ngram):
    torch, transformers = require("torch"), require("transformers")
    model = Remembering()

    def reference(tokens, rows, top_k):
        ids, log_probs = model(tokens, rows, None)
        written, scores = torch.as_tensor(model.cache), torch.as_tensor(log_probs)
        if penalty != 1:
            scores = transformers.RepetitionPenaltyLogitsProcessor(penalty)(written, scores)
        if ngram:
            scores = transformers.NoRepeatNGramLogitsProcessor(ngram)(written, scores)
        return ids, scores.numpy()

    expected = walk(reference, None, PROMPTS)
    got = walk(Constraints(penalty, ngram).applied(Remembering()), None, PROMPTS)
    differs = False
    for (_, wanted), (_, found), (_, plain) in zip(
        expected, got, walk(Remembering(), None, PROMPTS), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)
        differs |= not np.array_equal(found, plain)
    assert differs


@pytest.mark.parametrize(("penalty", "ngram"), CASES)
@pytest.mark.parametrize("top_k", [1, 3, VOCAB])
def test_the_best_are_the_best_of_all(penalty, ngram, top_k):
    constraints = Constraints(penalty, ngram)
    whole = walk(constraints.applied(Remembering()), None, PROMPTS)
    part = walk(constraints.applied(Remembering()), top_k, PROMPTS)
    for (_, all_of_them), (ids, log_probs) in zip(whole, part, strict=True):
        np.testing.assert_array_equal(log_probs, -np.sort(-all_of_them, axis=1)[:, :top_k])
        np.testing.assert_array_equal(log_probs, np.take_along_axis(all_of_them, ids, axis=1))


def test_padding_is_no_text():
    """A prompt is constrained as it is alone, whatever is to the left of it."""
    mask = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]])

    def even(tokens, rows, top_k):
        return ranked(np.zeros((len(tokens), VOCAB)), top_k)

    constraints = Constraints(2.0, 2)
    _, log_probs = constraints.applied(even, mask)(
        np.array([[7, 7, 1, 7], [7, 7, 3, 7], [7, 3, 4, 7]]), np.arange(3), None
    )
    least = np.log(1 / VOCAB) * 2
    for row, seen, banned in ((0, {1, 7}, set()), (1, {3, 7}, {3}), (2, {3, 4, 7}, {3})):
        assert set(np.flatnonzero(np.isclose(log_probs[row], least))) == seen - banned
        assert set(np.flatnonzero(np.isinf(log_probs[row]))) == banned


def test_no_bigram_comes_twice_in_beams_and_greedy():
    prompts = PROMPTS[:, :1]
    constraints = Constraints(no_repeat_ngram=2)
    plain, _ = greedy(Remembering(), prompts, end_id=None, max_new_tokens=20)
    found, _ = greedy(constraints.applied(Remembering()), prompts, end_id=None, max_new_tokens=20)
    for best in beam_search(
        constraints.applied(Remembering()), prompts, num_beams=3, end_id=None, max_new_tokens=20
    ):
        found += [hypothesis.ids for hypothesis in best]

    def repeats(rows):
        return sum(len(row) - 1 - len(set(itertools.pairwise(row))) for row in rows)

    assert repeats(plain) > 0 and repeats(found) == 0


def test_no_constraints_are_no_wrapper():
    model = Remembering()
    assert Constraints().applied(model) is model


@pytest.mark.parametrize("options", [{"repetition_penalty": 0.0}, {"no_repeat_ngram": -1}])
def test_constraints_out_of_range(options):
    with pytest.raises(KzooError, match=next(iter(options))):
        Constraints(**options)


def test_an_ensemble_averages_probabilities():
    models = [Remembering(seed) for seed in range(3)]
    prompts = np.array([[1, 2], [3, 4]])
    expected = np.mean([np.exp(log_softmax(model.logits(prompts))) for model in models], axis=0)
    ids, log_probs = AveragedStep(models)(prompts, np.arange(2), None)
    np.testing.assert_array_equal(ids, np.tile(np.arange(VOCAB), (2, 1)))
    np.testing.assert_allclose(np.exp(log_probs), expected, rtol=1e-5)
    best_ids, best = AveragedStep([Remembering(seed) for seed in range(3)])(prompts, np.arange(2), 4)
    np.testing.assert_array_equal(best, -np.sort(-log_probs, axis=1)[:, :4])
    np.testing.assert_array_equal(best, np.take_along_axis(log_probs, best_ids, axis=1))


def test_an_ensemble_of_one_model_searches_as_it_does_alone():
    prompts = np.random.default_rng(1).integers(0, VOCAB - 1, (4, 3))
    options = {"num_beams": 3, "end_id": END, "max_new_tokens": 9}
    alone = beam_search(Remembering(), prompts, **options)
    twice = beam_search(AveragedStep([Remembering(), Remembering()]), prompts, **options)
    assert [[one.ids for one in best] for best in twice] == [[one.ids for one in best] for best in alone]
