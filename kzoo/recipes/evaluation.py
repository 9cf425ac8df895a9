"""Scores of a bundle, measured as it will be served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kzoo.data import Examples
from kzoo.errors import KzooError
from kzoo.recipes.config import SCORES
from kzoo.recipes.directory import write
from kzoo.recipes.scores import (
    RESAMPLES,
    Pair,
    Score,
    class_scores,
    compare_classes,
    compare_translations,
    translation_scores,
)
from kzoo.runtime import Bundle
from kzoo.runtime.manifest import MANIFEST_FILE

# Where each task's results hold what is compared.
_ANSWERS = {"classification": "label", "image_classification": "label", "seq2seq": "translation"}


def answers(pipeline: Any, inputs: Any, **options: Any) -> list[str]:
    """Return what a bundle says to each input: the class, or the translation.

    Args:
        pipeline: what `kzoo.load` gave.
        inputs: texts or images.
        **options: of the pipeline, such as `batch_size` and `num_beams`.

    Raises:
        KzooError: the bundle's task is one that has no scores here.
    """
    if pipeline.task not in _ANSWERS:
        raise KzooError(
            f"'{pipeline.name}' is for the task '{pipeline.task}'; there are scores for {', '.join(SCORES)}."
        )
    return [result[_ANSWERS[pipeline.task]] for result in pipeline(list(inputs), **options)]


def measure(
    task: str,
    found: Sequence[str],
    expected: Sequence[str],
    *,
    language: str | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Score]:
    """Return the scores of a task, by name, see `translation_scores` and `class_scores`.

    Args:
        task: the task.
        found: what `answers` gave.
        expected: what should have come out.
        language: as for `translation_scores`.
        resamples: as for `translation_scores`.
    """
    if task == "seq2seq":
        return translation_scores(found, expected, language=language, resamples=resamples)
    return class_scores(found, expected, resamples=resamples)


def compare_bundles(
    first: Any, second: Any, examples: Examples, *, language: str | None = None, **options: Any
) -> dict[str, Pair]:
    """Score two bundles on the same examples, and say how sure the difference is.

    Args:
        first: a pipeline, from `kzoo.load`.
        second: another one, of the same task.
        examples: inputs, and what should come out.
        language: as for `translation_scores`.
        **options: of the pipelines, such as `batch_size` and `num_beams`.

    Raises:
        KzooError: the bundles are for different tasks, or for one that has no scores here.
    """
    check_same_task(first, second)
    one, other = (answers(pipeline, examples.inputs, **options) for pipeline in (first, second))
    if first.task == "seq2seq":
        return compare_translations(one, other, examples.targets, language=language)
    return compare_classes(one, other, examples.targets)


def check_same_task(first: Any, second: Any) -> None:
    """Refuse two pipelines that cannot be compared.

    Raises:
        KzooError: they are for different tasks.
    """
    if first.task != second.task:
        raise KzooError(
            f"'{first.name}' is for the task '{first.task}' and '{second.name}' for '{second.task}': only bundles of "
            "one task can be compared."
        )


def keep_scores(path: Path, scores: Mapping[str, Score]) -> None:
    """Write scores into a bundle's manifest."""
    manifest = Bundle.open(path).manifest
    manifest.metrics = {**manifest.metrics, **{name: score.value for name, score in scores.items()}}
    write(path / MANIFEST_FILE, manifest.model_dump_json(indent=1, exclude_none=True) + "\n")
