"""Training a student by a recipe: from a teacher, and beside it from scratch, with a table of all three."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from kzoo.errors import KzooError
from kzoo.models import TransformerModel
from kzoo.models.students import take_weights
from kzoo.recipes.data.parts import Parts
from kzoo.recipes.data.texts import read_unlabelled, varier
from kzoo.recipes.data.weighing import example_weights
from kzoo.recipes.directory import OnEpoch, RunDirectory, write
from kzoo.recipes.evaluation.examining import Examiner
from kzoo.recipes.evaluation.timing import time_pipelines
from kzoo.recipes.schema.config import Recipe
from kzoo.recipes.schema.sections import DistillationSection, TextSection
from kzoo.recipes.training.building import build_model, compile_model, optimizer_for
from kzoo.recipes.training.fitting import choose, leading_score, load_checkpoint, train
from kzoo.recipes.training.keeping import Keeper
from kzoo.recipes.training.repeating import Fitted
from kzoo.recipes.training.teaching import Teacher
from kzoo.runtime import load
from kzoo.text import Tokenizer
from kzoo.text.pruning import prune_tokenizer
from kzoo.training import Distillation


@dataclass(frozen=True)
class Row:
    """What is said of one of the three.

    Attributes:
        name: who it is.
        score: the leading one, on the test data.
        parameters: of the Keras model; None where there is only a bundle.
        size: bytes on disk of the bundle.
        milliseconds: median of one text at a time.
    """

    name: str
    score: float
    parameters: int | None
    size: int
    milliseconds: float


class Schooling:
    """Trains the student of a recipe, and goes on where it was stopped.

    Args:
        recipe: with a section `distillation`.
        parts: its data.
        beside: the recipe's folder.
        teacher: whom to learn from.
    """

    def __init__(self, recipe: Recipe, parts: Parts, beside: Path, teacher: Teacher) -> None:
        if recipe.distillation is None:
            raise ValueError("the recipe has no section 'distillation'")
        self._recipe, self._parts, self._beside, self._teacher = recipe, parts, beside, teacher
        self._section: DistillationSection = recipe.distillation
        self._unlabelled = read_unlabelled(self._section, beside)
        self._tokenizer = self._pruned_tokenizer() if self._section.initialize else None

    def _pruned_tokenizer(self) -> Tokenizer:
        model = self._teacher.model
        if model is None or model.tokenizer is None:
            raise KzooError(
                "distillation.initialize = true takes weights and tokenizer from the teacher, which a bundle does "
                "not show: name the Keras model that it was exported from, or set initialize = false."
            )
        size = (self._recipe.text or TextSection()).vocab_size
        return prune_tokenizer(model.tokenizer, [*self._parts.train.inputs, *self._unlabelled], size)

    def build(self) -> TransformerModel:
        """Return the student as it begins, compiled."""
        model = build_model(self._recipe, self._parts, self._beside, tokenizer=self._tokenizer)
        if self._section.initialize and self._teacher.model is not None:
            take_weights(model, self._teacher.model, self._section.layers)
        return model

    def begin(self, run: RunDirectory, verbose: int, on_epoch: OnEpoch | None) -> Schooling:
        """Say where all goes, and what to show; see `kzoo.recipes.training.repeating.Trainer`."""
        self._run, self._verbose, self._on_epoch = run, verbose, on_epoch
        return self

    def fit(self, model: TransformerModel) -> Fitted:
        """Train the student that `build` gave, and return it."""
        recipe, section = self._recipe, self._section
        if section.epochs is None:
            return Fitted(model, self._run, recipe, self._distil(model, recipe, self._run), {})
        changes: dict[str, Any] = {"epochs": section.epochs, "average": 1, "patience": None}
        if section.learning_rate is not None:
            changes["learning_rate"] = section.learning_rate
        first = recipe.model_copy(update={"training": recipe.training.model_copy(update=changes)})
        self._distil(model, first, self._run.part("distillation"))
        compile_model(model, recipe, len(self._parts.train))
        return Fitted(model, self._run, recipe, self._train(model, self._run), {})

    def _train(self, model: TransformerModel, run: RunDirectory) -> int:
        return train(model, self._recipe, self._parts, run, self._beside, self._verbose, self._on_epoch)

    def _distil(self, model: TransformerModel, recipe: Recipe, run: RunDirectory) -> int:
        """Learn from the teacher, and return the checkpoint that was chosen."""
        section, training = self._section, recipe.training
        x, y = self._lesson(self._parts.train.inputs, self._parts.train.targets)
        more = [*self._unlabelled, *self._copies(model, run)]
        distillation = Distillation(
            model,
            self._teacher.source,
            weights={str(part): weight for part, weight in section.weights.items()} or None,
            temperature=section.temperature,
            layers=section.layers,
            embedding=section.embedding,
            cache=self._run.path.parent / "teacher-outputs",
            unlabelled=more,
        )
        examples = len(x) + len(more)
        distillation.compile(optimizer=optimizer_for(model, training, examples))
        distillation.optimizer.build(distillation.trainable_variables)
        first = run.last_epoch()
        if first:
            load_checkpoint(distillation, run.checkpoint(first))
            keras.utils.set_random_seed(training.seed + first)
        held = self._parts.validation
        keeper = Keeper(run, recipe, self._on_epoch, None, leading_score(model, recipe, self._parts, run))
        if first < training.periods and not keeper.is_over():
            self._run.say(f"Learning from the teacher, on {examples:,} texts.")
            distillation.fit(
                x,
                y,
                sample_weight=None if y is None else example_weights(training, self._parts),
                batch_size=training.batch_size,
                epochs=training.periods,
                initial_epoch=first,
                validation_data=None if held is None else self._lesson(held.inputs, held.targets),
                verbose=self._verbose,
                callbacks=[keeper],
            )
        return choose(distillation, training, run, keeper, first)

    def _lesson(self, inputs: Any, targets: Any) -> tuple[list[Any], Any]:
        """Return texts and labels; of embeddings, both texts of each pair and no labels."""
        if self._recipe.task == "embedding":
            return [text for pair in inputs for text in pair], None
        return list(inputs), targets

    def _copies(self, model: TransformerModel, run: RunDirectory) -> list[Any]:
        """Return varied copies of the training texts, the same whenever the run goes on."""
        count = self._section.augmented
        if not count:
            return []
        file = run.path / "augmented.json"
        if not file.is_file():
            vary = varier(self._recipe, self._parts.train, model.tokenizer, run, self._beside)
            texts = list(self._parts.train.inputs)
            copies = [text for _ in range(count) for text in (vary(texts) if vary is not None else ())]
            write(file, json.dumps(self._lesson(copies, None)[0]) + "\n")
        read = json.loads(file.read_text(encoding="utf-8"))
        return [text if isinstance(text, str) else tuple(text) for text in read]

    def compare(self, student: TransformerModel) -> dict[str, Any]:
        """Return the table of teacher, student from scratch and student, for `metrics.json` and the card.

        Args:
            student: as it was exported into the run's bundle.
        """
        bundles = {"teacher": (self._teacher_bundle(), self._teacher.model)}
        if self._section.from_scratch:
            bundles["student from scratch"] = self._from_scratch()
        bundles["student distilled"] = (self._run.bundle, student)
        rows = measure(self._recipe, self._parts, bundles)
        table = as_table(self._recipe.metric, rows)
        for line in table:
            self._run.say(line)
        return {
            "distillation": "\n".join(["## Teacher and student", "", *table]),
            "compared": [vars(row) for row in rows],
        }

    def _teacher_bundle(self) -> Path:
        if self._teacher.bundle is not None:
            return self._teacher.bundle
        from kzoo.export import to_bundle

        path = self._run.path / "teacher-bundle"
        if not path.is_dir():
            to_bundle(self._teacher.source, path, name="teacher", progress=self._run.log)
        return path

    def _from_scratch(self) -> tuple[Path, TransformerModel]:
        """Return the bundle of the same student, trained on the labels alone, and the student."""
        from kzoo.export import to_bundle

        run = self._run.part("from-scratch")
        model = build_model(self._recipe, self._parts, self._beside, tokenizer=self._tokenizer)
        if run.result() is None:
            self._run.say("The same student from scratch:")
            epoch = self._train(model, run)
            to_bundle(
                model, run.bundle, name="from-scratch", dtype=self._recipe.export.dtype, progress=run.log
            )
            run.finish({"epoch": epoch})
        return run.bundle, model


def measure(
    recipe: Recipe, parts: Parts, bundles: Mapping[str, tuple[Path, TransformerModel | None]]
) -> list[Row]:
    """Return a row for each bundle.

    Args:
        recipe: whose metric counts.
        parts: what it is measured on.
        bundles: each by its name, with the model that it was exported from, if that is known.
    """
    pipelines = {name: load(bundle) for name, (bundle, _) in bundles.items()}
    examiner, taken = Examiner(recipe, parts), time_pipelines(pipelines, recipe, parts)
    return [
        Row(
            name=name,
            score=examiner(pipelines[name]),
            parameters=model.count_params() if model is not None else None,
            size=sum(file.stat().st_size for file in bundle.iterdir()),
            milliseconds=taken[name],
        )
        for name, (bundle, model) in bundles.items()
    ]


def as_table(metric: str, rows: Sequence[Row]) -> list[str]:
    """Return the lines of a table in Markdown."""
    lines = [f"| | {metric} | parameters | MB on disk | ms a text |", "| --- | ---: | ---: | ---: | ---: |"]
    for row in rows:
        parameters = f"{row.parameters:,}" if row.parameters is not None else ""
        lines.append(
            f"| {row.name} | {row.score:.4f} | {parameters} | {row.size / 1e6:.1f} | {row.milliseconds:.1f} |"
        )
    return lines
