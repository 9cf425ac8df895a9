"""Edit an ONNX graph: who makes and who reads each tensor, while nodes come and go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import onnx

# The domain of ONNX Runtime's own operators.
RUNTIME_DOMAIN = "com.microsoft"
# That of nodes which `kzoo.export.fusion` writes as others before anybody sees them.
OWN_DOMAIN = "kzoo"

# Smaller weights stay in float32: the file hardly shrinks, and a head of few classes suffers.
FEWEST_WEIGHTS = 4096

# Sizes by tensor, None where an axis is free.
Shapes = dict[str, list[int | None]]


class GraphEditor:
    """A graph whose weights are still inputs.

    Args:
        proto: the graph; `finish` writes the changes into it.
        weights: names of the inputs that are weights, each with the indices of its Keras variables.
        shapes: what is known of the tensors' shapes.
    """

    def __init__(self, proto: onnx.ModelProto, weights: dict[str, tuple[int, ...]], shapes: Shapes) -> None:
        self.proto = proto
        self.nodes = list(proto.graph.node)
        self.unfused: list[str] = []
        self.packed: set[str] = set()  # masks whose padding is left out
        self._weights = dict(weights)
        self._shapes = shapes
        self._parts: dict[str, tuple[str, ...]] = {}
        self._constants = {tensor.name: tensor for tensor in proto.graph.initializer}
        # What the body of a loop reads must stay as well.
        self.outputs = {value.name for value in proto.graph.output} | _read_inside(self.nodes)
        self._inputs = {value.name: value for value in proto.graph.input}
        self.inputs = self._inputs.keys() - weights.keys()
        self._makers: dict[str, onnx.NodeProto] = {}
        self._readers: Counter[str] = Counter()
        self._present: set[int] = set()
        for node in self.nodes:
            self._enter(node)

    def holds(self, node: onnx.NodeProto) -> bool:
        """Return whether a node is still part of the graph."""
        return id(node) in self._present

    def maker(self, tensor: str, *operations: str) -> onnx.NodeProto | None:
        """Return the node that makes a tensor, if it is one of those operations."""
        node = self._makers.get(tensor)
        return node if node is not None and node.op_type in operations else None

    def is_private(self, tensor: str) -> bool:
        """Return whether one node alone reads a tensor."""
        return self._readers[tensor] == 1 and tensor not in self.outputs

    def weight_shape(self, tensor: str) -> list[int]:
        """Return a weight's shape."""
        return [dim.dim_value for dim in self._inputs[tensor].type.tensor_type.shape.dim]

    def input_dtype(self, tensor: str) -> int:
        """Return the element type of one of the graph's inputs."""
        return int(self._inputs[tensor].type.tensor_type.elem_type)

    def weight_rank(self, tensor: str) -> int | None:
        """Return a weight's number of dimensions; None if the tensor is no weight."""
        return len(self.weight_shape(tensor)) if tensor in self._weights else None

    def shape(self, tensor: str) -> list[int | None] | None:
        """Return what is known of a tensor's shape."""
        return self._shapes.get(tensor)

    def note_shape(self, tensor: str, shape: list[int | None] | None) -> None:
        """Remember what is known of the shape of a tensor that was added."""
        if shape is not None:
            self._shapes[tensor] = shape

    def value(self, tensor: str) -> np.ndarray | None:
        """Return a constant's value."""
        found = self._constants.get(tensor)
        return None if found is None else onnx.numpy_helper.to_array(found)

    def scalar(self, tensor: str) -> Any:
        """Return the number that a constant of one element holds; None if the tensor is no such constant."""
        value = self.value(tensor)
        return None if value is None or value.size != 1 else value.item()

    def constant(self, name: str, value: Any, dtype: str = "int64") -> str:
        """Return the name of a constant, made unless it is there."""
        if name not in self._constants:
            self._constants[name] = onnx.numpy_helper.from_array(np.asarray(value, dtype), name)
        return name

    def once(self, tensor: str, make: Callable[[], onnx.NodeProto], before: onnx.NodeProto) -> str:
        """Return a tensor that several nodes may ask for, making it before the first that does."""
        if tensor not in self._makers:
            self.insert_before(before, make())
        return tensor

    def insert_before(self, node: onnx.NodeProto, *added: onnx.NodeProto) -> None:
        """Put nodes before another."""
        index = self._index(node)
        self.nodes[index:index] = added
        for new in added:
            self._enter(new)

    def replace(self, old: onnx.NodeProto, new: onnx.NodeProto) -> None:
        """Put a node in another's place; what fed that one alone goes when the graph is finished."""
        self.nodes[self._index(old)] = new
        self._leave(old)
        self._enter(new)
        for tensor in old.input:
            self._drop_unread(tensor)

    def remove(self, node: onnx.NodeProto) -> None:
        """Take a node out; another one must come to make what it made."""
        del self.nodes[self._index(node)]
        self._leave(node)

    def redirect(self, node: onnx.NodeProto, tensor: str) -> None:
        """Let those who read a node's output read another tensor instead, and take the node out."""
        old = node.output[0]
        for reader in self.nodes:
            if old in reader.input:
                self._readers.subtract([name for name in reader.input if name])
                reader.input[:] = [tensor if name == old else name for name in reader.input]
                self._readers.update(name for name in reader.input if name)
        self._drop_unread(old)

    def reshaped(self, name: str, shape: list[int]) -> str:
        """Return the name of a weight that is another in a different shape."""
        new = f"{name}:{'x'.join(map(str, shape))}"
        if new not in self._weights:
            self._weights[new] = self._weights[name]
            dtype = self._inputs[name].type.tensor_type.elem_type
            self._inputs[new] = onnx.helper.make_tensor_value_info(new, dtype, shape)
        return new

    def neighbours(self, tensor: str) -> list[onnx.NodeProto]:
        """Return the node that makes a tensor and those that read it."""
        return [node for node in self.nodes if tensor in node.output or tensor in node.input]

    def rewrite(self, nodes: list[onnx.NodeProto]) -> None:
        """Put other nodes in the place of all."""
        self.nodes = nodes
        self._makers.clear()
        self._readers.clear()
        self._present.clear()
        for node in nodes:
            self._enter(node)

    def pack(self, names: tuple[str, ...]) -> str:
        """Return the name of one weight that holds others side by side along their last axis."""
        packed = "+".join(names)
        self._parts[packed] = names
        if packed not in self._weights:
            self._weights[packed] = tuple(index for name in names for index in self._weights[name])
            sizes = self.weight_shape(names[0])
            sizes[-1] = sum(self.weight_shape(name)[-1] for name in names)
            dtype = self._inputs[names[0]].type.tensor_type.elem_type
            self._inputs[packed] = onnx.helper.make_tensor_value_info(packed, dtype, sizes)
        return packed

    def parts(self, packed: str) -> tuple[str, ...]:
        """Return the names of the weights that a packed one holds."""
        return self._parts[packed]

    def finish(self) -> dict[str, tuple[int, ...]]:
        """Write the graph back without what nobody reads, and return the weights that it still takes."""
        for node in reversed(list(self.nodes)):
            for tensor in node.output:
                self._drop_unread(tensor)
        read = {name for node in self.nodes for name in node.input} | self.outputs
        graph = self.proto.graph
        weights = {name: indices for name, indices in self._weights.items() if name in read}
        inputs = [value for name, value in self._inputs.items() if name in self.inputs or name in weights]
        constants = [tensor for name, tensor in self._constants.items() if name in read]
        nodes = list(self.nodes)
        for field in (graph.node, graph.input, graph.initializer, graph.value_info):
            del field[:]
        graph.node.extend(nodes)
        graph.input.extend(inputs)
        graph.initializer.extend(constants)
        used = {node.domain for node in nodes} | {""}
        domains = [opset for opset in self.proto.opset_import if opset.domain in used]
        del self.proto.opset_import[:]
        self.proto.opset_import.extend(domains)
        return weights

    def _index(self, node: onnx.NodeProto) -> int:
        return next(index for index, other in enumerate(self.nodes) if other is node)

    def _drop_unread(self, tensor: str) -> None:
        """Remove the node that makes a tensor if nothing that it makes is read, and so on upwards."""
        node = self._makers.get(tensor)
        if node is None or any(self._readers[name] or name in self.outputs for name in node.output):
            return
        self.remove(node)
        for name in node.input:
            self._drop_unread(name)

    def _enter(self, node: onnx.NodeProto) -> None:
        self._present.add(id(node))
        self._makers.update((name, node) for name in node.output if name)
        self._readers.update(name for name in node.input if name)

    def _leave(self, node: onnx.NodeProto) -> None:
        self._present.discard(id(node))
        for name in node.output:
            if self._makers.get(name) is node:
                del self._makers[name]
        self._readers.subtract(name for name in node.input if name)


def _read_inside(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Return the names of all tensors that the bodies of loops and conditions read."""
    names: set[str] = set()
    for body in (body for node in nodes for body in inner_graphs(node)):
        names.update(name for node in body.node for name in node.input)
        names.update(value.name for value in body.output)
    return names


def new_node(
    operation: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any
) -> onnx.NodeProto:
    """Return a node named after what it makes."""
    return onnx.helper.make_node(operation, inputs, outputs, name=outputs[0], domain=domain, **attributes)


def runtime_node(
    operation: str, inputs: list[str], node: onnx.NodeProto, **attributes: Any
) -> onnx.NodeProto:
    """Return a node of the runtime's own domain with another's name and first output."""
    while inputs and not inputs[-1]:
        inputs.pop()
    return onnx.helper.make_node(
        operation, inputs, [node.output[0]], name=node.name, domain=RUNTIME_DOMAIN, **attributes
    )


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return a node's attribute, or the default if it has none of that name."""
    found = next((attribute for attribute in node.attribute if attribute.name == name), None)
    return default if found is None else onnx.helper.get_attribute_value(found)


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield a node's branches and bodies, at any depth."""
    for item in node.attribute:
        for graph in [item.g] * item.HasField("g") + list(item.graphs):
            yield graph
            for inner in graph.node:
                yield from inner_graphs(inner)


def inner_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a node's branches and bodies, at any depth."""
    for graph in inner_graphs(node):
        yield from graph.node


def all_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return a graph's nodes, with those of their branches and bodies."""
    return [inner for node in graph.node for inner in (node, *inner_nodes(node))]


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Give a graph other nodes, without those and the weights that nobody reads."""
    read = {value.name for value in graph.output}
    kept = []
    for node in reversed(nodes):
        if read.intersection(node.output):
            kept.append(node)
            read.update(name for inner in (node, *inner_nodes(node)) for name in inner.input)
    weights = [tensor for tensor in graph.initializer if tensor.name in read]
    for field in ("value_info", "node", "initializer"):
        graph.ClearField(field)
    graph.node.extend(reversed(kept))
    graph.initializer.extend(weights)
