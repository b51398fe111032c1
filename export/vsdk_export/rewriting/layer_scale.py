"""Factors behind a linear layer, such as DINOv2's LayerScale, go into its weights."""

from __future__ import annotations

import onnx_ir as ir

from .linear import Linear, add_initializer, constant, linears, only_user, other_input
from .names import derived


def fold_layer_scales(model: ir.Model) -> int:
    """Fold every factor that a linear layer's output alone is multiplied by; how many there were."""
    return sum(_fold(model.graph, linear) for linear in list(linears(model.graph)))


def _fold(graph: ir.Graph, linear: Linear) -> bool:
    multiply = only_user(linear.output)
    if multiply is None or multiply.op_type != "Mul" or multiply.outputs[0].is_graph_output():
        return False
    factor = constant(other_input(multiply, linear.output))
    if factor is None or factor.shape not in ((linear.weight.shape[1],), (1,), ()):
        return False
    name = derived(linear.matmul.inputs[1], "scaled")
    linear.matmul.replace_input_with(1, add_initializer(graph, name, linear.weight * factor))
    if linear.add is not None and linear.bias is not None:
        old = linear.add.inputs[0 if linear.add.inputs[1] is linear.matmul.outputs[0] else 1]
        assert old is not None
        place = linear.add.inputs.index(old)
        linear.add.replace_input_with(place, add_initializer(graph, f"{old.name}.scaled", linear.bias * factor))
    ir.convenience.replace_all_uses_with(multiply.outputs[0], linear.output)
    graph.remove(multiply, safe=True)
    return True
