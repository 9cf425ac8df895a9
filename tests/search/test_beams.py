"""Beam search against searches that try everything, and that know neither cache nor batch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kzoo.errors import KzooError
from kzoo.search import CachedStep, beam_search, greedy, length_penalty_of
from tests.search.models import END, VOCAB, Remembering, log_softmax, ranked

PENALTIES = [(0.0, 0.0), (1.0, 0.0), (0.6, 5.0), (2.0, 5.0)]


def log_probability(model, prompt, new):
    total = 0.0
    for place, token in enumerate(new):
        total += log_softmax(model.logits(np.array([[*prompt, *new[:place]]])))[0, token]
    return total


def every_hypothesis(model, prompt, vocab, end, limit, penalty):
    """Return all continuations with their scores, best first."""
    found = []
    for length in range(1, limit + 1):
        for new in itertools.product(range(vocab), repeat=length):
            if end in new[:-1] or (length < limit and new[-1] != end):
                continue
            score = log_probability(model, prompt, new) / length_penalty_of(length, *penalty)
            found.append(([token for token in new if token != end], score))
    return sorted(found, key=lambda pair: -pair[1])


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("end", [3, None])
def test_beams_for_all_hypotheses_find_the_best_of_all(penalty, end):
    model = Remembering(vocab=4)
    prompts = np.array([[0, 1], [2, 2], [1, 0]])
    got = beam_search(
        model,
        prompts,
        num_beams=300,
        end_id=end,
        max_new_tokens=4,
        length_penalty=penalty[0],
        length_offset=penalty[1],
    )
    for prompt, hypotheses in zip(prompts, got, strict=True):
        expected = every_hypothesis(model, prompt, 4, end, 4, penalty)
        assert [hypothesis.ids for hypothesis in hypotheses] == [ids for ids, _ in expected]
        np.testing.assert_allclose([h.score for h in hypotheses], [s for _, s in expected], atol=1e-5)


def search_by_hand(model, prompt, beams, limit, penalty):
    """Search for one prompt, with whole sequences and the whole vocabulary."""
    running, ended = [((), 0.0)], []
    for length in range(1, limit + 1):
        candidates = []
        for new, total in running:
            log_probs = log_softmax(model.logits(np.array([[*prompt, *new]])))[0]
            candidates += [((*new, token), total + log_probs[token]) for token in range(VOCAB)]
        candidates.sort(key=lambda pair: -pair[1])
        cost = length_penalty_of(length, *penalty)
        ended += [
            (list(new if new[-1] != END else new[:-1]), total / cost)
            for new, total in candidates[:beams]
            if new[-1] == END or length == limit
        ]
        ended = sorted(ended, key=lambda pair: -pair[1])[:beams]
        running = [pair for pair in candidates if pair[0][-1] != END][:beams]
        if len(ended) == beams and running[0][1] / cost <= ended[-1][1]:
            break
    return ended


@pytest.mark.parametrize("beams", [2, 3, 5])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_shrinking_batch_is_searched_as_each_prompt_alone(beams, penalty):
    model = Remembering()
    prompts = np.random.default_rng(1).integers(0, VOCAB - 1, (8, 3))
    got = beam_search(
        model,
        prompts,
        num_beams=beams,
        end_id=END,
        max_new_tokens=15,
        length_penalty=penalty[0],
        length_offset=penalty[1],
    )
    assert model.sizes[0] == 8 and model.sizes[1] == 8 * beams, "the first step needs no beams"
    if penalty[0] < 1:
        assert model.sizes[-1] < 8 * beams, "some prompts must be done earlier for the test to mean anything"
    for prompt, hypotheses in zip(prompts, got, strict=True):
        expected = search_by_hand(model, prompt, beams, 15, penalty)
        assert [hypothesis.ids for hypothesis in hypotheses] == [ids for ids, _ in expected]
        np.testing.assert_allclose([h.score for h in hypotheses], [s for _, s in expected], atol=1e-5)


def test_more_beams_find_what_greedy_misses():
    """The first token looks better than the other, and leads nowhere."""

    def step(tokens, rows, top_k):
        steps = np.full((len(tokens), 4), 1e-9)
        for row, token in enumerate(tokens[:, -1]):
            steps[row] = {
                0: [0, 0.6, 0.4, 1e-9],
                1: [0.25, 0.25, 0.25, 0.25],
                2: [1e-9, 1e-9, 1e-9, 1],
            }[token]
        return ranked(np.log(steps + 1e-12), top_k)

    start = np.array([[0]])
    greedy_ids, greedy_scores = greedy(step, start, end_id=3, max_new_tokens=2)
    assert greedy_ids[0][0] == 1
    best = beam_search(step, start, num_beams=2, end_id=3, max_new_tokens=2, length_penalty=0.0)[0][0]
    assert best.ids == [2]
    assert best.score == pytest.approx(np.log(0.4), abs=1e-5) and best.score / 2 > greedy_scores[0]


def test_the_penalty_of_long_continuations():
    assert length_penalty_of(3, 1.0, 0.0) == 3
    assert length_penalty_of(13, 0.6, 5.0) == pytest.approx((18 / 6) ** 0.6)
    assert length_penalty_of(9, 0.0, 5.0) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, "num_beams is 0"),
        ({"length_offset": -1.0}, "length_offset"),
        ({"max_new_tokens": 0}, "max_new"),
    ],
)
def test_arguments_out_of_range(options, message):
    given = {"num_beams": 2, "max_new_tokens": 3, **options}
    with pytest.raises(KzooError, match=message):
        beam_search(Remembering(), np.array([[1]]), end_id=END, **given)


@pytest.mark.filterwarnings("error")
def test_logits_that_are_no_numbers():
    def broken(tokens, rows, top_k):
        return np.zeros((len(tokens), 2), np.int64), np.full((len(tokens), 2), np.nan, np.float32)

    with pytest.raises(KzooError, match="not numbers"):
        beam_search(broken, np.array([[1]]), num_beams=2, end_id=END, max_new_tokens=3)


class Recording:
    """A graph without a model in it, which notes what it is fed."""

    def __init__(self):
        self.fed = []

    def run_kept(self, feeds, outputs):
        self.fed.append(feeds)
        rows, top_k = len(feeds["beam_idx"]), int(feeds["top_k"])
        made = {"top_ids": np.zeros((rows, 1, top_k), np.int64), "log_probs": np.zeros((rows, 1, 7))}
        made |= {"top_log_probs": np.zeros((rows, 1, top_k)), "present.0.key": "kept as it is"}
        return {name: made[name] for name in outputs}

    def to_numpy(self, tensor):
        return tensor


def test_sentences_leave_with_the_last_of_their_rows():
    graph = Recording()
    memory = {"attention_mask": np.array([[1], [2], [3]])}
    step = CachedStep(graph, "ids", {"past_key_values.0.key": "empty"}, 7, memory=memory)
    step(np.zeros((3, 1), int), np.arange(3), 4)
    step(np.zeros((6, 1), int), np.array([0, 0, 1, 1, 2, 2]), 9)
    step(np.zeros((4, 1), int), np.array([1, 0, 5, 5]), None)
    assert [feeds["attention_mask"].ravel().tolist() for feeds in graph.fed] == [[1, 2, 3], [1, 2, 3], [1, 3]]
    assert [feeds["past_key_values.0.key"] for feeds in graph.fed] == ["empty", *["kept as it is"] * 2]
    assert [int(feeds["top_k"]) for feeds in graph.fed] == [4, 7, 1]  # no more than there are tokens
    with pytest.raises(KzooError, match="one after another"):
        step(np.zeros((3, 1), int), np.array([0, 1, 2]), 4)


def test_a_prompts_mask_follows_its_rows():
    graph = Recording()
    step = CachedStep(graph, "ids", {"past_key_values.0.key": 0}, 7, mask=np.array([[0, 1], [1, 1]]))
    step(np.zeros((2, 2), int), np.arange(2), 1)
    step(np.zeros((3, 1), int), np.array([1, 0, 0]), 1)
    assert graph.fed[0]["attention_mask"].tolist() == [[0, 1], [1, 1]]
    assert graph.fed[1]["attention_mask"].tolist() == [[1, 1, 1], [0, 1, 1], [0, 1, 1]]
