"""What every architecture shares: checks of its numbers, and the backbone that it fills in."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import keras

from kzoo.errors import KzooError
from kzoo.layers import TransformerBlock, activation


class InputSpec(NamedTuple):
    """A graph input's shape, free dimensions by name, and its numpy dtype."""

    shape: tuple[int | str, ...]
    dtype: str


@dataclass(frozen=True)
class Config:
    """The numbers of a variant. Every architecture's config derives from this one and is checked by it."""

    def __post_init__(self) -> None:
        """Refuse numbers that contradict each other.

        Raises:
            KzooError: a field is out of range; the message names it.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if "dropout" in field.name and not 0.0 <= value < 1.0:
                raise KzooError(f"{field.name}={value} is not a rate: give a number from 0 to below 1.")
            if field.type == "int" and (not isinstance(value, int) or value < 1):
                raise KzooError(f"{field.name}={value!r} is not a positive whole number.")
        values = dataclasses.asdict(self)
        if values["hidden_dim"] % values["num_heads"]:
            raise KzooError(
                f"hidden_dim={values['hidden_dim']} is not a multiple of num_heads={values['num_heads']}: "
                "change one of them."
            )
        activation(values["activation"])


class Backbone(keras.layers.Layer):
    """An architecture without a head: a dict of inputs to a dict of features.

    A subclass names its `Config` and the `tasks` it can carry (the first is its default), makes its layers
    with `add`, and writes `call` and `signature`.
    """

    Config: ClassVar[type]
    tasks: ClassVar[tuple[str, ...]]
    num_classes: ClassVar[int] = 2

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config

    def add(self, layer_class: type, name: str, *args: Any, **kwargs: Any) -> Any:
        """Make a sub-layer that follows the backbone's dtype policy."""
        return layer_class(*args, name=name, dtype=self.dtype_policy, **kwargs)

    def add_norm(self, name: str) -> keras.layers.Layer:
        """Make a layer normalization with the config's epsilon."""
        return self.add(keras.layers.LayerNormalization, name, epsilon=self.config.layer_norm_epsilon)

    def add_blocks(self, name: str, **knobs: Any) -> list[TransformerBlock]:
        """Make the config's `num_layers` blocks, named `{name}_0` and on."""
        config = self.config
        return [
            self.add(
                TransformerBlock,
                f"{name}_{index}",
                hidden_dim=config.hidden_dim,
                num_heads=config.num_heads,
                intermediate_dim=config.intermediate_dim,
                activation=config.activation,
                layer_norm_epsilon=config.layer_norm_epsilon,
                dropout=config.dropout,
                attention_dropout=config.attention_dropout,
                **knobs,
            )
            for index in range(config.num_layers)
        ]

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

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs to build the same backbone."""
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Backbone:
        """Build a backbone from `get_config`'s result."""
        config = dict(config)
        return cls(cls.Config(**config.pop("config")), **config)
