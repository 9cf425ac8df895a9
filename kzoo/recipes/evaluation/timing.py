"""How long models take, side by side."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from kzoo.recipes.data.parts import Parts
from kzoo.recipes.evaluation.showing import prompts_to_try
from kzoo.recipes.schema.config import Recipe

# Inputs that are answered one by one.
_TIMED = 60
# Of a language model: lines, and how far each is gone on with.
_PROMPTS, _NEW_TOKENS = 12, 32


def time_pipelines(pipelines: Mapping[str, Any], recipe: Recipe, parts: Parts) -> dict[str, float]:
    """Return the median milliseconds that each pipeline takes for one input of a recipe's test data.

    Args:
        pipelines: what `kzoo.load` gave, by name.
        recipe: the recipe.
        parts: its data.
    """
    inputs: list[Any] = list(parts.test.inputs[:_TIMED])
    options: dict[str, Any] = {}
    if recipe.task == "embedding":
        inputs = [first for first, _ in inputs]
    elif recipe.task in ("causal_lm", "mlm"):
        lines = prompts_to_try(parts.test) or ["\n"]
        inputs = [*itertools.islice(itertools.cycle(lines), _PROMPTS)]
        options = {"max_new_tokens": _NEW_TOKENS} if recipe.task == "causal_lm" else {}
    elif recipe.evaluation.num_beams:
        options = {"num_beams": recipe.evaluation.num_beams}
    asked = {name: each.guesses if recipe.task == "mlm" else each for name, each in pipelines.items()}
    runs = {name: partial(_ask_one, ask, options) for name, ask in asked.items()}
    return {name: 1000 * seconds for name, seconds in medians(runs, inputs).items()}


def timed_unit(recipe: Recipe) -> str:
    """Return what `time_pipelines` counts a recipe's milliseconds for."""
    units = {"image_classification": "an image", "causal_lm": f"{_NEW_TOKENS} tokens", "mlm": "a line"}
    return units.get(recipe.task, "a text")


def medians(runs: Mapping[str, Callable[[Any], Any]], inputs: Sequence[Any]) -> dict[str, float]:
    """Return the median seconds of each function, all of them in turn, so that all meet the same noise.

    Args:
        runs: the functions by name.
        inputs: what each is called on, one by one.

    Example:
        >>> taken = medians({"short": sum, "long": sorted}, [range(9), range(7)])
        >>> list(taken), min(taken.values()) > 0
        (['short', 'long'], True)
    """
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for each in [inputs[0], *inputs]:
        for name, run in runs.items():
            started = time.perf_counter()
            run(each)
            taken[name].append(time.perf_counter() - started)
    # The first answer warms up.
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def _ask_one(ask: Callable[..., Any], options: Mapping[str, Any], given: Any) -> None:
    ask([given], **options)
