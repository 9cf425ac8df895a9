"""What every architecture shares: checks of its numbers, and the backbone that it fills in."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import keras

from kzoo.errors import KzooError
from kzoo.layers import TransformerBlock, activation, norm
from kzoo.text import Tokenizer

_BLOCK_KNOBS = frozenset(inspect.signature(TransformerBlock).parameters) - {"kwargs"}


class InputSpec(NamedTuple):
    """A graph input's shape, free dimensions by name, and its numpy dtype."""

    shape: tuple[int | str, ...]
    dtype: str


# Not an `int`, which a config's field of numbers is: those start at 1.
TokenId = int


@dataclass(frozen=True)
class Config:
    """The numbers of a variant. Every architecture's config derives from this one and is checked by it.

    `left_to` names, for fields that may be None, those whose values then count.
    """

    left_to: ClassVar[dict[str, str]] = {}

    def __post_init__(self) -> None:
        """Refuse numbers that contradict each other.

        Raises:
            KzooError: a field is out of range; the message names it.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if ("dropout" in field.name or field.name == "drop_path") and not 0.0 <= value < 1.0:
                raise KzooError(f"{field.name}={value} is not a rate: give a number from 0 to below 1.")
            if field.type == "int | None" and value is None:
                continue
            if str(field.type).startswith("int") and (not isinstance(value, int) or value < 1):
                raise KzooError(f"{field.name}={value!r} is not a positive whole number.")
            if field.name.endswith("activation") and value is not None:
                activation(value)
        self._check_heads()

    def knobs(self) -> dict[str, Any]:
        """Return the numbers by name, those that are left to other fields filled in."""
        values = dataclasses.asdict(self)
        for name, other in self.left_to.items():
            values[name] = values[other] if values[name] is None else values[name]
        return values

    def _check_heads(self) -> None:
        values = self.knobs()
        pairs = (
            ("hidden_dim", "num_heads"),
            ("hidden_dim", "num_decoder_heads"),
            ("num_heads", "num_key_value_heads"),
        )
        for total, part in pairs:
            if total == "hidden_dim" and values.get("head_dim"):
                continue
            if values.get(part) and values[total] % values[part]:
                raise KzooError(
                    f"{total}={values[total]} is not a multiple of {part}={values[part]}: change one of them."
                )


class Backbone(keras.layers.Layer):
    """An architecture without a head: a dict of inputs to a dict of features.

    A subclass names its `Config` and the `tasks` it can carry (the first is its default), makes its layers
    with `add`, and writes `call` and `signature`. `call` returns `last_hidden_state` (batch, length, hidden_dim),
    `pooled` (batch, hidden_dim) where it has one, and `hidden_states`, a list of what enters the first block and
    what leaves each one; a model's own outputs leave that list out. `position_grids` names the layers, by path,
    whose positions are those of an image's patches, each with the number of positions that come before them.
    """

    Config: ClassVar[type]
    tasks: ClassVar[tuple[str, ...]]
    num_classes: ClassVar[int] = 2
    position_grids: ClassVar[dict[str, int]] = {}
    # What a family's published heads have otherwise: an activation after a hidden layer of the classifier, which has
    # none without; one before the masked tokens' logits, the config's without; biases.
    head_activation: ClassVar[str | None] = None
    mlm_activation: ClassVar[str | None] = None
    classifier_bias: ClassVar[bool] = True
    logits_bias: ClassVar[bool] = False
    # Inputs that a model may learn with, and is not served with.
    learning_inputs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config

    @property
    def distilled(self) -> bool:
        """Whether `pooled_distillation` has a classifier of its own."""
        return False

    @property
    def logits_scale(self) -> float:
        """Factor on the states that a language model's logits are made of."""
        return 1.0

    def add(self, layer_class: type, name: str, *args: Any, **kwargs: Any) -> Any:
        """Make a sub-layer that follows the backbone's dtype policy."""
        return layer_class(*args, name=name, dtype=self.dtype_policy, **kwargs)

    def add_norm(self, name: str) -> keras.layers.Layer:
        """Make a normalization of the config's kind, with its epsilon."""
        kind = getattr(self.config, "norm", "layer")
        return norm(kind, self.config.layer_norm_epsilon, name=name, dtype=self.dtype_policy)

    def add_blocks(self, name: str, num_layers: int | None = None, **knobs: Any) -> list[TransformerBlock]:
        """Make `num_layers` blocks, the config's number unless given, named `{name}_0` and on.

        A field of the config that is called as a knob of `TransformerBlock` sets it, unless `knobs` does. The rate
        `drop_path` grows linearly from 0 at the first block to the config's at the last (Huang et al., 2016).
        """
        count = self.config.num_layers if num_layers is None else num_layers
        knobs = {**{key: value for key, value in vars(self.config).items() if key in _BLOCK_KNOBS}, **knobs}
        deepest = knobs.pop("drop_path", 0.0)
        return [
            self.add(
                TransformerBlock,
                f"{name}_{index}",
                drop_path=deepest * index / max(count - 1, 1),
                **knobs,
            )
            for index in range(count)
        ]

    def all_blocks(self) -> list[TransformerBlock]:
        """Return every block, those of inner backbones among them, each once."""
        return [layer for layer in self._flatten_layers() if isinstance(layer, TransformerBlock)]

    def no_caches(self) -> list[None]:
        """Return what stands for the caches of a decoder's blocks when there are none."""
        return [None] * self.config.num_layers

    def build(self, input_shape: Any = None) -> None:
        """Create all weights; no input is needed, since the config has every width."""
        for layer in self._flatten_layers(include_self=False, recursive=False):
            if not layer.built:
                layer.build((None, None, self.config.hidden_dim))
        self.built = True

    def signature(self) -> dict[str, InputSpec]:
        """Return the inputs by name."""
        raise KzooError(f"{type(self).__name__} does not name its inputs: write its `signature`.")

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Refuse a tokenizer whose special tokens are none that the architecture goes by, where it goes by any."""

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs to build the same backbone."""
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Backbone:
        """Build a backbone from `get_config`'s result."""
        config = dict(config)
        return cls(cls.Config(**config.pop("config")), **config)
