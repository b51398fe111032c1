"""Which nodes may run in int8: measured one by one, and the fewest left in float that keep the graph within its limit.

Most nodes lose next to nothing in eight bits, a few lose much: the first layer behind the pixels, or one whose input
has a few values far outside of all others. Which ones they are is not known beforehand, so it is measured:

1. Everything goes to int8. If that is within the limit, it is taken.
2. Otherwise each node alone goes to int8 and the rest stays in float; how far the result is off is the node's cost. A
   graph with more than 64 such nodes is cut into 64 groups of neighbours.
3. The costliest go back to float, as few of them as it takes. How many is found by halving.

Fewer than half of the multiply-adds with weights in int8 is not an int8 graph any more, and is refused.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from vsdk_runtimes.errors import EngineRunError, ExportError, GraphError
from vsdk_runtimes.onnxruntime_engine import import_onnxruntime, mapped_errors

from .network import Array, Arrays
from .parity import deviation, limit_of
from .quantize import QuantisedGraph, check_quantised, quantised_graph

MIN_SHARE = 0.5
"""Least share of the multiply-adds with weights that a graph in int8 has in int8."""
MOST_GROUPS = 64
"""How many nodes, or groups of neighbours, are measured at most."""
MARGIN = 0.95
"""How much of the limit the search uses up: the rest is for what was not among the runs it looked at."""
_RUNS = 8

Says = Callable[[str], None]


@dataclass(frozen=True)
class LeftInFloat:
    """A node with weights that stayed in float.

    Attributes:
        node: Its name in the graph.
        weights: Its weights' name in the network, where they have one.
        cost: 1 - cosine of the worst output when it alone (or its group) is in int8.
        share: Of the multiply-adds with weights.
    """

    node: str
    weights: str
    cost: float
    share: float

    @property
    def label(self) -> str:
        """Both names, or the one that there is."""
        return f"{self.weights} ({self.node})" if self.weights else self.node


@dataclass(frozen=True)
class Int8Graph:
    """An int8 graph and how it came about.

    Attributes:
        model: The graph.
        nodes: Nodes with weights that run in int8.
        share: Share of the multiply-adds with weights that they do.
        left: Those that stayed in float, the costliest first.
        measured: Worst cosine of each output, of this graph and of the one that is in int8 throughout.
    """

    model: ir.Model
    nodes: int
    share: float
    left: tuple[LeftInFloat, ...]
    measured: Mapping[str, tuple[float, float]]


def int8_graph(
    model: ir.Model,
    calibration: Sequence[Arrays],
    held_out: Sequence[Arrays],
    *,
    component: str = "graph",
    names: Mapping[str, str] | None = None,
    says: Says = lambda text: None,
) -> Int8Graph:
    """The int8 version of an fp32 graph, with as much of it in float as its limit asks for.

    Args:
        model: From `trace`.
        calibration: See `quantize`.
        held_out: Runs on which it is measured.
        component: For messages.
        names: What to call weights, by the name of their node.
        says: Told what is being measured.

    Raises:
        InputError: Too few calibration batches, or they do not fit the graph.
        ExportError: There is nothing to quantise, or more than half would have to stay in float.
    """
    full = quantised_graph(model, calibration)
    runs = _spread(held_out, _RUNS)
    distance = _Distance(runs, _run(model, runs))
    work = _multiply_adds(full, runs[0])
    everything = distance.of(full.model)
    costs: dict[str, float] = {}
    left: list[str] = []
    if distance.shortfall(everything) > MARGIN:
        costs = _costs(full, distance, says)
        left = _fewest(full, distance, sorted(costs, key=lambda name: -costs[name]), says)
    total = sum(work.values())
    share = sum(amount for name, amount in work.items() if name not in left) / max(total, 1)
    if share < MIN_SHARE:
        raise ExportError(
            f"component {component!r} at int8: only {share:.0%} of the multiply-adds with weights could be in int8 "
            f"within {distance.limits()}, and a graph with less than {MIN_SHARE:.0%} is not called int8",
            hint="Calibrate with more of what it will see: --calibrate VIDEO --calibrate VIDEO. If it stays so, export "
            "the checkpoint without int8: --precision fp32,fp16",
        )
    chosen = full.without(left)
    nodes = check_quantised(chosen, left)
    measured = distance.of(chosen) if left else everything
    return Int8Graph(
        model=chosen,
        nodes=nodes.weighted,
        share=share,
        left=tuple(
            LeftInFloat(name, (names or {}).get(name, ""), costs[name], work[name] / max(total, 1))
            for name in sorted(left, key=lambda name: -costs[name])
        ),
        measured={name: (measured[name], everything[name]) for name in everything},
    )


class _Distance:
    """How far a graph is from the float one on some runs."""

    def __init__(self, runs: Sequence[Arrays], reference: Sequence[Arrays]) -> None:
        self._runs, self._reference = runs, reference
        self._limits = {name: limit_of("int8", array.ndim).cosine or 0.0 for name, array in reference[0].items()}

    def of(self, model: ir.Model) -> dict[str, float]:
        """The worst cosine of each output; -1 for one that is not finite."""
        found = _run(model, self._runs)
        return {name: self._cosine(name, found) for name in self._limits}

    def shortfall(self, cosines: Mapping[str, float]) -> float:
        """The worst output's distance in units of what it may be off: up to 1 is within the limit."""
        return max((1 - cosine) / (1 - self._limits[name]) for name, cosine in cosines.items())

    def limits(self) -> str:
        """The limits, for messages."""
        return ", ".join(f"{name}: cosine >= {limit:g}" for name, limit in self._limits.items())

    def _cosine(self, name: str, found: Sequence[Arrays]) -> float:
        arrays = [outputs[name] for outputs in found]
        if not all(np.isfinite(array).all() for array in arrays):
            return -1.0
        return deviation(arrays, [outputs[name] for outputs in self._reference], whole_maps=True).cosine


def _costs(full: QuantisedGraph, distance: _Distance, says: Says) -> dict[str, float]:
    """For each node how far the graph is off when only its group is in int8."""
    nodes = [str(node.name) for node in full.model.graph if node.name in full.weights]
    groups = [part.tolist() for part in np.array_split(np.array(nodes), min(len(nodes), MOST_GROUPS))]
    costs = {}
    for number, group in enumerate(groups):
        says(f"measuring what int8 costs, {number + 1} of {len(groups)}")
        alone = distance.of(full.without(set(nodes) - set(group)))
        costs.update(dict.fromkeys(group, max(1 - cosine for cosine in alone.values())))
    return costs


def _fewest(full: QuantisedGraph, distance: _Distance, ordered: Sequence[str], says: Says) -> list[str]:
    """The fewest of these, from the first, that have to be in float."""
    low, high = 0, len(ordered)  # none is too few; all of them is the float graph
    while high - low > 1:
        middle = (low + high) // 2
        says(f"trying {middle} of {len(ordered)} in float")
        if distance.shortfall(distance.of(full.without(ordered[:middle]))) > MARGIN:
            low = middle
        else:
            high = middle
    return list(ordered[:high])


def _multiply_adds(full: QuantisedGraph, call: Arrays) -> dict[str, int]:
    """How many multiply-adds each node with weights does in one run."""
    probed = full.without(full.weights)
    sizes = {}
    for node in list(probed.graph):
        if node.name in full.weights:
            size = ir.node("Size", [node.outputs[0]])
            size.outputs[0].name = f"size_of_{node.name}"
            size.outputs[0].dtype, size.outputs[0].shape = ir.DataType.INT64, ir.Shape([])
            probed.graph.append(size)
            probed.graph.outputs.append(size.outputs[0])
            sizes[str(node.name)] = size.outputs[0].name, node
    (found,) = _run(probed, [call], [name for name, _ in sizes.values()])
    return {name: int(found[output]) * _per_value(node, full) for name, (output, node) in sizes.items()}


def _per_value(node: ir.Node, full: QuantisedGraph) -> int:
    """Multiply-adds for one value of a node's result."""
    index, weights = full.weights[str(node.name)]
    if node.op_type == "Conv":
        return int(np.prod(weights.shape[1:]))
    transposed = node.op_type == "Gemm" and "transB" in node.attributes and node.attributes["transB"].as_int() == 1
    if index == 0:
        return int(weights.shape[-2])
    return int(weights.shape[-1] if transposed else weights.shape[-2] if weights.ndim > 1 else weights.size)


def _run(model: ir.Model, calls: Sequence[Arrays], outputs: Collection[str] | None = None) -> list[dict[str, Array]]:
    """What a graph gives for each call, on ONNX Runtime."""
    runtime = import_onnxruntime()
    settings = runtime.SessionOptions()
    settings.log_severity_level = 3
    names = [str(value.name) for value in model.graph.outputs] if outputs is None else list(outputs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        ir.save(model, path, external_data="graph.data")
        with mapped_errors("ONNX Runtime cannot load the graph to be measured", GraphError):
            session: Any = runtime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        with mapped_errors("ONNX Runtime cannot run the graph to be measured", EngineRunError):
            found = [session.run(names, dict(call)) for call in calls]
    return [dict(zip(names, arrays, strict=False)) for arrays in found]  # asked for none, it gives all


def _spread(calls: Sequence[Arrays], count: int) -> list[Arrays]:
    """So many of them, evenly spread."""
    if len(calls) <= count:
        return list(calls)
    return [calls[int(index)] for index in np.linspace(0, len(calls) - 1, count)]
