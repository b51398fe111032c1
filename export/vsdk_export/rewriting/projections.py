"""Linear layers that read the same tokens, such as query, key and value, become one.

For the CPU that is one product of a better shape. In int8 it is more: ONNX Runtime's kernels take the activations of a
Q/DQ pair only where one product reads them; where three do, it multiplies in float and decompresses the weights in
every call.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx_ir as ir

from .linear import Linear, add_initializer, like, linears
from .names import BIAS, WEIGHT, joined


def merge_projections(model: ir.Model) -> int:
    """Merge all linear layers that read one value; how many groups there were."""
    groups: dict[int, list[Linear]] = defaultdict(list)
    for linear in linears(model.graph):
        groups[id(linear.tokens)].append(linear)
    merged = [group for group in groups.values() if len(group) > 1]
    for group in merged:
        _merge(model.graph, group)
    return len(merged)


def _merge(graph: ir.Graph, group: list[Linear]) -> None:
    """One product and one Split in the place of the first; a bias is added before the Split where all have one."""
    sizes = [linear.weight.shape[1] for linear in group]
    first = group[0].matmul
    name = joined([str(linear.matmul.inputs[1].name) for linear in group])  # type: ignore[union-attr]
    weight = add_initializer(graph, name, np.concatenate([linear.weight for linear in group], axis=1))
    together = like(first.outputs[0], last=sum(sizes))
    nodes = [ir.node("MatMul", [group[0].tokens, weight], outputs=[together])]
    biases = [linear.bias for linear in group if linear.bias is not None]
    ends = [linear.matmul.outputs[0] for linear in group]
    if len(biases) == len(group):
        bias = add_initializer(graph, f"{name.removesuffix(WEIGHT)}{BIAS}", np.concatenate(biases))
        biased = like(together)
        nodes.append(ir.node("Add", [together, bias], outputs=[biased]))
        together, ends = biased, [linear.output for linear in group]
    parts = [like(end) for end in ends]
    split = add_initializer(graph, f"{name}.sizes", np.array(sizes, np.int64))
    nodes.append(ir.node("Split", [together, split], {"axis": -1}, outputs=parts))
    graph.insert_before(first, nodes)
    for end, part in zip(ends, parts, strict=True):
        if end.is_graph_output():
            part.name = end.name
        ir.convenience.replace_all_uses_with(end, part, replace_graph_outputs=True)
