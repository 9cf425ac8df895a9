"""Objectives: how a batch's labels become what the loss compares, and the losses and metrics over tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kzoo.errors import KzooError, did_you_mean
from kzoo.training.masking import Masking

# The label of a position that counts in no loss; the ecosystem's convention.
IGNORED = -100
# The outputs of question answering and of image-text similarity that have a loss.
SPAN_ENDS = ("start_logits", "end_logits")
SIMILARITIES = ("logits_per_image", "logits_per_text")


@dataclass(frozen=True)
class TargetContext:
    """What targets are made with, besides inputs and labels.

    Attributes:
        num_classes: number of classes; 0 where a task has none.
        labels: the classes' names.
        encode_targets: turns target texts into arrays by name.
        is_text: tells whether labels are texts.
        start_id: the token that starts a target text.
        mask_id: the token that hides another one.
        special_ids: tokens that are never hidden.
        vocab_size: number of tokens that a hidden one may be swapped with.
        texts: the batch's texts as they were encoded, if it was texts and the task asks where tokens come from.
        offsets: int (batch, length, 2), the characters of each of their tokens.
        words: int (batch, length), the place of each token's word, as the tokenizer splits words.
        parts: int (batch, length), 0 for tokens of a text or a pair's first, 1 for its second's, -1 for others.
        learns: whether the targets are to be learnt from, rather than only the inputs looked at.
    """

    num_classes: int
    labels: Sequence[str] | None
    encode_targets: Callable[[Any], dict[str, np.ndarray]]
    is_text: Callable[[Any], bool]
    start_id: int | None
    mask_id: int | None = None
    special_ids: frozenset[int] = frozenset()
    vocab_size: int = 0
    texts: Sequence[Any] | None = None
    offsets: np.ndarray | None = None
    words: np.ndarray | None = None
    parts: np.ndarray | None = None
    learns: bool = True


Inputs = dict[str, Any]
Targets = Callable[[Inputs, Any, TargetContext], tuple[Inputs, Any]]


def no_targets(inputs: Inputs, y: Any, context: TargetContext) -> tuple[Inputs, Any]:
    """Leave inputs and labels as they are."""
    return inputs, y


def class_targets(inputs: Inputs, y: Any, context: TargetContext) -> tuple[Inputs, Any]:
    """Turn class names or ids (batch,) into int32 ids; leave mixed labels, float32 (batch, num_classes), as they are.

    Raises:
        KzooError: a name or id outside the classes, or rows that are no probabilities of them.
    """
    if y is None:
        return inputs, None
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] > 1:
        return inputs, _mixed_labels(labels, context.num_classes)
    return inputs, _class_ids(labels.reshape(-1) if labels.ndim == 2 else labels, context)


def _mixed_labels(rows: np.ndarray, num_classes: int) -> np.ndarray:
    if rows.shape[1] != num_classes:
        raise KzooError(
            f"The labels have {rows.shape[1]} columns; the model has {num_classes} classes. Give a class for each "
            "example, or a row with the probability of each class."
        )
    if rows.dtype.kind not in "biuf" or not (rows >= 0).all() or not np.allclose(rows.sum(1), 1, atol=1e-3):
        raise KzooError("The rows of labels are no probabilities of the classes: each must add up to 1.")
    return rows.astype("float32")


def multilabel_targets(inputs: Inputs, y: Any, context: TargetContext) -> tuple[Inputs, Any]:
    """Turn lists of class names or ids, or rows of zeros and ones, into float32 (batch, num_classes).

    Raises:
        KzooError: a name or id outside the classes, or rows of another width.
    """
    if y is None:
        return inputs, None
    if hasattr(y, "shape") and len(y.shape) == 2:
        if y.shape[1] != context.num_classes:
            raise KzooError(
                f"The labels have {y.shape[1]} columns; the model has {context.num_classes} classes."
            )
        return inputs, np.asarray(y, "float32")
    rows = np.zeros((len(y), context.num_classes), "float32")
    for row, classes in zip(rows, y, strict=True):
        row[_class_ids(classes, context)] = 1.0
    return inputs, rows


def number_targets(inputs: Inputs, y: Any, context: TargetContext) -> tuple[Inputs, Any]:
    """Turn numbers (batch,) into float32 (batch, 1).

    Raises:
        KzooError: what is no number, or several for an input.
    """
    if y is None:
        return inputs, None
    try:
        numbers = np.asarray(y, "float32")
    except (TypeError, ValueError):
        raise KzooError(f"The labels are no numbers, as {list(y)[:3]} shows.") from None
    if numbers.size != len(numbers):
        raise KzooError(f"The labels have shape {numbers.shape}; expected one number for each input.")
    return inputs, numbers.reshape(-1, 1)


def _class_ids(y: Any, context: TargetContext) -> np.ndarray:
    values = np.asarray(y)
    if values.dtype.kind in "USO":
        names = [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
        if context.labels is None:
            raise KzooError(
                "The labels are names, but the model does not know its classes: build it with labels=[...]."
            )
        ids = {name: index for index, name in enumerate(context.labels)}
        for name in names:
            if name not in ids:
                raise KzooError(f"The label '{name}' is none of the classes.{did_you_mean(name, ids)}")
        return np.asarray([ids[name] for name in names], "int32")
    if values.size and (values.min() < 0 or values.max() >= context.num_classes):
        bad = int(values.max() if values.max() >= context.num_classes else values.min())
        raise KzooError(
            f"The label {bad} is outside the classes: they are 0 to {context.num_classes - 1}. "
            f"Build the model with num_classes={bad + 1} or more, or mend the label."
        )
    return values.astype("int32")


def next_token_targets(inputs: Inputs, y: Any, context: TargetContext) -> tuple[Inputs, Any]:
    """Make each token's label the next token, unless labels are given (Radford et al., 2019, section 2)."""
    if y is not None or not context.learns:
        return inputs, y
    ids = np.asarray(inputs["input_ids"])
    if ids.shape[1] < 2:
        raise KzooError("A text of one token has no next one to learn: give longer texts.")
    mask = np.asarray(inputs.get("attention_mask", np.ones_like(ids)))
    labels = np.where(mask[:, 1:] > 0, ids[:, 1:], IGNORED).astype("int32")
    return {name: np.asarray(value)[:, :-1] for name, value in inputs.items()}, labels


def seq2seq_targets(inputs: Inputs, y: Any, context: TargetContext) -> tuple[Inputs, Any]:
    """Make decoder inputs, shifted right, and labels from target texts (Vaswani et al., 2017, section 3.1).

    Raises:
        KzooError: no target texts, and no `decoder_input_ids` among the inputs.
    """
    if y is not None and context.is_text(y):
        encoded = context.encode_targets(y)
        ids, mask = encoded["input_ids"], encoded["attention_mask"]
        start = np.full((len(ids), 1), context.start_id, ids.dtype)
        shifted = np.concatenate([start, ids[:, :-1]], axis=1)
        return {**inputs, "decoder_input_ids": shifted}, np.where(mask > 0, ids, IGNORED).astype("int32")
    if "decoder_input_ids" not in inputs:
        raise KzooError(
            "An encoder-decoder needs the target side too: give target texts as y, or decoder_input_ids among "
            "the inputs. To translate, export the model and open the bundle with kzoo.load."
        )
    return inputs, y


def masked_token_targets(inputs: Inputs, y: Any, context: TargetContext) -> tuple[Inputs, Any]:
    """Hide some tokens, and make them the labels, unless labels are given (Devlin et al., 2018, A.1).

    Which tokens is drawn anew at each call, from numpy's global generator, which
    `keras.utils.set_random_seed` seeds.

    Raises:
        KzooError: there is no tokenizer, or it has no mask token.
    """
    if y is not None or not context.learns:
        return inputs, y
    if context.mask_id is None:
        raise KzooError(
            "Masked language modelling needs a tokenizer with a mask token, such as [MASK]: attach one, or give "
            f"the labels yourself, {IGNORED} where there is nothing to guess."
        )
    ids = np.asarray(inputs["input_ids"])
    masking = Masking(context.mask_id, context.vocab_size, context.special_ids)
    shown, guessed = masking.draw(ids, np.random.default_rng(np.random.randint(2**31)))
    if "attention_mask" in inputs:
        guessed &= np.asarray(inputs["attention_mask"]) > 0
    hidden = np.where(guessed, shown, ids)
    return {**inputs, "input_ids": hidden}, np.where(guessed, ids, IGNORED).astype("int32")


def token_class_targets(inputs: Inputs, y: Any, context: TargetContext) -> tuple[Inputs, Any]:
    """Make each word's class the label of its first token; the others count in no loss.

    For texts, `y` has a list of class names or ids for each, one a word; words stand between spaces. Where the
    tokenizer splits such a word, as at a hyphen, each part's first token is labelled, with `I-` for `B-` after the
    first part: so are texts labelled by `kzoo.load`. For token ids, `y` (batch, length) has a class for each token,
    -100 where there is none.

    Raises:
        KzooError: as many classes as words there are not, or one that is unknown.
    """
    if y is None:
        return inputs, None
    if context.texts is None:
        labels = _per_token(y, inputs)
        _class_ids(labels[labels != IGNORED], context)
        return inputs, labels
    if context.words is None:
        raise ValueError("the context has texts, and not where their tokens come from")
    ids = {name: index for index, name in enumerate(context.labels or ())}
    goes_on = {ids[name]: ids.get(f"I-{name[2:]}", ids[name]) for name in ids if name.startswith("B-")}
    labels = np.full(np.shape(inputs["input_ids"]), IGNORED, "int32")
    for row, (text, classes) in enumerate(zip(context.texts, y, strict=True)):
        words = [match.span() for match in re.finditer(r"\S+", text)]
        if len(words) != len(classes):
            raise KzooError(
                f"'{text[:60]}' has {len(words)} words and {len(classes)} labels: give one label a word. Texts "
                "are split at spaces, or given as lists of words without any."
            )
        for word, label in zip(words, _class_ids(classes, context), strict=True):
            tokens, _ = _tokens_of(context, row, 0, *word)
            first_of_parts = tokens[np.diff(context.words[row, tokens], prepend=-1) != 0]
            labels[row, first_of_parts] = goes_on.get(label, label)
            labels[row, tokens[:1]] = label
    return inputs, labels


def replaced_token_targets(inputs: Inputs, y: Any, context: TargetContext) -> tuple[Inputs, Any]:
    """Check labels for each token: 1 for a replacement, 0 for an original, -100 where it does not count.

    Raises:
        KzooError: no labels, or others.
    """
    if y is None and context.learns:
        raise KzooError(
            "Replaced-token detection needs labels for each token: 1 where it was replaced, 0 where it was not, "
            f"{IGNORED} where it does not count."
        )
    if y is None:
        return inputs, None
    labels = _per_token(y, inputs)
    if not np.isin(labels, (0, 1, IGNORED)).all():
        raise KzooError(f"Labels of tokens are 1 (replaced), 0 or {IGNORED}; got others.")
    return inputs, labels


def _per_token(rows: Any, inputs: Inputs) -> np.ndarray:
    """Return labels int32 (batch, length) from rows of that length or, for texts, shorter ones."""
    length = np.shape(inputs["input_ids"])[1]
    labels = np.full(np.shape(inputs["input_ids"]), IGNORED, "int32")
    for index, (row, values) in enumerate(zip(labels, rows, strict=True)):
        if len(values) > length:
            raise KzooError(f"Row {index} has {len(values)} labels for {length} tokens.")
        row[: len(values)] = values
    return labels


def span_targets(inputs: Inputs, y: Any, context: TargetContext) -> tuple[Inputs, Any]:
    """Make answers the first and last of their tokens: `start_logits` and `end_logits`, each int32 (batch,).

    For pairs of question and context, `y` has for each pair what part of the context is the answer: its first
    character and the one after its last, `(start, end)`, or the answer itself and its first character,
    `(answer, start)`; None where the context has no answer, which makes it the first token. An answer that is cut
    off counts in no loss. For token ids, `y` (batch, 2) has the first and last token.

    Raises:
        KzooError: texts that are no pairs, or an answer that is not where it is said to be.
    """
    if y is None:
        return inputs, None
    if context.texts is None:
        spans = np.asarray(y, "int32")
        if spans.shape != (len(spans), 2):
            raise KzooError(
                f"The answers have shape {spans.shape}; expected (batch, 2), first and last token."
            )
    else:
        pairs = enumerate(zip(context.texts, y, strict=True))
        spans = np.array([_answer_tokens(context, row, *pair) for row, pair in pairs], "int32")
    return inputs, dict(zip(SPAN_ENDS, spans.T, strict=True))


def _answer_tokens(context: TargetContext, row: int, pair: Any, answer: Any) -> tuple[int, int]:
    if not isinstance(pair, tuple):
        raise KzooError(f"'{pair[:60]}' is no pair: question answering takes (question, context).")
    if answer is None:
        return 0, 0
    text = pair[1]
    start, end = answer
    if isinstance(start, str):
        given, start = start, int(end)
        end = start + len(given)
        if text[start:end] != given:
            raise KzooError(f"The answer '{given}' is not at character {start} of '{text[:60]}'.")
    if not 0 <= start < end <= len(text):
        raise KzooError(
            f"The answer ({start}, {end}) is no part of '{text[:60]}', which has {len(text)} characters."
        )
    tokens, cut = _tokens_of(context, row, 1, int(start), int(end))
    # An answer whose end was cut off cannot be found.
    seen_whole = len(tokens) and not text[cut:end].strip()
    return (int(tokens[0]), int(tokens[-1])) if seen_whole else (IGNORED, IGNORED)


def _tokens_of(context: TargetContext, row: int, part: int, start: int, end: int) -> tuple[np.ndarray, int]:
    """Return the tokens that have any of the characters from `start` to before `end`, and where the last one ends."""
    if context.offsets is None or context.parts is None:
        raise ValueError("the context has texts, and not where their tokens come from")
    starts, ends = context.offsets[row].T
    # Tokens may begin with the space before their word, and a few have no characters at all.
    tokens = np.flatnonzero((starts < end) & (ends > start) & (starts < ends) & (context.parts[row] == part))
    return tokens, int(ends[tokens[-1]]) if len(tokens) else start


def matching_targets(inputs: Inputs, y: Any, context: TargetContext) -> tuple[Inputs, Any]:
    """Make what `ContrastiveLoss` does not look at: in a batch each image goes with the text of its own row.

    Raises:
        KzooError: there are not as many texts as images.
    """
    if not context.learns:
        return inputs, None
    size, images = (len(inputs.get(name, ())) for name in ("input_ids", "pixel_values"))
    if size != images:
        raise KzooError(
            f"There are {size} texts and {images} images: to learn which belong together, give pairs, "
            "{'input_ids': texts, 'pixel_values': images}."
        )
    # Keras wants one for each output, those without a loss too.
    return inputs, {name: np.zeros(size, "int32") for name in (*SIMILARITIES, "text_embeds", "image_embeds")}


# The targets that ask which characters a token comes from.
WITH_OFFSETS = (token_class_targets, span_targets)


def token_loss() -> keras.losses.Loss:
    """Return the cross-entropy of token logits (batch, length, vocab_size), averaged over real labels."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORED)


def _as_two_classes(logits: Any) -> Any:
    """Return logits (..., 2) of no and yes, of those of yes (...)."""
    return ops.stack([ops.zeros_like(logits), logits], axis=-1)


@keras.saving.register_keras_serializable("kzoo")
class ReplacedTokenLoss(keras.losses.SparseCategoricalCrossentropy):
    """Binary cross-entropy of logits (batch, length), averaged over the tokens with a label."""

    def __init__(self, name: str = "replaced_token_loss", **kwargs: Any) -> None:
        super().__init__(**{"from_logits": True, "ignore_class": IGNORED, "name": name, **kwargs})

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each token (batch, length)."""
        return super().call(y_true, _as_two_classes(y_pred))


@keras.saving.register_keras_serializable("kzoo")
class ContrastiveLoss(keras.losses.Loss):
    """Cross-entropy of each row's own column, of logits (batch, batch) (Radford et al., 2021, section 2.3)."""

    def __init__(self, name: str = "contrastive_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each row (batch,)."""
        own = ops.arange(ops.shape(y_pred)[0])
        return keras.losses.sparse_categorical_crossentropy(own, y_pred, from_logits=True)


@keras.saving.register_keras_serializable("kzoo")
class TokenAccuracy(keras.metrics.Mean):
    """Share of tokens predicted right, among those with a label."""

    def __init__(self, name: str = "token_accuracy", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count labels (batch, length), -100 where there is none, and logits (batch, length, vocab_size)."""
        right = ops.equal(ops.cast(y_true, "int32"), ops.cast(ops.argmax(y_pred, axis=-1), "int32"))
        super().update_state(ops.cast(right, "float32"), ops.cast(ops.not_equal(y_true, IGNORED), "float32"))

    def get_config(self) -> dict[str, Any]:
        """Return name and dtype."""
        return {"name": self.name, "dtype": self.dtype}


@keras.saving.register_keras_serializable("kzoo")
class ReplacedTokenAccuracy(TokenAccuracy):
    """Share of tokens that are rightly told from replacements, among those with a label."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count labels (batch, length), -100 where there is none, and logits (batch, length)."""
        super().update_state(y_true, _as_two_classes(y_pred), sample_weight)
