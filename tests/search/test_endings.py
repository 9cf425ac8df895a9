"""What reaches the limit ends there with the end token, however the next token is chosen."""

from __future__ import annotations

import numpy as np

from kzoo.search import EndingStep, beam_search, greedy, sample

END, LIMIT = 9, 4


def even(tokens: np.ndarray, rows: np.ndarray, top_k: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Say that each of ten tokens is as probable as the others, the end token named last."""
    ids = np.tile(np.arange(10), (len(tokens), 1))[:, : top_k or 10]
    return ids, np.full(ids.shape, np.log(0.1), np.float32)


def test_the_end_token_takes_the_last_place_and_costs_nothing():
    prompts = np.array([[0], [1]])
    limits = {"end_id": END, "max_new_tokens": LIMIT}
    ids, scores = greedy(EndingStep(even, END, LIMIT), prompts, **limits)
    assert ids == [[0] * (LIMIT - 1)] * 2
    np.testing.assert_allclose(scores, np.log(0.1) * (LIMIT - 1) / LIMIT, rtol=1e-5)
    for found in beam_search(EndingStep(even, END, LIMIT), prompts, num_beams=3, **limits):
        assert len({tuple(hypothesis.ids) for hypothesis in found}) == 3
        assert all(len(hypothesis.ids) == LIMIT - 1 for hypothesis in found)
    drawn, _ = sample(EndingStep(even, END, LIMIT), prompts, seed=0, **limits)
    assert all(len(row) <= LIMIT - 1 for row in drawn)
    assert max(map(len, drawn)) == LIMIT - 1
