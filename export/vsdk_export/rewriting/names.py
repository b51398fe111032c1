"""Weights get back the names that their module gave them.

The exporter keeps the names of biases, but transposes the matrices of linear layers and calls them `val_77`. What was
left in float, or took how long, is to be read by people; so a matrix is named after the bias that stands behind it.
"""

from __future__ import annotations

import onnx_ir as ir

from .linear import linears, other_input

WEIGHT, BIAS = ".weight", ".bias"


def name_weights(model: ir.Model) -> int:
    """Name the weights of linear layers after their biases; how many there were."""
    named = 0
    for linear in linears(model.graph):
        weight = linear.matmul.inputs[1]
        bias = None if linear.add is None else other_input(linear.add, linear.matmul.outputs[0])
        if weight is None or bias is None or not str(bias.name).endswith(BIAS) or str(weight.name).endswith(WEIGHT):
            continue
        name = str(bias.name).removesuffix(BIAS) + WEIGHT
        if name not in model.graph.initializers:
            weight.name = name
            named += 1
    return named


def derived(value: ir.Value | None, what: str) -> str:
    """The name of weights that were made of others."""
    name = "" if value is None else str(value.name)
    return f"{name.removesuffix(WEIGHT)}.{what}{WEIGHT}" if name.endswith(WEIGHT) else f"{name}.{what}"


def joined(names: list[str]) -> str:
    """The name of weights that lie side by side: `blocks.0.q+k+v.weight` of `blocks.0.q.weight` and so on."""
    if not all(name.endswith(WEIGHT) for name in names):
        return f"{names[0]}.merged"
    parts = [name.removesuffix(WEIGHT).split(".") for name in names]
    common = 0
    while all(len(part) > common + 1 and part[common] == parts[0][common] for part in parts):
        common += 1
    return ".".join([*parts[0][:common], "+".join(".".join(part[common:]) for part in parts)]) + WEIGHT
