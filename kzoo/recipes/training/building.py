"""Building the model that a recipe describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from kzoo.data import Examples, locate
from kzoo.errors import KzooError, did_you_mean
from kzoo.models import TASKS, TransformerModel, create_model, from_pretrained, load, with_task
from kzoo.models.students import prune_vocabulary
from kzoo.recipes.data.parts import Parts
from kzoo.recipes.data.texts import read_unlabelled
from kzoo.recipes.data.weighing import example_weights
from kzoo.recipes.evaluation.scores import named_classes
from kzoo.recipes.schema.config import STREAMED, Recipe, load_recipe
from kzoo.recipes.schema.data_kinds import PlainTextData
from kzoo.recipes.schema.sections import TextSection, TrainingSection
from kzoo.recipes.training.checkpoints import MODEL, RECIPE, find_pretrained
from kzoo.text import Tokenizer
from kzoo.text.strings import parts_of
from kzoo.training import (
    ClassLoss,
    Distillation,
    InverseSquareRoot,
    SmoothedTokenLoss,
    add_lora,
    cosine_schedule,
    default_learning_rate,
    freeze,
    layer_depths,
    make_optimizer,
)
from kzoo.training.similarity import CosineLoss

# The tasks that read texts, with the kind of tokenizer that is trained for them.
_TOKENIZER_KINDS = {
    "classification": "wordpiece",
    "multilabel": "wordpiece",
    "tokens": "wordpiece",
    "regression": "wordpiece",
    "embedding": "wordpiece",
    "seq2seq": "bpe",
    "causal_lm": "bpe",
    "mlm": "wordpiece",
}
# The tasks whose head is none of its own, or the checkpoint's.
_WITHOUT_NEW_HEAD = STREAMED | {"embedding"}


def build_model(
    recipe: Recipe, parts: Parts, beside: Path, *, tokenizer: Tokenizer | None = None
) -> TransformerModel:
    """Build the recipe's model, after training its tokenizer if it brings none and none is given, and compile it.

    Raises:
        KzooError: the recipe's model does not exist, cannot carry the task, or was given a wrong knob.
    """
    training = recipe.training
    _check_classes(recipe, parts)
    keras.utils.set_random_seed(training.seed)
    options: dict[str, Any] = dict(recipe.model.knobs)
    if training.precision != "float32":
        options["dtype"] = training.precision
    if recipe.model.pretrained is not None:
        source = find_pretrained(recipe.model.pretrained, beside)
        if recipe.model.pretrained.endswith((MODEL, RECIPE)):
            model = _from_model(
                _trained_model(recipe.model.pretrained, source, beside), recipe, parts, options
            )
        else:
            model = _from_checkpoint(source, recipe, parts, options)
    else:
        if recipe.task in _TOKENIZER_KINDS:
            tokenizer = tokenizer or _tokenizer(recipe, parts.train, beside)
            options |= {"tokenizer": tokenizer, "vocab_size": tokenizer.vocab_size}
        if parts.labels is not None:
            options["labels"] = parts.labels
        model = create_model(recipe.model.title, task=recipe.task, **options)
    _keep_still(model, recipe)
    compile_model(model, recipe, len(parts.train))
    return model


def compile_model(model: TransformerModel, recipe: Recipe, examples: int) -> None:
    """Compile a model with the recipe's optimizer, for so many training examples, and the task's loss."""
    training, task = recipe.training, TASKS[recipe.task]
    loss = task.loss()
    if training.label_smoothing:
        smoothed = SmoothedTokenLoss if recipe.task in STREAMED else ClassLoss
        loss = smoothed(training.label_smoothing)
    if recipe.task == "embedding":
        loss = CosineLoss()
    model.compile(optimizer=optimizer_for(model, training, examples), loss=loss, metrics=task.metrics())
    model.optimizer.build(model.trainable_variables)


def _keep_still(model: TransformerModel, recipe: Recipe) -> None:
    """Let only that train which the recipe says."""
    if recipe.lora is not None:
        add_lora(model, recipe.lora.rank, recipe.lora.alpha, recipe.lora.targets)
    if recipe.training.freeze is not None:
        freeze(model, recipe.training.freeze)


def _check_classes(recipe: Recipe, parts: Parts) -> None:
    """Refuse, before hours of training, a recipe that speaks of classes which the data has not."""
    example_weights(recipe.training, parts)
    for name in named_classes([recipe.metric]):
        if parts.labels is not None and name not in parts.labels:
            raise KzooError(
                f"evaluation.metric: '{name}' is none of the classes.{did_you_mean(name, parts.labels)}"
            )


def _trained_model(name: str, source: Path, beside: Path) -> TransformerModel:
    """Return the model in a `.keras` file, or the one that another recipe's run exported."""
    from kzoo.recipes.training.teaching import trained_model

    if name.endswith(RECIPE):
        return trained_model(load_recipe(beside / name), source.parent)
    opened: Any = load(source)
    return opened.student if isinstance(opened, Distillation) else opened


def _from_model(
    trained: TransformerModel, recipe: Recipe, parts: Parts, options: dict[str, Any]
) -> TransformerModel:
    """Return the trained model's backbone under the task's head, with its tokenizer."""
    if recipe.text is not None and "vocab_size" in recipe.text.model_fields_set:
        trained = prune_vocabulary(trained, parts.train.inputs, recipe.text.vocab_size)
    return with_task(trained, recipe.task, labels=parts.labels, **options)


def _from_checkpoint(folder: Path, recipe: Recipe, parts: Parts, options: dict[str, Any]) -> TransformerModel:
    """Return the checkpoint's backbone under a new head, with its tokenizer."""
    whole = recipe.task in _WITHOUT_NEW_HEAD
    bare = from_pretrained(folder, task=recipe.task if whole else "features", **options)
    if recipe.text is not None and "vocab_size" in recipe.text.model_fields_set:
        bare = prune_vocabulary(bare, parts.train.inputs, recipe.text.vocab_size)
    if whole:
        return bare
    if recipe.task not in bare.backbone.tasks:
        kind = type(bare.backbone).__name__
        hint = did_you_mean(recipe.task, bare.backbone.tasks)
        raise KzooError(
            f"model.pretrained = '{recipe.model.pretrained}' is a {kind}, which cannot carry {recipe.task}.{hint}"
        )
    return TransformerModel(
        bare.backbone,
        recipe.task,
        labels=parts.labels,
        tokenizer=bare.tokenizer,
        max_length=bare.max_length,
        image_preprocessing=bare.image_preprocessing,
        gradient_checkpointing=bare.gradient_checkpointing,
        name=bare.name,
    )


def optimizer_for(
    model: TransformerModel, training: TrainingSection, examples: int
) -> keras.optimizers.Optimizer:
    """Return the optimizer that a recipe asks for, its schedule made for so many training examples."""
    rate = training.learning_rate or default_learning_rate(model.backbone.config.hidden_dim)
    # Schedules count batches, of which several may make an update.
    each = training.accumulate
    warmup = training.warmup_steps * each if training.warmup_steps is not None else None
    updates = training.max_steps
    batches = -(-examples // training.batch_size) * training.periods if updates is None else updates * each
    schedule = cosine_schedule(rate, batches, warmup)
    if training.schedule == "inverse_sqrt":
        schedule = InverseSquareRoot(rate, warmup or max(min(batches // 10, 1000 * each), 1))
    return make_optimizer(
        schedule,
        betas=(training.betas[0], training.betas[1]),
        weight_decay=training.weight_decay,
        clip_norm=training.clip_norm,
        accumulate=each,
        depths=layer_depths(model),
        layer_decay=training.layer_decay,
        gradual=training.unfreeze_every is not None,
    )


def _tokenizer(recipe: Recipe, train: Examples, beside: Path) -> Tokenizer:
    if recipe.model.tokenizer is not None:
        return Tokenizer.from_file(locate(recipe.model.tokenizer, beside))
    texts = [part for text in train.inputs for part in parts_of(text)]
    if recipe.task == "seq2seq":
        texts += train.targets
    if recipe.pretraining is not None:
        texts += read_unlabelled(recipe.pretraining, beside)
    section = recipe.text or TextSection()
    if isinstance(recipe.data, PlainTextData) and recipe.task == "causal_lm":
        return _language_tokenizer(texts, section, apart=recipe.data.tells_documents_apart)
    kind: Any = _TOKENIZER_KINDS[recipe.task]
    return Tokenizer.train(texts, kind=kind, vocab_size=section.vocab_size)


def _language_tokenizer(texts: list[str], section: TextSection, apart: bool) -> Tokenizer:
    """Return a tokenizer whose texts begin and end as documents do, if they are told apart, or nowhere."""
    kind: Any = "bpe" if section.units == "subwords" else section.units
    marks: Any = "both" if apart else "none"
    tokenizer = Tokenizer.train(texts, kind=kind, vocab_size=section.vocab_size, marks=marks)
    if not apart:
        # Such a text is never at its beginning: where there is no prompt, a new line comes next.
        encoded = tokenizer.encode(["\n"], max_length=1).input_ids[0]
        tokenizer.start_id, tokenizer.end_id = int(encoded[0]), None
    return tokenizer
