"""Biases of keys and values leave attention: they change nothing there that could not be had for less.

A bias of the keys adds, to each query's scores, the same number for every key; softmax does not see it. A bias of the
values comes out of the weighted mean as it went in, since the weights' sum is 1; so it goes through the next linear
layer once, at export, and into that layer's bias.

That a bias really is the same for all keys is not read off from the operators between: they are applied to the bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..network import Array
from .linear import Linear, add_initializer, constant, linear_of, only_user, other_input

_MOVES = ("Reshape", "Transpose")


@dataclass(frozen=True)
class _Biased:
    """A linear layer's bias, as it arrives behind moves at an input of a product."""

    linear: Linear
    arrived: Array


def move_attention_biases(model: ir.Model) -> int:
    """Drop biases of keys, move those of values; how many in all."""
    moved = 0
    for node in list(model.graph):
        if node.op_type == "Softmax" and _is_last_axis(node):
            moved += _drop_key_bias(node) + _move_value_bias(model.graph, node)
    return moved


def _drop_key_bias(softmax: ir.Node) -> bool:
    product = _scores(softmax.inputs[0])
    biased = None if product is None else _arriving(product.inputs[1])
    if biased is None or np.ptp(biased.arrived, axis=-1).any():
        return False
    _drop(biased.linear)
    return True


def _move_value_bias(graph: ir.Graph, softmax: ir.Node) -> bool:
    product = only_user(softmax.outputs[0])
    if product is None or product.op_type != "MatMul" or product.inputs[0] is not softmax.outputs[0]:
        return False
    biased = _arriving(product.inputs[1])
    if biased is None or np.ptp(biased.arrived, axis=-2).any():
        return False
    value, moves = product.outputs[0], []
    while (user := only_user(value)) is not None and user.op_type in _MOVES:
        moves.append(user)
        value = user.outputs[0]
    following = None if user is None else linear_of(user)
    shape = _shape_of_one(product.outputs[0])
    if following is None or following.tokens is not value or following.add is None or shape is None:
        return False
    assert following.bias is not None
    mean = np.broadcast_to(biased.arrived[..., :1, :], shape)
    mixed = _moved(mean, moves)
    if mixed is None or np.ptp(mixed.reshape(-1, mixed.shape[-1]), axis=0).any():
        return False
    vector = mixed.reshape(-1, mixed.shape[-1])[0].astype(np.float64)
    bias = (following.bias + vector @ following.weight.astype(np.float64)).astype(np.float32)
    old = other_input(following.add, following.matmul.outputs[0])
    assert old is not None
    place = following.add.inputs.index(old)
    following.add.replace_input_with(place, add_initializer(graph, f"{old.name}.with_values", bias))
    _drop(biased.linear)
    return True


def _drop(linear: Linear) -> None:
    assert linear.add is not None
    ir.convenience.replace_all_uses_with(linear.add.outputs[0], linear.matmul.outputs[0])
    assert linear.add.graph is not None
    linear.add.graph.remove(linear.add, safe=True)


def _scores(value: ir.Value | None) -> ir.Node | None:
    """The product of queries and keys behind what softmax reads: a mask may be added to it, a number be its factor."""
    node = None if value is None else value.producer()
    while node is not None and node.op_type in ("Add", "Mul") and only_user(node.outputs[0]) is not None:
        products = [item for item in node.inputs if item is not None and _leads_to_product(item)]
        others = [item for item in node.inputs if item is not None and not _leads_to_product(item)]
        if len(products) != 1 or (node.op_type == "Mul" and _single(others[0]) is None):
            return None
        node = products[0].producer()
    return node if node is not None and node.op_type == "MatMul" and only_user(node.outputs[0]) is not None else None


def _leads_to_product(value: ir.Value) -> bool:
    node = value.producer()
    if node is not None and node.op_type == "Mul":
        return any(item is not None and _leads_to_product(item) for item in node.inputs)
    return node is not None and node.op_type == "MatMul"


def _single(value: ir.Value) -> Array | None:
    found = constant(value)
    return found if found is not None and found.size == 1 else None


def _arriving(value: ir.Value | None) -> _Biased | None:
    """The bias of the linear layer behind a value, moved as the layer's output is, for a batch of one."""
    moves: list[ir.Node] = []
    node = None if value is None else value.producer()
    while node is not None and node.op_type in _MOVES and only_user(node.outputs[0]) is not None:
        moves.insert(0, node)
        assert node.inputs[0] is not None
        node = node.inputs[0].producer()
    if node is None or node.op_type != "Add" or only_user(node.outputs[0]) is None:
        return None
    for item in node.inputs:
        source = None if item is None else item.producer()
        linear = None if source is None else linear_of(source)
        shape = _shape_of_one(node.outputs[0])
        if linear is not None and linear.add is node and linear.bias is not None and shape is not None:
            arrived = _moved(np.broadcast_to(linear.bias, shape), moves)
            return None if arrived is None or arrived.ndim < 2 else _Biased(linear, arrived)
    return None


def _shape_of_one(value: ir.Value) -> list[int] | None:
    """Its shape for a batch of one; None where another axis is dynamic."""
    if value.shape is None:
        return None
    sizes = [axis if isinstance(axis, int) else 1 for axis in value.shape]
    return sizes if all(isinstance(axis, int) for axis in value.shape[1:]) else None


def _moved(array: Array, moves: Sequence[ir.Node]) -> Array | None:
    """The array after Reshape and Transpose nodes; None where they cannot be followed."""
    for node in moves:
        if node.op_type == "Transpose":
            array = array.transpose(node.attributes["perm"].as_ints())
            continue
        target = _shape_of_one(node.outputs[0])
        if target is None or int(np.prod(target)) != array.size:
            return None
        array = array.reshape(target)
    return array


def _is_last_axis(softmax: ir.Node) -> bool:
    axis = softmax.attributes.get_int("axis", -1)
    rank = None if softmax.inputs[0] is None or softmax.inputs[0].shape is None else len(softmax.inputs[0].shape)
    return axis == -1 or (rank is not None and axis == rank - 1)
