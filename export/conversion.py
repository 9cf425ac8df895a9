"""From a function on the TensorFlow backend to an ONNX graph whose weights are still inputs.

Weights stay inputs of the traced graph, so that neither TensorFlow nor tf2onnx ever copies them; they become
initializers, under their Keras paths, only at the very end (`kzoo.export.weights`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import time
import traceback
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf

from kzoo.errors import ExportError
from kzoo.export.editing import OWN_DOMAIN, RUNTIME_DOMAIN, Shapes, all_nodes
from kzoo.export.fusion import fuse
from kzoo.export.handlers import refuse_unknown, register_handlers, restrained
from kzoo.export.layout import TARGETS, WITH_PADDING
from kzoo.export.markers import marking, write_node
from kzoo.export.skeleton import Skeleton
from kzoo.models.graphs import Graph

# The newest opset that tf2onnx writes and ONNX Runtime runs everywhere.
OPSET = 18
# What the traced graph's inputs that are weights are called, before their number.
_WEIGHT = "kzoo_weight_"


def convert(graph: Graph, variables: list[Any], target: str = "any") -> Skeleton:
    """Trace a graph's function and convert it.

    Args:
        graph: the function, over named inputs; it must run on the TensorFlow backend.
        variables: the Keras variables that it reads.
        target: one of `kzoo.export.layout.TARGETS`.

    Raises:
        ExportError: it uses an operation that ONNX, or tf2onnx, cannot express.
    """
    concrete, weight_names = _trace(graph, variables)
    outputs = dict(sorted(concrete.structured_outputs.items()))
    tensors = {tensor.name: name for name, tensor in zip(outputs, concrete.outputs, strict=True)}
    with _quiet():
        proto, shapes = _to_onnx(concrete, list(tensors))
    names = {f"{name}:0": name for name in graph.inputs} | tensors
    _rename(proto, names)
    _order_inputs(proto, graph, weight_names)
    used = {value.name for value in proto.graph.input}
    weights: dict[str, tuple[int, ...]] = {
        name: (index,) for name, index in weight_names.items() if name in used
    }
    started = time.perf_counter()
    shapes = {names.get(name, name): shape for name, shape in shapes.items()}
    if graph.differentiates:
        # What is fused has no derivative, and their graph has other patterns.
        skeleton = fuse(proto, weights, shapes, only_needed=True)
    else:
        skeleton = _fused(proto, weights, shapes, target)
    return dataclasses.replace(skeleton, seconds={"fusing": time.perf_counter() - started})


def _fused(
    proto: onnx.ModelProto, weights: dict[str, tuple[int, ...]], shapes: Shapes, target: str
) -> Skeleton:
    """Return the graph for its target, and less ambitious ones beside it, which without weights cost little."""

    def attempt(caution: str, *options: Any, **more: Any) -> Skeleton:
        copy = onnx.ModelProto.FromString(proto.SerializeToString())
        return dataclasses.replace(fuse(copy, weights, shapes, *options, **more), caution=caution)

    best = attempt("", TARGETS[target])
    alternatives = []
    if best.padding:
        alternatives.append(attempt("the padding is not left out", WITH_PADDING[target]))
    alternatives.append(attempt("nothing is fused", only_needed=True))
    return dataclasses.replace(best, alternatives=alternatives)


def _trace(graph: Graph, variables: list[Any]) -> tuple[Any, dict[str, int]]:
    weight_names = {f"{_WEIGHT}{index}:0": index for index in range(len(variables))}

    def function(inputs: dict[str, Any], weights: list[Any]) -> dict[str, Any]:
        # Operations that are kept whole have no derivatives.
        marked = contextlib.nullcontext() if graph.differentiates else marking()
        with keras.StatelessScope(state_mapping=list(zip(variables, weights, strict=True))), marked:
            outputs = graph.function(inputs)
        # An output that is an input, or stands there twice, still needs a tensor of its own.
        return {name: tf.identity(tensor) for name, tensor in outputs.items()}

    inputs = {
        name: tf.TensorSpec(
            [None if isinstance(size, str) else size for size in spec.shape], spec.dtype, name=name
        )
        for name, spec in graph.inputs.items()
    }
    weights = [
        tf.TensorSpec(variable.shape, variable.dtype, name=f"{_WEIGHT}{index}")
        for index, variable in enumerate(variables)
    ]
    with _plainly():
        try:
            return tf.function(function, autograph=False).get_concrete_function(inputs, weights), weight_names
        except ExportError:
            raise
        except Exception as error:
            raise ExportError(_explain_trace(error)) from error


@contextlib.contextmanager
def _plainly() -> Iterator[None]:
    """Trace through functions that Keras has XLA compile, and leave the layers in an error's traceback."""
    eager, filtering = tf.config.functions_run_eagerly(), keras.config.is_traceback_filtering_enabled()
    tf.config.run_functions_eagerly(True)
    keras.config.disable_traceback_filtering()
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(eager)
        if filtering:
            keras.config.enable_traceback_filtering()


def _explain_trace(error: Exception) -> str:
    layers = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    inner = [layer for layer in layers if isinstance(layer, keras.layers.Layer)]
    where = f"The layer '{inner[-1].name}' ({type(inner[-1]).__name__})" if inner else "The model"
    return f"{where} cannot run on inputs whose sizes are free, as a graph does: {error}"


def _to_onnx(concrete: Any, output_tensors: list[str]) -> tuple[onnx.ModelProto, Shapes]:
    """Return the converted graph, and what TensorFlow knows of its tensors' shapes."""
    _mend_tf2onnx()
    from tf2onnx import optimizer, tf_loader, tfonnx

    with _unfed():
        frozen = _freeze(concrete)
    input_tensors = [tensor.name for tensor in frozen.inputs]
    definition = frozen.graph.as_graph_def(add_shapes=True)

    def attempt(catch_errors: bool) -> onnx.ModelProto:
        converted = tfonnx.process_tf_graph(
            graph,
            opset=OPSET,
            extra_opset=[onnx.helper.make_opsetid(domain, 1) for domain in (RUNTIME_DOMAIN, OWN_DOMAIN)],
            custom_op_handlers={"PyFunc": (write_node, [])},
            input_names=input_tensors,
            output_names=output_tensors,
        )
        return optimizer.optimize_graph(converted, catch_errors).make_model("kzoo", producer_name="kzoo")

    with tf.Graph().as_default() as graph:
        try:
            with _unfed():
                definition = tf_loader.tf_optimize(input_tensors, output_tensors, definition)
            tf.import_graph_def(definition, name="")
            _refuse_strings(graph)
            with restrained():
                try:
                    # To survive an error in a pass, tf2onnx copies the graph before each: most of the time.
                    proto = attempt(catch_errors=False)
                except Exception:
                    proto = attempt(catch_errors=True)
            refuse_unknown(proto)
            return proto, _shapes(graph)
        except ExportError:
            raise
        except Exception as error:
            raise ExportError(_explain(graph, error)) from error


@contextlib.contextmanager
def _unfed() -> Iterator[None]:
    """Keep Grappler from making up a value for each weight, which takes as much memory as the weights do.

    It does so for placeholders: while it works, weights are something else that comes from outside.
    """
    from tensorflow.python.grappler import tf_optimizer

    original = tf_optimizer.OptimizeGraph

    def optimize(config: Any, meta_graph: Any, *arguments: Any, **options: Any) -> Any:
        _swap(meta_graph.graph_def, "Placeholder", "InfeedDequeue")
        return _swap(original(config, meta_graph, *arguments, **options), "InfeedDequeue", "Placeholder")

    tf_optimizer.OptimizeGraph = optimize
    try:
        yield
    finally:
        tf_optimizer.OptimizeGraph = original


def _swap(definition: Any, before: str, after: str) -> Any:
    """Let weights be another kind of node."""
    for node in definition.node:
        if node.op == before and node.name.startswith(_WEIGHT):
            node.op = after
    return definition


def _shapes(graph: Any) -> Shapes:
    shapes: Shapes = {}
    for operation in graph.get_operations():
        # What a placeholder gives is known of what its shape was checked by, which the conversion leaves out.
        checked = operation.inputs if operation.type == "EnsureShape" else ()
        for tensor in operation.outputs:
            if tensor.shape.rank is not None:
                shapes |= dict.fromkeys(
                    [tensor.name, *(source.name for source in checked)], tensor.shape.as_list()
                )
    return shapes


def _freeze(concrete: Any) -> Any:
    """Return the traced function with its constants and inner functions inside it."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    for value, inner in concrete.graph.captures:
        if value.dtype in (tf.resource, tf.variant):
            raise ExportError(
                f"The model reads a variable or table that is not its own ('{inner.op.name}'): make it with "
                "self.add_weight in the layer that uses it."
            )
    return convert_variables_to_constants_v2(concrete, lower_control_flow=False, aggressive_inlining=True)


def _refuse_strings(graph: Any) -> None:
    for operation in graph.get_operations():
        if any(tensor.dtype == tf.string for tensor in operation.outputs):
            raise ExportError(
                f"The operation {operation.type} in '{operation.name}' makes strings, which the graph cannot hold: "
                "leave text layers out of the model, and attach a tokenizer."
            )


def _explain(graph: Any, error: Exception) -> str:
    from tf2onnx.handler import tf_op

    supported = {name for opsets in tf_op.get_opsets().values() for handlers in opsets for name in handlers}
    missing = {
        f"{operation.type} in '{operation.name}'"
        for operation in graph.get_operations()
        if operation.type not in supported | {"Placeholder", "NoOp"}
    }
    if missing:
        return f"ONNX has no counterpart for {', '.join(sorted(missing)[:5])}: write that layer with other keras.ops."
    return f"tf2onnx could not convert the model: {error}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep tf2onnx's and TensorFlow's progress notes off the terminal."""
    loggers = [logging.getLogger("tf2onnx"), tf.get_logger()]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _mend_tf2onnx() -> None:
    """Give tf2onnx 1.17 what it lacks: names that NumPy 2 dropped, and operations."""
    if "object" not in vars(np):
        setattr(np, "object", object)  # noqa: B010
    if "cast" not in vars(np):
        setattr(np, "cast", _Casts())  # noqa: B010
    register_handlers()


class _Casts(dict[Any, Any]):
    """`numpy.cast`, which NumPy 2 dropped and tf2onnx still calls."""

    def __missing__(self, dtype: Any) -> Any:
        return lambda array: np.asarray(array, dtype)


def _rename(proto: onnx.ModelProto, names: dict[str, str]) -> None:
    """Give tensors other names, throughout the graph; a name already taken moves out of the way."""
    graph = proto.graph
    nodes = all_nodes(graph)
    present = {name for node in nodes for name in (*node.input, *node.output)}
    moved = {name: f"{name}__internal" for name in names.values() if name in present and name not in names}
    renames = moved | names
    for node in nodes:
        node.input[:] = [renames.get(name, name) for name in node.input]
        node.output[:] = [renames.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = renames.get(value.name, value.name)


def _order_inputs(proto: onnx.ModelProto, graph: Graph, weight_names: dict[str, int]) -> None:
    """List the inputs as the signature does, with named axes, then the weights that are used."""
    used = {name for node in all_nodes(proto.graph) for name in node.input}
    by_name = {value.name: value for value in proto.graph.input}
    inputs = [
        onnx.helper.make_tensor_value_info(name, _onnx_dtype(spec.dtype), list(spec.shape))
        for name, spec in graph.inputs.items()
    ]
    inputs += [by_name[name] for name in weight_names if name in by_name and name in used]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)


def _onnx_dtype(dtype: str) -> int:
    return onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
