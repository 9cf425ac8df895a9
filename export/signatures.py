"""What goes into and comes out of any Keras model: names, shapes with named free axes, dtypes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kzoo.errors import ExportError
from kzoo.explanation.graphs import explaining_graph
from kzoo.models import InputSpec, TransformerModel
from kzoo.models.graphs import Graph, bare_graph, serving_graphs
from kzoo.runtime.manifest import EXPLANATION

_AXES = {2: ("sequence",), 3: ("sequence", "features"), 4: ("height", "width", "channels")}


@dataclass(frozen=True)
class Leaf:
    """The place of one input in the structure that a model is called on."""

    name: str


@dataclass(frozen=True)
class Signature:
    """How a Keras model is called: its inputs' specs by name, and the structure that they stand in.

    `outputs` names the outputs, flat and in order, after the layers that made them; None where they cannot be told.
    """

    inputs: dict[str, InputSpec]
    structure: Any
    outputs: list[str] | None

    def arguments(self, inputs: dict[str, Any]) -> Any:
        """Put named inputs into the model's own structure."""
        return keras.tree.map_structure(lambda leaf: inputs[leaf.name], self.structure)


def signature_of(model: keras.Model, example: Any = None) -> Signature | None:
    """Return how any built Keras model is called; None for ours, which know.

    Args:
        model: functional, sequential, or subclassed.
        example: what the model is called on, as arrays or `keras.Input`s; needed for a subclassed model
            that takes anything but one tensor, of token ids or of float32.

    Raises:
        ExportError: the model is not built, or its inputs cannot be told.
    """
    if isinstance(model, TransformerModel):
        return None
    if not isinstance(model, keras.Model):
        raise ExportError(f"Only a keras.Model can be exported; this is a {type(model).__name__}.")
    if not model.built:
        raise ExportError(
            f"The model '{model.name}' was never built: call it on a batch of data once, then export it."
        )
    structure, specs = _name_inputs(_input_structure(model, example))
    return Signature(specs, structure, _output_layers(model))


def model_graphs(
    model: keras.Model, signature: Signature | None, serving: bool, explained: bool = False
) -> dict[str, Graph]:
    """Return the graphs to export by role: a bundle's when `serving`, else the model as it is called.

    With `explained`, the graph of a bundle's explanations is among them.
    """
    if signature is None:
        graphs = serving_graphs(model) if serving else {"model": bare_graph(model)}
        return graphs | {EXPLANATION: explaining_graph(model)} if explained else graphs

    def function(inputs: dict[str, Any]) -> dict[str, Any]:
        return _name_outputs(model(signature.arguments(inputs), training=False), signature.outputs)

    return {"model": Graph(function, signature.inputs)}


def _input_structure(model: keras.Model, example: Any) -> Any:
    if example is not None:
        return example
    if isinstance(model, keras.Sequential):
        return model.inputs[0]
    if (inputs := getattr(model, "input", None)) is not None:
        return inputs
    shape = (model.get_build_config() or {}).get("input_shape")
    if isinstance(shape, (tuple, list)) and all(isinstance(size, int | None) for size in shape):
        if len(shape) == 2 and any(
            isinstance(layer, keras.layers.Embedding) for layer in model._flatten_layers()
        ):
            return keras.KerasTensor((None, None), "int32", name="inputs")
        return keras.KerasTensor((None, *shape[1:]), "float32", name="inputs")
    raise ExportError(
        f"The inputs of the subclassed model '{model.name}' cannot be told from outside: pass inputs=, a batch "
        "as you would call the model on, or keras.Input(...)s in the same structure."
    )


def _name_inputs(structure: Any) -> tuple[Any, dict[str, InputSpec]]:
    """Give each input in a structure its name and spec.

    Returns:
        The structure with a `Leaf` for each input, and the specs by name. The name is the input's key in a dict,
        else that of the `keras.Input`, else `inputs` or `inputs_0` and on.
    """
    specs: dict[str, InputSpec] = {}
    flat = keras.tree.flatten_with_path(structure)

    def name(path: tuple[Any, ...], leaf: Any) -> str:
        keys = [str(key) for key in path if isinstance(key, str)]
        if keys:
            return "_".join(keys)
        own = getattr(leaf, "name", None)
        if isinstance(own, str) and own:
            return own.split(":")[0]
        return "inputs" if len(flat) == 1 else f"inputs_{path[-1]}"

    leaves = []
    for path, leaf in flat:
        title = name(path, leaf)
        if title in specs:
            title = f"{title}_{len(specs)}"
        specs[title] = _spec(title, leaf)
        leaves.append(Leaf(title))
    return keras.tree.pack_sequence_as(structure, leaves), specs


def _spec(name: str, leaf: Any) -> InputSpec:
    dtype = keras.backend.standardize_dtype(leaf.dtype)
    if isinstance(leaf, keras.KerasTensor):
        shape = tuple(leaf.shape)
    else:
        shape = tuple(np.shape(leaf))
        tokens = len(shape) == 2 and dtype.startswith("int")
        shape = (None, None) if tokens else (None, *shape[1:])
    return InputSpec(
        tuple(_axis(name, axis, len(shape)) if size is None else size for axis, size in enumerate(shape)),
        dtype,
    )


def _axis(name: str, axis: int, rank: int) -> str:
    if axis == 0:
        return "batch"
    title = _AXES.get(rank, ())[axis - 1] if rank in _AXES else f"{name}_{axis}"
    return f"decoder_{title}" if name.startswith("decoder") else title


def _output_layers(model: keras.Model) -> list[str] | None:
    if isinstance(model, keras.Sequential):
        return [model.layers[-1].name]
    if (outputs := getattr(model, "output", None)) is not None:
        return [tensor._keras_history.operation.name for tensor in keras.tree.flatten(outputs)]
    return None


def _name_outputs(outputs: Any, layers: list[str] | None) -> dict[str, Any]:
    """Return outputs by name: their dict keys, else the names of the layers that made them."""
    names: dict[str, Any] = {}
    flat = keras.tree.flatten_with_path(outputs)
    for index, (path, tensor) in enumerate(flat):
        keys = [str(key) for key in path if isinstance(key, str)]
        if keys:
            name = "_".join(keys)
        elif layers is not None:
            name = layers[index]
        else:
            name = "output" if len(flat) == 1 else f"output_{index}"
        names[name if name not in names else f"{name}_{index}"] = tensor
    return names
