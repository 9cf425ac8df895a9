import numpy as np
import pytest

from kzoo.errors import KzooError
from kzoo.search import greedy, sample
from tests.search.models import END, VOCAB, Remembering, log_softmax, ranked


def greedy_by_hand(model, prompt, limit):
    row, total, steps = list(prompt), 0.0, 0
    for _ in range(limit):
        logits = model.logits(np.array([row]))[0]
        token = int(logits.argmax())
        total, steps = total + log_softmax(logits)[token], steps + 1
        if token == END:
            break
        row.append(token)
    return row[len(prompt) :], total / steps


def test_greedy_in_a_shrinking_batch_is_greedy_one_by_one():
    model = Remembering()
    prompts = np.random.default_rng(1).integers(0, VOCAB - 1, (20, 3))
    ids, scores = greedy(model, prompts, end_id=END, max_new_tokens=12)
    assert model.sizes == sorted(model.sizes, reverse=True)
    assert 0 < model.sizes[-1] < 20, "some rows, not all, must have finished for the test to mean anything"
    for prompt, row, score in zip(prompts, ids, scores, strict=True):
        wanted, wanted_score = greedy_by_hand(model, prompt, 12)
        assert row == wanted
        assert score == pytest.approx(wanted_score, abs=1e-4)
    assert scores.dtype == np.float32


def test_end_token_ends_the_loop_and_is_not_returned():
    def ends(tokens, rows, top_k):
        return ranked(np.eye(VOCAB, dtype=np.float32)[[END] * len(tokens)], top_k)

    ids, scores = greedy(ends, np.array([[1], [2]]), end_id=END, max_new_tokens=100)
    assert ids == [[], []]
    np.testing.assert_allclose(scores, 1 - np.log(np.e + VOCAB - 1), rtol=1e-6)


def test_without_end_token_only_the_limit_ends():
    ids, _ = greedy(Remembering(), np.array([[1], [2]]), end_id=None, max_new_tokens=9)
    assert [len(row) for row in ids] == [9, 9]


def test_same_seed_same_tokens():
    prompts = np.ones((6, 2), np.int64)

    def draw(seed):
        return sample(Remembering(), prompts, end_id=END, max_new_tokens=10, temperature=2.0, seed=seed)[0]

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


@pytest.mark.parametrize("options", [{"temperature": 1e-6}, {"top_k": 1}, {"top_p": 1e-9}])
def test_sampling_with_one_choice_is_greedy(options):
    prompts = np.random.default_rng(1).integers(0, VOCAB - 1, (8, 3))
    wanted = greedy(Remembering(), prompts, end_id=END, max_new_tokens=10)
    got = sample(Remembering(), prompts, end_id=END, max_new_tokens=10, seed=0, **options)
    assert got[0] == wanted[0]
    np.testing.assert_allclose(got[1], wanted[1], rtol=1e-5)


PROBABILITIES = np.array([0.05, 0.4, 0.1, 0.25, 0.2])


def frequencies(**options):
    def step(tokens, rows, top_k):
        return ranked(np.log(np.tile(PROBABILITIES, (len(tokens), 1))), top_k)

    ids, _ = sample(step, np.zeros((20_000, 1), int), end_id=None, max_new_tokens=1, seed=0, **options)
    return np.bincount(np.ravel(ids), minlength=5) / 20_000


def test_draws_follow_the_distribution():
    np.testing.assert_allclose(frequencies(), PROBABILITIES, atol=0.015)


def test_temperature_flattens_or_sharpens():
    for temperature in (0.5, 2.0):
        wanted = PROBABILITIES ** (1 / temperature)
        np.testing.assert_allclose(frequencies(temperature=temperature), wanted / wanted.sum(), atol=0.015)


def test_top_k_keeps_the_most_probable():
    np.testing.assert_allclose(frequencies(top_k=2), [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0], atol=0.015)
    np.testing.assert_allclose(frequencies(top_k=99), PROBABILITIES, atol=0.015)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.3, [1]), (0.6, [1, 3]), (0.7, [1, 3, 4]), (1.0, [0, 1, 2, 3, 4])]
)
def test_top_p_keeps_the_fewest_that_reach_it(top_p, kept):
    wanted = np.zeros(5)
    wanted[kept] = PROBABILITIES[kept] / PROBABILITIES[kept].sum()
    np.testing.assert_allclose(frequencies(top_p=top_p), wanted, atol=0.015)


def test_top_k_and_top_p_together():
    np.testing.assert_allclose(frequencies(top_k=2, top_p=0.6), [0, 1, 0, 0, 0])


def test_score_is_under_the_models_own_distribution():
    def step(tokens, rows, top_k):
        return ranked(np.log(PROBABILITIES[None]), top_k)

    ids, scores = sample(
        step, np.array([[0]]), end_id=None, max_new_tokens=1, seed=0, temperature=0.1, top_k=2
    )
    assert scores[0] == pytest.approx(np.log(PROBABILITIES[ids[0][0]]), abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"seed": -1},
    ],
)
def test_sampling_arguments_out_of_range(options):
    with pytest.raises(KzooError, match=next(iter(options))):
        sample(Remembering(), np.array([[1]]), end_id=END, max_new_tokens=3, **options)


def test_arguments_out_of_range():
    with pytest.raises(KzooError, match="max_new_tokens"):
        greedy(Remembering(), np.array([[1]]), end_id=END, max_new_tokens=0)
    for prompts in (np.zeros((2, 0), int), np.zeros((0, 2), int), np.array([1, 2])):
        with pytest.raises(KzooError, match="shape"):
            greedy(Remembering(), prompts, end_id=END, max_new_tokens=3)


@pytest.mark.filterwarnings("error")
def test_logits_that_are_no_numbers():
    def broken(tokens, rows, top_k):
        return ranked(np.full((len(tokens), VOCAB), np.nan, np.float32), top_k)

    with pytest.raises(KzooError, match="not numbers"):
        greedy(broken, np.array([[1]]), end_id=END, max_new_tokens=3)
