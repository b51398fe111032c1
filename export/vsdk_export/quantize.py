"""The int8 graph: static quantisation that ONNX Runtime's CPU kernels and TensorRT both accept.

One recipe: QuantizeLinear/DequantizeLinear pairs around every MatMul, Gemm and Conv that has weights, everything signed
and symmetric (zero point 0), weights a scale for each output channel where a kernel can multiply it in (`channels.py`),
activations a scale for each tensor, biases left in float. Any other recipe of ONNX Runtime's quantiser is refused by
TensorRT's parser. The ranges of activations come from calibration batches, so those must be what the graph sees in use:
for a recurrent graph that means states from a long run, since a state that calibration never saw is clipped, and the
clipped state is fed back.

Products of two activations stay in float. In attention over hundreds of tokens most probabilities are below the step of
1/127 and would vanish: of nano's bridge, single tokens came out with a cosine of -0.2 instead of 0.9998. And the cache
of a memory is copied through such a product in every step, so its error would be fed back.

Behind a MatMul or Gemm whose result only float operators read there is no pair: it would round what nobody reads in
eight bits. A Conv keeps its pair, without which ONNX Runtime would run it in float.

A quantiser that finds nothing to quantise writes its input and reports no error, so the nodes are counted. Which nodes
are better left in float is found out in `precision_search.py`.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from vsdk_runtimes.errors import ExportError, InputError
from vsdk_runtimes.onnxruntime_engine import import_onnxruntime

from .channels import QUANTISED, check_channels, without_channels
from .graph import write_graph
from .network import Array, Arrays

MIN_BATCHES = 8


@dataclass(frozen=True)
class QuantisedNodes:
    """What a quantised graph holds.

    Attributes:
        weighted: MatMul, Gemm and Conv nodes with int8 weights.
        pairs: QuantizeLinear nodes.
        left: Products of two activations, which stayed in float.
    """

    weighted: int
    pairs: int
    left: int


@dataclass(frozen=True, eq=False)
class QuantisedGraph:
    """A graph in int8 throughout, from which single nodes can be given back to float.

    Attributes:
        model: With every node that has weights in int8.
        weights: The float weights of each such node, by the node's name: which input they are, and what they were.
    """

    model: ir.Model
    weights: Mapping[str, tuple[int, Array]]

    def without(self, names: Collection[str]) -> ir.Model:
        """A copy in which these nodes run in float.

        Args:
            names: Keys of `weights`.
        """
        model = self.model.clone()
        nodes = {str(node.name): node for node in model.graph}
        for name in names:
            _give_back(model, nodes[name], *self.weights[name])
        for node in nodes.values():
            if node.op_type in QUANTISED and _is_float(node):
                _without_pair_behind(model, node)
        passes.RemoveUnusedNodesPass()(model)
        return model


def quantize(model: ir.Model, calibration: Sequence[Arrays]) -> ir.Model:
    """The int8 version of an fp32 graph, with every node that has weights; the original is left as it was.

    Args:
        model: From `trace`.
        calibration: All inputs of the graph by name, one mapping for each run; at least 8, from real use.

    Raises:
        InputError: Too few calibration batches, or they do not fit the graph.
        ExportError: There was nothing to quantise, or the result is not the recipe above.
    """
    return quantised_graph(model, calibration).model


def quantised_graph(model: ir.Model, calibration: Sequence[Arrays]) -> QuantisedGraph:
    """What `quantize` gives, with the float weights beside it; the same arguments and errors."""
    if len(calibration) < MIN_BATCHES:
        raise InputError(
            f"static quantisation needs at least {MIN_BATCHES} calibration batches, and got {len(calibration)}",
            hint="Run the float graph on real input for a while and pass what it saw.",
        )
    _check_calibration(model, calibration)
    quantisation = _import_quantisation()
    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain = write_graph(model, Path(folder) / "fp32.onnx")[0]
        prepared, written = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        # Merges MatMul and Add into Gemm; without it the quantised graph is no faster than the float one.
        quantisation.shape_inference.quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        float_graph = ir.load(prepared)
        quantisation.quantize_static(
            str(prepared),
            str(written),
            _Reader(calibration),
            quant_format=quantisation.QuantFormat.QDQ,
            activation_type=quantisation.QuantType.QInt8,
            weight_type=quantisation.QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=_without_weights(float_graph),
            calibrate_method=quantisation.CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "TensorQuantOverrides": {name: [{"symmetric": True}] for name in without_channels(float_graph)},
            },
        )
        found = ir.load(written)
        ir.external_data.load_to_model(found)
        weights = _weights(float_graph)
    for node in list(found.graph):
        if node.op_type in ("MatMul", "Gemm"):
            _without_pair_behind(found, node)
    _clean(found, model)
    check_quantised(found)
    return QuantisedGraph(found, weights)


def check_quantised(model: ir.Model, left: Collection[str] = ()) -> QuantisedNodes:
    """Count what was quantised, and hold it against the recipe.

    Args:
        model: A graph in int8.
        left: Nodes with weights that were left in float on purpose.

    Raises:
        ExportError: Nothing was quantised, a zero point is not 0, a bias or an activation is not signed 8 bits, or
            another node with weights stayed in float, or weights have scales along an axis that is summed over.
    """
    pairs = weighted = products = 0
    for node in model.graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            pairs += node.op_type == "QuantizeLinear"
            _check_zero_point(node)
        elif node.op_type in QUANTISED:
            quantised = [_is_dequantised(value) for value in node.inputs[:2]]
            if all(quantised):
                check_channels(node)
                weighted += any(_is_quantised_weight(value) for value in node.inputs[:2])
            else:
                if not any(value is not None and value.is_initializer() for value in node.inputs[:2]):
                    products += 1
                elif node.name not in left:
                    raise ExportError(f"int8: the weights of {node.op_type} {node.name!r} stayed in float")
    if pairs == 0 or weighted == 0:
        raise ExportError(
            "int8: the quantiser found nothing to quantise in this graph",
            hint="Export it at fp32 or fp16; and please report which checkpoint it was.",
        )
    return QuantisedNodes(weighted, pairs, products)


def _check_zero_point(node: ir.Node) -> None:
    zero_point = node.inputs[2] if len(node.inputs) > 2 else None
    if zero_point is None or zero_point.const_value is None:
        raise ExportError(f"int8: {node.op_type} {node.name!r} does not say its type by a zero point")
    values = zero_point.const_value.numpy()
    if values.dtype != np.int8 or values.any():
        raise ExportError(f"int8: {node.op_type} {node.name!r} is not signed and symmetric, as TensorRT asks")


def _is_dequantised(value: ir.Value | None) -> bool:
    producer = None if value is None else value.producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


def _is_quantised_weight(value: ir.Value | None) -> bool:
    producer = None if value is None else value.producer()
    source = None if producer is None else producer.inputs[0]
    return source is not None and source.is_initializer()


def _is_float(node: ir.Node) -> bool:
    return not any(_is_dequantised(value) for value in node.inputs[:2])


def _give_back(model: ir.Model, node: ir.Node, index: int, weights: Array) -> None:
    """Let a node read its float weights, and its other input as it was before it was quantised."""
    for number, value in enumerate(node.inputs[:2]):
        producer = None if value is None else value.producer()
        if value is None or producer is None or producer.op_type != "DequantizeLinear":
            continue
        if number == index:
            name = f"{node.name}_weight"
            plain = ir.Value(name=name, const_value=ir.tensor(weights, name=name))
            plain.dtype, plain.shape = ir.DataType.FLOAT, ir.Shape(weights.shape)
            model.graph.register_initializer(plain)
            node.replace_input_with(number, plain)
        elif (source := _before_pair(value)) is not None and not _is_convolved(source):
            node.replace_input_with(number, source)


def _without_pair_behind(model: ir.Model, node: ir.Node) -> None:
    """Drop the pair behind a node, for all who read the result in float."""
    result = node.outputs[0]
    for quantise, _ in list(result.uses()):
        for dequantise, _ in list(quantise.outputs[0].uses()) if quantise.op_type == "QuantizeLinear" else ():
            behind = dequantise.outputs[0]
            for reader, index in list(behind.uses()):
                if reader.op_type not in QUANTISED or _is_float(reader):
                    reader.replace_input_with(index, result)
            if behind.is_graph_output():
                name, place = behind.name, list(model.graph.outputs).index(behind)
                behind.name = f"{name}_rounded"
                result.name, result.type, result.shape = name, behind.type, behind.shape
                model.graph.outputs[place] = result


def _before_pair(value: ir.Value) -> ir.Value | None:
    """What a dequantised activation was before it was quantised."""
    dequantise = value.producer()
    quantised = None if dequantise is None else dequantise.inputs[0]
    quantise = None if quantised is None else quantised.producer()
    return None if quantise is None else quantise.inputs[0]


def _is_convolved(value: ir.Value) -> bool:
    """Whether this is what a Conv in int8 gives, which is run as such only with a pair behind it."""
    producer = value.producer()
    return producer is not None and producer.op_type == "Conv" and not _is_float(producer)


def _weights(model: ir.Model) -> dict[str, tuple[int, Array]]:
    """For each node with weights which input they are, and what they are."""
    found = {}
    for node in model.graph:
        if node.op_type in QUANTISED:
            for index, value in enumerate(node.inputs[:2]):
                if value is not None and value.is_initializer() and value.const_value is not None:
                    found[str(node.name)] = (index, np.array(value.const_value.numpy()))
    return found


def _without_weights(model: ir.Model) -> list[str]:
    """Names of the products of two activations."""
    return [
        str(node.name)
        for node in model.graph
        if node.op_type in QUANTISED
        and not any(value is not None and value.is_initializer() for value in node.inputs[:2])
    ]


def _check_calibration(model: ir.Model, calibration: Sequence[Arrays]) -> None:
    names = {str(value.name) for value in model.graph.inputs}
    for number, batch in enumerate(calibration):
        if set(batch) != names:
            raise InputError(
                f"calibration batch {number} has the inputs {sorted(batch)}, but the graph takes {sorted(names)}"
            )
        for name, array in batch.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise InputError(f"calibration batch {number}: input {name!r} is not finite")


class _Reader:
    """Calibration batches as ONNX Runtime's quantiser asks for them."""

    def __init__(self, batches: Sequence[Arrays]) -> None:
        self._batches: Iterator[Arrays] = iter(batches)

    def get_next(self) -> Mapping[str, Any] | None:
        """The next batch, or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {name: np.ascontiguousarray(array) for name, array in batch.items()}

    def __iter__(self) -> _Reader:
        return self

    def __next__(self) -> Mapping[str, Any]:
        batch = self.get_next()
        if batch is None:
            raise StopIteration
        return batch


def _import_quantisation() -> Any:
    import_onnxruntime()
    from onnxruntime import quantization
    from onnxruntime.quantization import shape_inference  # noqa: F401  # not imported by its package

    return quantization


def _clean(model: ir.Model, original: ir.Model) -> None:
    """Drop what the quantiser added for people; only standard operators of the original's opset may be left."""
    passes.RemoveUnusedNodesPass()(model)
    passes.RemoveUnusedOpsetsPass()(model)
    passes.ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    model.producer_name = original.producer_name
    model.producer_version = original.producer_version
    model.ir_version = original.ir_version
    model.graph.name = original.graph.name
    if unknown := {node.domain for node in model.graph if node.domain not in ("", "ai.onnx")}:
        raise ExportError(f"int8: the quantised graph uses operators outside the ONNX standard: {sorted(unknown)}")
    if model.opset_imports.get("") != original.opset_imports.get(""):
        raise ExportError(f"int8: the quantiser changed the opset to {model.opset_imports.get('')}")


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser logs advice to the root logger; it would scroll through the user's terminal."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
