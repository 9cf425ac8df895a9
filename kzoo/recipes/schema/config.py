"""What a recipe may say, and how it is read."""

from __future__ import annotations

import copy
import os
import tomllib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from kzoo.data import TextAugmentation
from kzoo.errors import KzooError, did_you_mean
from kzoo.recipes.schema.data_kinds import (
    DATA_KINDS,
    AlignedData,
    Data,
    PairTableData,
    PlainTextData,
    Section,
    TableData,
)
from kzoo.recipes.schema.sections import (
    DistillationSection,
    EvaluationSection,
    ExportSection,
    LoraSection,
    MaskingSection,
    ModelSection,
    PretrainingSection,
    TextSection,
    TrainingSection,
    VisionSection,
)

# The scores of each task that may lead, the one that does by default first.
SCORES = {
    "classification": ("accuracy", "macro_f1", "micro_f1"),
    "image_classification": ("accuracy", "macro_f1", "micro_f1"),
    "multilabel": ("macro_f1", "micro_f1", "exact_match"),
    "tokens": ("span_f1", "token_accuracy"),
    "regression": ("pearson", "spearman"),
    "embedding": ("spearman", "pearson"),
    "seq2seq": ("bleu", "chrf", "bleu_lowercased_tokenized"),
    "causal_lm": ("nats_per_character", "bits_per_character", "bits_per_byte", "perplexity"),
    "mlm": ("perplexity", "masked_accuracy"),
}
# The scores that are better the lower they are.
LOWER_IS_BETTER = frozenset(SCORES["causal_lm"])
# The tasks that may be learnt by updates, from batches of so many tokens.
STREAMED = frozenset({"seq2seq", "causal_lm", "mlm"})
_ONE_CLASS = frozenset({"classification", "image_classification"})
# The tasks where one class' F1 may lead, as `f1:NAME`.
_WITH_F1_OF = _ONE_CLASS | {"multilabel"}


class Recipe(Section):
    """A whole training run, from data to bundle, as one TOML file says it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    description: str = ""
    """What the card says of the model."""

    data: Data
    text: TextSection | None = None
    vision: VisionSection | None = None
    masking: MaskingSection | None = None
    model: ModelSection
    pretraining: PretrainingSection | None = None
    training: TrainingSection
    lora: LoraSection | None = None
    distillation: DistillationSection | None = None
    evaluation: EvaluationSection = EvaluationSection()
    export: ExportSection = ExportSection()

    @model_validator(mode="after")
    def _check_sections(self) -> Recipe:
        reads_text = self.task != "image_classification"
        if self.vision is not None and reads_text:
            raise ValueError("the section 'vision' is for images; the data is text")
        if self.vision is not None and self.training.batch_size % self.vision.augment.repeats:
            raise ValueError(
                f"training.batch_size={self.training.batch_size} is not a multiple of vision.augment.repeats="
                f"{self.vision.augment.repeats}"
            )
        if not reads_text and (self.text is not None or self.model.tokenizer is not None):
            raise ValueError("the data is images: there is no use for the section 'text' or a tokenizer")
        for knob in ("task", "num_classes", "labels"):
            if knob in self.model.knobs:
                raise ValueError(f"model.{knob} follows from the data: leave it out")
        if "vocab_size" in self.model.knobs:
            raise ValueError("model.vocab_size follows from the tokenizer: set text.vocab_size instead")
        if self.text is not None:
            self._check_text(self.text)
        if self.masking is not None and self.task != "mlm":
            raise ValueError("the section 'masking' is for plain text and an encoder, such as bert_tiny")
        self._check_training(self.training)
        if self.pretraining is not None:
            self._check_pretraining(self.pretraining)
        if self.distillation is not None:
            self._check_distillation(self.distillation)
        self._check_metric()
        if self.evaluation.mirrored and reads_text:
            raise ValueError("evaluation.mirrored is for images; the data is text")
        for name in ("num_beams", "language"):
            if getattr(self.evaluation, name) is not None and self.task != "seq2seq":
                raise ValueError(f"evaluation.{name} is for translations; this data is none")
        return self

    def _check_text(self, text: TextSection) -> None:
        if "vocab_size" in text.model_fields_set and self.model.tokenizer is not None:
            raise ValueError("text.vocab_size is for a tokenizer to be trained; model.tokenizer gives one")
        if text.dropout and self.training.batch_tokens is None:
            raise ValueError("text.dropout needs training.batch_tokens")
        if text.dropout and self.task != "seq2seq":
            raise ValueError("text.dropout is for pairs of texts")
        if text.units != "subwords" and (self.task != "causal_lm" or self.model.name is None):
            raise ValueError("text.units is for a tokenizer that is trained on plain text, for a decoder")
        if text.augment != TextAugmentation() and self.task in ("tokens", *STREAMED):
            raise ValueError(
                "text.augment: these texts cannot be varied, since their targets would not follow"
            )

    def _check_training(self, training: TrainingSection) -> None:
        if training.max_steps is not None and self.task not in STREAMED:
            raise ValueError("training.max_steps is for pairs of texts and plain text")
        if training.max_steps is None and self.learns_language:
            raise ValueError("plain text is learnt by updates: set training.max_steps in place of epochs")
        if training.label_smoothing and self.task not in STREAMED | _ONE_CLASS:
            raise ValueError(
                "training.label_smoothing is for data with one class for each example, pairs of texts and plain text"
            )
        for field in ("patience", "seeds"):
            if getattr(training, field) is not None and not self._has_validation:
                raise ValueError(f"training.{field} needs data.validation or data.validation_share")
        for field in ("seeds", "folds", "freeze", "unfreeze_every"):
            if getattr(training, field) is not None and self.task in STREAMED:
                raise ValueError(f"training.{field} is not for pairs of texts, or plain text")
        if training.class_weights is not None and self.task not in _ONE_CLASS:
            raise ValueError("training.class_weights is for data with one class for each example")
        if training.folds is not None:
            for field in ("test", "test_share", "test_hash_below"):
                if getattr(self.data, field, None) is not None:
                    raise ValueError(
                        f"training.folds is for data without a test part: leave data.{field} out"
                    )
            if self.export.max_drop is not None:
                raise ValueError(
                    "export.max_drop is measured on a test part, which training.folds goes without"
                )
        if self.lora is not None and (training.freeze is not None or training.unfreeze_every is not None):
            raise ValueError(
                "the section 'lora' keeps all but adapters and head still: leave freeze and unfreeze_every out"
            )

    def _check_pretraining(self, section: PretrainingSection) -> None:
        if self.task in STREAMED:
            raise ValueError(
                "the section 'pretraining' comes before labels, and this data has none: it is for images and texts "
                "with labels"
            )
        if self.task == "image_classification" and section.unlabelled_text is not None:
            raise ValueError("pretraining.unlabelled_text is for texts; the data is images")
        if self.task != "image_classification" and section.share is not None:
            raise ValueError("pretraining.share is for images; the data is text")
        if self.distillation is not None:
            raise ValueError("the section 'pretraining' does not go with the section 'distillation'")
        kept_still = self.lora is not None or self.training.freeze is not None
        if kept_still or self.training.unfreeze_every is not None:
            raise ValueError(
                "the section 'pretraining' trains the whole model: leave lora, freeze and unfreeze_every out"
            )

    def _check_distillation(self, section: DistillationSection) -> None:
        if self.task in (*STREAMED, "image_classification"):
            raise ValueError(
                "the section 'distillation' is for texts with labels, or pairs that are alike or not"
            )
        for field in ("seeds", "folds", "freeze", "unfreeze_every"):
            if getattr(self.training, field) is not None:
                raise ValueError(f"training.{field} does not go with the section 'distillation'")
        if self.lora is not None or self.training.layer_decay != 1.0:
            raise ValueError(
                "the section 'lora' and training.layer_decay do not go with the section 'distillation'"
            )
        if self.training.label_smoothing:
            raise ValueError("training.label_smoothing: a teacher's answers are smooth already; leave it out")
        if section.initialize and (self.model.name is None or self.model.tokenizer is not None):
            raise ValueError(
                "distillation.initialize gives the student weights and tokenizer: say model.name, and leave "
                "model.pretrained and model.tokenizer out"
            )
        if self.task == "embedding" and section.epochs is None:
            raise ValueError(
                "distillation.epochs: embeddings are learnt from the teacher first, and then from pairs"
            )
        if section.learning_rate is not None and section.epochs is None:
            raise ValueError("distillation.learning_rate needs distillation.epochs")
        varied = self.text is not None and self.text.augment != TextAugmentation()
        if bool(section.augmented) > varied:
            raise ValueError("distillation.augmented needs text.augment, which says how texts are varied")
        if varied and not section.augmented and section.epochs is None:
            raise ValueError(
                "text.augment: a teacher is asked once; set distillation.augmented = 1 for a copy of each"
            )

    def _check_metric(self) -> None:
        metric, scores = self.evaluation.metric, SCORES[self.task]
        of_class = self.task in _WITH_F1_OF
        if metric is None or metric in scores or (of_class and metric.startswith("f1:")):
            return
        more = ", and in f1:NAME of each class" if of_class else ""
        raise ValueError(
            f"evaluation.metric: this task is measured in {', '.join(scores)}{more}.{did_you_mean(metric, scores)}"
        )

    @property
    def _has_validation(self) -> bool:
        return getattr(self.data, "validation", None) is not None or self.data.validation_share is not None

    @property
    def task(self) -> str:
        """The model's task, which follows from the data."""
        if isinstance(self.data, AlignedData | PairTableData):
            return "seq2seq"
        if isinstance(self.data, PlainTextData):
            return self.data.task_of(self.model.name)
        if isinstance(self.data, TableData):
            return "embedding" if self.data.task == "similarity" else self.data.task
        return "image_classification"

    @property
    def learns_language(self) -> bool:
        """Whether the model learns a text's tokens."""
        return self.task in ("causal_lm", "mlm")

    @property
    def unit(self) -> str:
        """What the data's size is counted in."""
        return "characters" if self.learns_language else "examples"

    @property
    def metric(self) -> str:
        """The score that leads."""
        return self.evaluation.metric or SCORES[self.task][0]


def load_recipe(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: the TOML file.
        overrides: changes as `section.field=value`, see `apply_overrides`.

    Raises:
        KzooError: there is no such file, it is no TOML, or a field is unknown, missing, wrong, or contradicts
            another; the message names the file, the field, and the nearest valid one.
    """
    file = Path(path)
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KzooError(f"There is no recipe {file}.") from None
    except OSError as error:
        raise KzooError(f"{file} cannot be read: {error.strerror or error}.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise KzooError(f"{file} is not TOML: {error}.") from None
    try:
        return Recipe.model_validate(apply_overrides(raw, overrides))
    except ValidationError as error:
        raise KzooError(f"{file} is not a valid recipe:\n{_problems(error)}") from None


def apply_overrides(recipe: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a recipe's fields with some changed.

    Args:
        recipe: the fields, sections as dicts.
        overrides: each `section.field=value`, the value as in TOML; what is not TOML is a string.

    Raises:
        KzooError: an override is not of this form, or goes through a field that is no section.

    Example:
        >>> apply_overrides({"training": {"epochs": 3}}, ["training.epochs=5", "model.name=bert_mini"])
        {'training': {'epochs': 5}, 'model': {'name': 'bert_mini'}}
    """
    changed = copy.deepcopy(dict(recipe))
    for override in overrides:
        path, equals, value = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise KzooError(
                f"'{override}' is no override: write section.field=value, as in training.epochs=5."
            )
        table = changed
        for depth, key in enumerate(keys[:-1], start=1):
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise KzooError(f"'{override}': {'.'.join(keys[:depth])} is a value, not a section.")
        table[keys[-1]] = _toml_value(value.strip())
    return changed


def _toml_value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text


def _problems(error: ValidationError) -> str:
    """Return a line for each field that something is wrong with."""
    problems: dict[str, list[str]] = {}
    given: dict[str, str] = {}
    for details in error.errors():
        field, problem = _problem(details)
        # What may be of several types fails once for each.
        problems.setdefault(field, []).append(problem)
        if not isinstance(details["input"], dict | BaseModel) and not problem.startswith("unknown"):
            given[field] = f" (it is {details['input']!r})"
    return "\n".join(
        f"  {field}{', or '.join(found)}{given.get(field, '')}" for field, found in problems.items()
    )


def _problem(details: ErrorDetails) -> tuple[str, str]:
    """Return a field, and what is wrong with it, with the nearest valid name."""
    place: list[str] = []
    section: Any = Recipe
    inner: Any = Recipe
    for key in map(str, details["loc"]):
        if key in DATA_KINDS:
            inner = DATA_KINDS[key]
        elif inner is not None:
            section, inner = inner, _section_class(inner, key)
            place.append(key)
    field = ".".join(place)
    if details["type"] == "extra_forbidden":
        return f"{field}: ", f"unknown field.{did_you_mean(place[-1], section.model_fields)}"
    if details["type"] == "missing":
        return f"{field}: ", "the field is missing"
    return f"{field}: " if field else "", details["msg"].removeprefix("Value error, ")


def _section_class(section: Any, key: str) -> Any:
    """Return the class of a section's sub-section; for `data` its common part; None for a field without."""
    field = section.model_fields.get(key)
    kinds = (field.annotation, *typing.get_args(field.annotation)) if field else ()
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
