"""Scores of a bundle, measured as it will be served."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kzoo.data import Examples
from kzoo.errors import KzooError
from kzoo.recipes.data.parts import Parts, amount, load_parts
from kzoo.recipes.directory import RunDirectory, write
from kzoo.recipes.evaluation.answers import (
    ANSWERS,
    Answers,
    HiddenTokens,
    LabelSets,
    Likelihoods,
    Translations,
)
from kzoo.recipes.evaluation.pictures import draw_pictures
from kzoo.recipes.evaluation.scores import MOSES_BLEU, Pair, Score, named_classes
from kzoo.recipes.evaluation.showing import prompts_to_try, show_hardest, show_translations, texts_to_try
from kzoo.recipes.schema.config import LOWER_IS_BETTER, Recipe
from kzoo.recipes.schema.data_kinds import AlignedData
from kzoo.runtime import Bundle, TruncationWarning, load
from kzoo.runtime.manifest import MANIFEST_FILE
from kzoo.text import Text


def answers(
    pipeline: Any, inputs: Any, *, language: str | None = None, named: Sequence[str] = (), **options: Any
) -> Answers:
    """Return what a bundle answers to each input, with what its scores are made of: one pass over the inputs.

    Args:
        pipeline: what `kzoo.load` gave.
        inputs: texts, pairs of texts, or images.
        language: what translations are in, as for `translation_scores`.
        named: classes whose own F1 is to be a score too.
        **options: of the pipeline, such as `batch_size` and `num_beams`.

    Raises:
        KzooError: the bundle's task is one that has no scores here.
    """
    if pipeline.task not in ANSWERS:
        raise KzooError(
            f"'{pipeline.name}' is for the task '{pipeline.task}'; there are scores for {', '.join(ANSWERS)}."
        )
    more = {"language": language} if language is not None else {}
    return ANSWERS[pipeline.task].ask(
        pipeline, inputs, **more, **({"named": named} if named else {}), **options
    )


def compare_bundles(
    first: Any,
    second: Any,
    examples: Examples,
    *,
    language: str | None = None,
    named: Sequence[str] = (),
    **options: Any,
) -> dict[str, Pair]:
    """Score two bundles on the same examples, and say how sure the difference is.

    Args:
        first: a pipeline, from `kzoo.load`.
        second: another one, of the same task.
        examples: inputs, and what should come out.
        language: as for `answers`.
        named: as for `answers`.
        **options: of the pipelines, such as `batch_size` and `num_beams`.

    Raises:
        KzooError: the bundles are for different tasks, or for one that has no scores here.
    """
    check_same_task(first, second)
    one, other = (
        answers(pipeline, examples.inputs, language=language, named=named, **options)
        for pipeline in (first, second)
    )
    return one.compare(other, examples.targets)


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


def test_data(recipe: Recipe, beside: Path) -> tuple[Examples, str | None]:
    """Return what a recipe's bundle is measured on, and the language of its translations.

    Args:
        recipe: the recipe; what its model is made from need not be there.
        beside: the folder that it lies in.

    Raises:
        KzooError: as `load_parts` does, or there is no test data, as with folds.
    """
    model = recipe.model.model_copy(update={"pretrained": None, "tokenizer": None})
    test = load_parts(recipe.model_copy(update={"model": model, "text": None}), beside).test
    if not len(test):
        raise KzooError("The recipe has no test data: its scores come from folds of the training data.")
    return test, translation_language(recipe)


def translation_language(recipe: Recipe) -> str | None:
    """Return the language that translations are in, if it is known and Moses knows it.

    Raises:
        KzooError: it is not, but the recipe says that it is, or its metric needs it.
    """
    if recipe.task != "seq2seq":
        return None
    from kzoo.recipes.evaluation.moses import language_of, moses

    language = recipe.evaluation.language
    if language is not None:
        moses([], language)
    elif isinstance(recipe.data, AlignedData):
        language = language_of((recipe.data.test or recipe.data.train)[1])
    if language is None and recipe.metric == MOSES_BLEU:
        raise KzooError(
            f"evaluation.metric = {MOSES_BLEU}: the target file's name does not tell its language. Say it: "
            'evaluation.language = "de".'
        )
    return language


class Examiner:
    """Measures the bundle of a recipe on the recipe's test data.

    Args:
        recipe: the recipe.
        parts: its data.
        language: what translations are in, see `answers`.
    """

    def __init__(self, recipe: Recipe, parts: Parts, language: str | None = None) -> None:
        self._recipe, self._parts = recipe, parts
        beams = recipe.evaluation.num_beams
        self._options: dict[str, Any] = {
            "batch_size": recipe.training.batch_size,
            "language": language,
            "named": named_classes([recipe.metric]),
            **({"num_beams": beams} if beams else {}),
        }
        self._last: Answers | None = None

    def __call__(self, pipeline: Any) -> float:
        """Return the leading score of a pipeline, negative where lower ones are better."""
        self._last = self.ask(pipeline)
        found = self._last.scores(self._parts.test.targets, resamples=0)[self._recipe.metric].value
        return -found if self._recipe.metric in LOWER_IS_BETTER else found

    def ask(self, pipeline: Any) -> Answers:
        """Return a pipeline's answers to the test data; sets of labels by thresholds tuned on the validation data."""
        found = self._answers(pipeline, self._parts.test)
        held = self._parts.validation
        if not isinstance(found, LabelSets) or held is None:
            return found
        # On the way of a training the one is the other.
        tried = found if held is self._parts.test else self._answers(pipeline, held)
        return found.above(tried.tuned(held.targets, self._recipe.metric))

    def _answers(self, pipeline: Any, examples: Examples) -> Any:
        with warnings.catch_warnings():
            if self._recipe.task != "seq2seq":
                # How many texts are cut is said before the training, once.
                warnings.simplefilter("ignore", TruncationWarning)
            return answers(pipeline, examples.inputs, **self._options)

    def report(self, directory: RunDirectory) -> dict[str, Any]:
        """Measure a run's bundle, write scores and thresholds into its manifest, and draw the pictures.

        If the examiner was called before, it was with this bundle last, and nothing is asked again.

        Returns:
            What belongs into `metrics.json`, as docs/scores.md explains it.
        """
        test, metric = self._parts.test, self._recipe.metric
        found = self._last or self.ask(load(directory.bundle))
        measured = found.scores(test.targets)
        tried = self._to_try(test, found) if self._recipe.evaluation.show_texts else None
        keep_scores(directory.bundle, measured, found, tried)
        scores = {name: measured[name] for name in (metric, *measured)}
        listed = ", ".join(f"{name} {score}" for name, score in scores.items())
        directory.say(f"On {amount(test, self._recipe):,} test {self._recipe.unit}: {listed}.")
        shown: dict[str, Any] = {"hardest": show_hardest(test, found)}
        if self._recipe.evaluation.mirrored:
            again = answers(load(directory.bundle), test.inputs, mirrored=True, **self._options)
            shown["mirrored"] = again.scores(test.targets, resamples=0)[metric].value
            directory.say(f"With the mirror images' answers: {metric} {shown['mirrored']:.4f}.")
        if isinstance(found, Translations):
            shown = {"shown": show_translations([*map(str, test.inputs)], test.targets, found.found)}
        return {
            "scores": {name: score.value for name, score in scores.items()},
            "margins": {name: score.margin for name, score in scores.items() if score.margin is not None},
            "signatures": {name: score.signature for name, score in scores.items() if score.signature},
            "num_beams": self._recipe.evaluation.num_beams,
            **found.details(test.targets),
            **shown,
            "pictures": draw_pictures(found, test.targets, directory.path),
        }

    def _to_try(self, test: Examples, found: Answers) -> list[Text] | None:
        """Return what a page offers to try the bundle with."""
        if isinstance(found, Likelihoods):
            return prompts_to_try(test)
        return None if isinstance(found, Translations | HiddenTokens) else texts_to_try(test)


def keep_scores(
    path: Path, scores: Mapping[str, Score], found: Answers, examples: list[Text] | None = None
) -> None:
    """Write scores into a bundle's manifest, texts to try, and the thresholds that the answers were chosen by."""
    manifest = Bundle.open(path).manifest
    manifest.examples = examples or manifest.examples
    manifest.metrics = {**manifest.metrics, **{name: score.value for name, score in scores.items()}}
    if isinstance(found, LabelSets) and found.thresholds is not None:
        manifest.thresholds = found.thresholds.tolist()
    write(path / MANIFEST_FILE, manifest.model_dump_json(indent=1, exclude_none=True) + "\n")
