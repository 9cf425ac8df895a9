"""Students: smaller models that begin with a larger one's weights, with fewer entries of its vocabulary or units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from kzoo.errors import KzooError
from kzoo.layers import FeedForward
from kzoo.models.base import TransformerModel
from kzoo.models.initialization import variables
from kzoo.models.narrowing import narrow_embeddings
from kzoo.text import Text
from kzoo.text.pruning import matching_ids, prune_tokenizer
from kzoo.training import map_layers


def prune_vocabulary(
    model: TransformerModel, texts: Iterable[Text], size: int | None = None
) -> TransformerModel:
    """Return a model with the entries of the vocabulary that texts use, the special ones, and every character.

    Tokenizer and embeddings shrink together, so that texts of kept entries alone give what they gave before.

    Args:
        model: with a tokenizer of BERT's kind; it stays as it is.
        texts: strings, or pairs of strings.
        size: most entries to keep: of those that the texts use, the rarest go. All stay unless given.

    Raises:
        KzooError: no tokenizer, or one of another kind, no texts, or a size that has no room for the characters.

    Example:
        >>> from kzoo.models import bert_tiny
        >>> from kzoo.text import Tokenizer
        >>> tokenizer = Tokenizer.train(["a dog runs", "a cat sleeps"], kind="wordpiece", vocab_size=100)
        >>> model = bert_tiny(tokenizer=tokenizer, vocab_size=tokenizer.vocab_size)
        >>> smaller = prune_vocabulary(model, ["a cat"])
        >>> smaller.backbone.config.vocab_size == smaller.tokenizer.vocab_size < tokenizer.vocab_size
        True
    """
    if model.tokenizer is None:
        raise KzooError("The model has no tokenizer: set model.tokenizer first.")
    tokenizer = prune_tokenizer(model.tokenizer, texts, size)
    return _with_fewer(model, tokenizer, vocab_size=tokenizer.vocab_size)


def prune_units(model: TransformerModel, share: float) -> TransformerModel:
    """Return a model whose feed-forwards have fewer hidden units: those with the smallest weights go.

    Unlike single weights that are set to zero, units that are not there take neither room nor time.

    Args:
        model: one stack of blocks; it stays as it is.
        share: of each block's hidden units that go, from 0 to less than 1.

    Raises:
        KzooError: no such share, or a model of several stacks of blocks, or of one block that runs again and again.

    Example:
        >>> from kzoo.models import bert_tiny
        >>> prune_units(bert_tiny(), 0.25).backbone.config.intermediate_dim
        384
    """
    if not 0 <= share < 1:
        raise KzooError(f"share={share}: of the hidden units from 0 to less than 1 can go.")
    units = model.backbone.config.intermediate_dim
    return _with_fewer(model, model.tokenizer, intermediate_dim=max(1, round((1 - share) * units)))


def _with_fewer(model: TransformerModel, tokenizer: Any, **numbers: int) -> TransformerModel:
    """Return a model that has less than another in some numbers of its backbone, and its weights in all else."""
    config = model.get_config()
    config["backbone"]["config"]["config"] |= numbers
    smaller = TransformerModel.from_config(config)
    smaller.tokenizer = tokenizer
    return take_weights(smaller, model, layers="first")


def take_weights(
    student: TransformerModel, teacher: TransformerModel, layers: str | Sequence[int] = "uniform"
) -> TransformerModel:
    """Let a student begin with a teacher's embeddings, some of its blocks, and its head where they have the same.

    The student may have fewer blocks, fewer positions, a pruned vocabulary, narrower feed-forwards, which keep the
    units with the largest weights, and narrower embeddings (`embedding_dim`), which keep the directions in which the
    teacher's differ most; its blocks' width is the teacher's.

    Args:
        student: changed in place.
        teacher: of the same architecture.
        layers: which of the teacher's blocks, as for `kzoo.training.map_layers`.

    Returns:
        The student.

    Raises:
        KzooError: the two are of different architectures or widths, or the student is larger; the message names the
            first variable that does not fit.

    Example:
        >>> from kzoo.models import bert_mini
        >>> student = take_weights(bert_mini(num_layers=2), bert_mini(), layers="last")
        >>> len(student.backbone.blocks)
        2
    """
    fits = _Fit(student, teacher, layers)
    targets = variables(student)
    values = fits.values(
        {path: tuple(variable.shape) for path, variable in targets.items()},
        {path: keras.ops.convert_to_numpy(value) for path, value in variables(teacher).items()},
    )
    for path, value in values.items():
        wanted = tuple(targets[path].shape)
        if value.shape == wanted:
            targets[path].assign(value)
        elif not path.startswith("head/"):  # which is for other classes
            raise KzooError(
                f"'{path}' has the shape {wanted} in the student, and what the teacher has for it the shape "
                f"{value.shape}: a student that begins with a teacher's weights has its width, and embeddings that "
                "are no wider."
            )
    return student


class _Fit:
    """Says which of the teacher's variables, and which part of it, goes into each of the student's."""

    def __init__(
        self, student: TransformerModel, teacher: TransformerModel, layers: str | Sequence[int]
    ) -> None:
        if type(student.backbone) is not type(teacher.backbone):
            raise KzooError(
                f"The student is a {type(student.backbone).__name__} and the teacher a "
                f"{type(teacher.backbone).__name__}: only one of the same architecture can begin with its weights."
            )
        own, others = student.backbone.all_blocks(), teacher.backbone.all_blocks()
        for model, blocks in ((student, own), (teacher, others)):
            if len(blocks) != model.backbone.config.num_layers:
                raise KzooError(
                    f"{type(model.backbone).__name__} is no single stack of blocks: no student can begin with some."
                )
        chosen = [others[layer - 1] for layer in map_layers(layers, len(own), len(others))]
        self.blocks = {block.name: other.name for block, other in zip(own, chosen, strict=True)}
        self.units = {
            block.name: _largest_units(other.feed_forward, block.feed_forward.intermediate_dim)
            for block, other in zip(own, chosen, strict=True)
        }
        self.embedding_dim: int | None = None
        widths = [getattr(model.backbone, "embedding_dim", 0) for model in (student, teacher)]
        if widths[0] < widths[1]:
            self.embedding_dim = widths[0]
        self.ids = None
        if student.tokenizer is not None and teacher.tokenizer is not None:
            self.ids = matching_ids(student.tokenizer, teacher.tokenizer)

    def values(
        self, shapes: dict[str, tuple[int, ...]], sources: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return what the teacher has for the student's variables, by their paths; not all have anything."""
        found = {}
        for path, shape in shapes.items():
            source = "/".join(self.blocks.get(part, part) for part in path.split("/"))
            if source in sources:
                found[path] = self._cut(path, sources[source], shape)
        return found if self.embedding_dim is None else found | narrow_embeddings(found, self.embedding_dim)

    def _cut(self, path: str, value: np.ndarray, wanted: tuple[int, ...]) -> np.ndarray:
        """Return the part of the teacher's values that the student's shape has room for."""
        *parents, layer, name = path.split("/")
        if "feed_forward" in parents:
            units = self.units[next(part for part in parents if part in self.units)]
            if layer == "contract":
                return value[units] if name == "kernel" else value
            return value[..., units]
        if self.ids is not None and (
            layer == "token_embedding" or path in ("head/bias", "head/projection/kernel")
        ):
            return np.take(value, self.ids, axis=0 if layer == "token_embedding" else -1)
        return value[: wanted[0]] if layer == "position_embedding" else value


def _largest_units(feed_forward: FeedForward, count: int) -> np.ndarray:
    """Return which `count` hidden units have the largest weights, in order: all, if there are no more."""
    into, out = (
        np.linalg.norm(keras.ops.convert_to_numpy(layer.kernel).astype("float32"), axis=axis)
        for layer, axis in ((feed_forward.expand, 0), (feed_forward.contract, 1))
    )
    return np.sort(np.argsort(-into * out, kind="stable")[:count])
