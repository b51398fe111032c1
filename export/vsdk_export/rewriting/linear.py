"""Linear layers as they stand in a traced graph: a MatMul with constant weights, mostly with an Add of a bias."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..network import Array


@dataclass(frozen=True)
class Linear:
    """One linear layer.

    Attributes:
        matmul: The product; its second input is `weight`.
        weight: `[inputs, outputs]`.
        add: The Add of the bias, where there is one.
        bias: `[outputs]`, where there is one.
    """

    matmul: ir.Node
    weight: Array
    add: ir.Node | None
    bias: Array | None

    @property
    def tokens(self) -> ir.Value:
        """What it reads."""
        value = self.matmul.inputs[0]
        assert value is not None
        return value

    @property
    def output(self) -> ir.Value:
        """What it gives."""
        return (self.add or self.matmul).outputs[0]


def linears(graph: ir.Graph) -> Iterator[Linear]:
    """Every linear layer of a graph, in order."""
    for node in graph:
        if (found := linear_of(node)) is not None:
            yield found


def linear_of(node: ir.Node) -> Linear | None:
    """The linear layer whose product a node is."""
    if node.op_type != "MatMul":
        return None
    weight = constant(node.inputs[1])
    if weight is None or weight.ndim != 2 or constant(node.inputs[0]) is not None:
        return None
    user = only_user(node.outputs[0])
    if user is not None and user.op_type == "Add":
        bias = constant(other_input(user, node.outputs[0]))
        if bias is not None and bias.shape == (weight.shape[1],):
            return Linear(node, weight, user, bias)
    return Linear(node, weight, None, None)


def constant(value: ir.Value | None) -> Array | None:
    """The float content of an initializer; None for anything else."""
    if value is None or not value.is_initializer() or value.const_value is None or value.is_graph_input():
        return None
    if value.const_value.dtype != ir.DataType.FLOAT:
        return None
    return value.const_value.numpy()


def only_user(value: ir.Value) -> ir.Node | None:
    """The one node that reads a value; None if there are several, or if it leaves the graph."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def other_input(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The input of a node of two inputs that is not this value."""
    first, second = node.inputs
    return second if first is value else first


def add_initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """A new constant; a number is added to the name where that is taken."""
    free, number = name, 1
    while free in graph.initializers:
        number += 1
        free = f"{name}.{number}"
    tensor = ir.tensor(np.ascontiguousarray(array), name=free)
    value = ir.Value(name=free, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
    graph.register_initializer(value)
    return value


def like(value: ir.Value, *, last: int | None = None) -> ir.Value:
    """A new value of another one's type and shape, its last axis of another size if asked."""
    if value.shape is None:
        return ir.Value(type=value.type)
    sizes = [*value.shape] if last is None else [*value.shape[:-1], last]
    return ir.Value(type=value.type, shape=ir.Shape(sizes))
