"""How a text is written: what a call of a pipeline says of it, and the search that follows from that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from kzoo.errors import KzooError
from kzoo.search import (
    Constraints,
    Emitted,
    Hypothesis,
    Step,
    beam_search,
    drawing,
    emit,
    greedy,
    most_probable,
    sample,
)


@dataclass(frozen=True)
class Search:
    """The arguments that the pipelines that write text have in common; they say there what each one is.

    `random` is one generator for all batches of a call, so that they draw different numbers.

    Raises:
        KzooError: if one is out of range, or two exclude each other.
    """

    num_beams: int = 1
    num_return: int | None = None
    length_penalty: float = 1.0
    length_offset: float = 0.0
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    random: np.random.Generator | None = None
    constraints: Constraints = field(default_factory=Constraints)

    def __post_init__(self) -> None:
        if self.num_beams < 1:
            raise KzooError(f"num_beams is {self.num_beams}; it must be at least 1.")
        if self.num_return is not None and not 1 <= self.num_return <= self.num_beams:
            raise KzooError(
                f"num_return is {self.num_return}; it must be at least 1, and at most num_beams, which is "
                f"{self.num_beams}."
            )
        if self.temperature == 0 and (self.top_k is not None or self.top_p is not None):
            raise KzooError(
                "top_k and top_p are for drawing: give a temperature above 0 too, for example 0.8."
            )
        if self.temperature != 0 and self.num_beams != 1:
            raise KzooError("num_beams is for a search: leave the temperature at 0, or num_beams at 1.")

    def run(
        self, step: Step, prompts: np.ndarray, end_id: int | None, limit: int, mask: np.ndarray | None = None
    ) -> list[list[Hypothesis]]:
        """Return each prompt's best continuations, best first.

        Args:
            step: the model.
            prompts: int (batch, prompt_length).
            end_id: what ends a continuation.
            limit: most tokens of one.
            mask: int (batch, prompt_length), 0 for padding.
        """
        step = self.constraints.applied(step, mask)
        if self.num_beams > 1:
            return beam_search(
                step,
                prompts,
                num_beams=self.num_beams,
                end_id=end_id,
                max_new_tokens=limit,
                length_penalty=self.length_penalty,
                length_offset=self.length_offset,
            )
        if self.temperature == 0:
            ids, scores = greedy(step, prompts, end_id=end_id, max_new_tokens=limit)
        else:
            ids, scores = sample(
                step,
                prompts,
                end_id=end_id,
                max_new_tokens=limit,
                temperature=self.temperature,
                top_k=self.top_k,
                top_p=self.top_p,
                seed=self.random,
            )
        return [[Hypothesis(row, float(score))] for row, score in zip(ids, scores, strict=True)]

    def stream(self, step: Step, prompt: np.ndarray, end_id: int | None, limit: int) -> Iterator[Emitted]:
        """Yield each token of one prompt's continuation (1, prompt_length) as it comes.

        Raises:
            KzooError: if there is more than one beam, whose tokens are known at the end only.
        """
        if self.num_beams > 1:
            raise KzooError(
                "Beams are compared at their ends: nothing can be shown before. Leave num_beams at 1."
            )
        greedily = self.temperature == 0
        return emit(
            self.constraints.applied(step),
            prompt,
            choose=most_probable
            if greedily
            else drawing(self.temperature, self.top_k, self.top_p, self.random),
            top_k=1 if greedily else self.top_k,
            end_id=end_id,
            max_new_tokens=limit,
        )


def generator(seed: int | None) -> np.random.Generator:
    """Return what draws numbers, the same ones for the same seed.

    Raises:
        KzooError: if the seed is negative.
    """
    if seed is not None and seed < 0:
        raise KzooError(f"seed is {seed}; it must be 0 or greater.")
    return np.random.default_rng(seed)
