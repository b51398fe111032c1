"""The fp16 graph: casts written into the graph, fp32 kept where fp16 would not hold.

TensorRT builds only what the graph's types say, so precision is decided here. Three ways were weighed:

* `onnxruntime.transformers.float16` clamps weights silently (1e6 becomes 65504, 1e-9 becomes 6e-8) and knows nothing
  of activations: a network that overflows converts without a word.
* Exporting a `.half()` module traces a second time, and gives LayerNormalization in fp16, which TensorRT 10.3 gets
  wrong for some vision transformers.
* A pass of our own over the fp32 graph sees both the weights and the activations on real pictures. It is this file.

A node runs in fp32 when its operator is a normalisation or another known trouble-maker, when a weight would not
survive rounding, when a value that it reads or writes on real pictures comes near the end of fp16's range, or when it
reads one of the inputs that the network wants kept as they are.
Everything else runs in fp16. Graph inputs and outputs stay fp32.

That nothing overflows is then checked against the measured ranges, whatever decided what runs in fp16. Running the
graph on a CPU would not show it: ONNX Runtime has no fp16 kernels there, computes in fp32, and drops the casts in
between.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from vsdk_runtimes.errors import EngineRunError, ExportError, GraphError, ParityError
from vsdk_runtimes.onnxruntime_engine import import_onnxruntime, mapped_errors

from .graph import write_graph
from .network import Array, Arrays

# Sums of squares, exponentials and variances leave fp16's range or precision long before their results do.
_SINGLE_ONLY = frozenset(
    {"LayerNormalization", "InstanceNormalization", "GroupNormalization", "BatchNormalization", "ReduceMean",
     "ReduceSum", "ReduceSumSquare", "ReduceL2", "Sqrt", "Reciprocal", "Exp", "Log", "CumSum", "Range", "Resize"}
)  # fmt: skip
# These only move values about: they run in whatever precision the values already have.
_MOVES = frozenset(
    {
        "Reshape",
        "Transpose",
        "Slice",
        "Squeeze",
        "Unsqueeze",
        "Gather",
        "Expand",
        "Identity",
        "Split",
        "Flatten",
        "Tile",
    }
)
# fp16 ends at 65504. Pictures that are not among the samples get a factor of 16.
_LARGEST = 65504 / 16
_MOST = 65504
# Most that rounding to fp16 may change a weight tensor, relative to its RMS. Ordinary weights change by 2e-4.
_ROUNDING = 1e-3

_FLOAT, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16


def to_half(model: ir.Model, calls: Iterable[Arrays], *, keep_float: Collection[str] = ()) -> ir.Model:
    """The fp16 version of an fp32 graph; the original is left as it was.

    Args:
        model: From `trace`.
        calls: All inputs by name of each run on real-looking input, see `Network.calls`.
        keep_float: Graph inputs that no operation may round to fp16 before it has read them.

    Raises:
        ExportError: The graph has control flow, whose branches this pass does not enter.
        ParityError: A value that would be fp16 is beyond its range.
    """
    for node in model.graph:
        if any(
            attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
            for attribute in node.attributes.values()
        ):
            raise ExportError(f"cannot lower the precision of a graph with control flow ({node.op_type} {node.name!r})")
    ranges = activation_ranges(model, calls)
    lowered = _Lowering(model.clone(), ranges, keep_float).apply()
    check_ranges(lowered, ranges)
    return lowered


def check_ranges(lowered: ir.Model, ranges: Mapping[str, float]) -> None:
    """Refuse a graph in which a value that is fp16 was seen beyond the range of fp16.

    Args:
        lowered: The graph with its casts.
        ranges: From `activation_ranges` of the fp32 graph.

    Raises:
        ParityError: It names the value that is furthest outside.
    """
    reached = {
        str(value.name): ranges.get(_original(value), ranges.get(str(value.name).removesuffix("_half"), 0.0))
        for node in lowered.graph
        for value in node.outputs
        if value.dtype == _HALF
    }
    worst = max(reached, key=lambda name: reached[name], default="")
    if worst and reached[worst] > _MOST:
        raise ParityError(
            f"fp16: {worst} reaches {reached[worst]:.3g} on ordinary pictures, and fp16 ends at {_MOST}: "
            "the graph would give infinities on a GPU",
            hint="Export it at fp32 only, and please report the checkpoint's name.",
        )


def activation_ranges(model: ir.Model, calls: Iterable[Arrays]) -> dict[str, float]:
    """Largest absolute value of every floating input and computed tensor, over all calls; infinite for NaN."""
    probed = model.clone()
    names = []
    for node in list(probed.graph):
        for value in node.outputs:
            if value.dtype == _FLOAT and value.name:
                magnitude = ir.node("Abs", [value])
                largest = ir.node("ReduceMax", [magnitude.outputs[0]], attributes={"keepdims": 0})
                largest.outputs[0].name = f"range_of_{value.name}"
                probed.graph.extend([magnitude, largest])
                names.append(value.name)
                probed.graph.outputs.append(largest.outputs[0])
    for value in probed.graph.outputs[-len(names) :]:
        value.dtype, value.shape = _FLOAT, ir.Shape([])
    runtime = import_onnxruntime()
    settings = runtime.SessionOptions()
    settings.log_severity_level = 3
    ranges, given = np.zeros(len(names), np.float32), dict[str, float]()
    with tempfile.TemporaryDirectory() as folder:
        path = write_graph(probed, Path(folder) / "probed.onnx")[0]
        with mapped_errors("ONNX Runtime cannot load the graph to be lowered", GraphError):
            session = runtime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        for call in calls:
            with mapped_errors("ONNX Runtime cannot run the graph to be lowered", EngineRunError):
                found = np.array(session.run([f"range_of_{name}" for name in names], dict(call)), np.float32)
            ranges = np.maximum(ranges, np.where(np.isnan(found), np.inf, found))
            for name, array in call.items():
                if array.dtype.kind == "f":
                    given[name] = max(given.get(name, 0.0), float(np.abs(array).max()))
    return {**given, **dict(zip(names, ranges.tolist(), strict=True))}


class _Lowering:
    """One run of the pass over a graph that may be changed."""

    def __init__(self, model: ir.Model, ranges: Mapping[str, float], keep_float: Collection[str]) -> None:
        self.model = model
        self.ranges = ranges
        self.keep_float = keep_float
        self.casts: dict[tuple[str, ir.DataType], ir.Value] = {}

    def apply(self) -> ir.Model:
        graph = self.model.graph
        for node in list(graph):
            self._retype(node, _FLOAT if self._needs_single(node) else _HALF)
        for index, value in enumerate(list(graph.outputs)):
            if value.dtype == _HALF:
                graph.outputs[index] = self._output_in_single(value)
        passes.RemoveUnusedNodesPass()(self.model)
        return self.model

    def _needs_single(self, node: ir.Node) -> bool:
        floats = [value for value in node.inputs if value is not None and value.dtype in (_FLOAT, _HALF)]
        if node.op_type in _SINGLE_ONLY or any(_input_behind(value) in self.keep_float for value in floats):
            return True
        computed = [value for value in (*floats, *node.outputs) if not value.is_initializer()]
        if any(self.ranges.get(_original(value), 0.0) > _LARGEST for value in computed):
            return True
        if any(value.is_initializer() and not _survives(_constant(value)) for value in floats):
            return True
        return node.op_type in _MOVES and any(
            value.dtype == _FLOAT and value.producer() is not None for value in node.inputs[:1] if value is not None
        )

    def _retype(self, node: ir.Node, dtype: ir.DataType) -> None:
        """Make a node read and write this precision, with casts before it where its inputs have the other one."""
        if node.op_type in ("Constant", "ConstantOfShape", "Shape"):
            return  # constants stay fp32 and whoever reads them casts them; a shape has no precision
        if node.op_type == "Cast":
            if node.attributes["to"].as_int() == _FLOAT and dtype == _HALF:
                node.attributes["to"] = ir.AttrInt64("to", _HALF)
                node.outputs[0].type = ir.TensorType(_HALF)
            return
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype in (_FLOAT, _HALF) and value.dtype != dtype:
                node.replace_input_with(index, self._cast(value, dtype))
        for value in node.outputs:
            if value.dtype == _FLOAT:
                value.type = ir.TensorType(dtype)  # not value.dtype: clones share their type objects

    def _cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """The same value in another precision: a converted weight, or a Cast right behind its producer."""
        assert value.name is not None
        key = (value.name, dtype)
        if key not in self.casts:
            name = f"{value.name}_{'half' if dtype == _HALF else 'single'}"
            if value.is_initializer():
                converted = ir.Value(name=name, const_value=ir.tensor(_constant(value).astype(np.float16), name=name))
                converted.dtype, converted.shape = dtype, value.shape
                self.model.graph.register_initializer(converted)
                self.casts[key] = converted
            else:
                cast = self._cast_node(value, dtype, name)
                producer = value.producer()
                if producer is None:
                    self.model.graph.insert_before(self.model.graph[0], cast)
                else:
                    self.model.graph.insert_after(producer, cast)
                self.casts[key] = cast.outputs[0]
        return self.casts[key]

    def _output_in_single(self, value: ir.Value) -> ir.Value:
        """A graph output keeps its name and fp32; the fp16 value behind it gets another name."""
        name = value.name
        assert name is not None
        value.name = f"{name}_half"
        cast = self._cast_node(value, _FLOAT, name)
        self.model.graph.append(cast)
        return cast.outputs[0]

    @staticmethod
    def _cast_node(value: ir.Value, dtype: ir.DataType, name: str) -> ir.Node:
        cast = ir.node("Cast", [value], attributes={"to": dtype}, name=f"cast_{name}")
        cast.outputs[0].name, cast.outputs[0].dtype, cast.outputs[0].shape = name, dtype, value.shape
        return cast


def _input_behind(value: ir.Value | None) -> str | None:
    """The graph input that a value is, apart from moves; None for anything computed."""
    while value is not None and not value.is_graph_input():
        producer = value.producer()
        value = producer.inputs[0] if producer is not None and producer.op_type in _MOVES else None
    return None if value is None else value.name


def _original(value: ir.Value) -> str:
    """The name under which a value's range was measured, behind a cast that this pass has put in."""
    producer = value.producer()
    if producer is not None and producer.op_type == "Cast" and value.name not in (None, ""):
        source = producer.inputs[0]
        if source is not None and source.dtype in (_FLOAT, _HALF):
            return source.name or ""
    return value.name or ""


def _constant(value: ir.Value) -> Array:
    assert value.const_value is not None
    return value.const_value.numpy()


def _survives(weights: Array) -> bool:
    """Whether rounding to fp16 leaves a weight tensor as good as it was; overflow and underflow do not."""
    exact = weights.astype(np.float64)
    with np.errstate(over="ignore"):
        error = weights.astype(np.float16).astype(np.float64) - exact
    rms = float(np.sqrt(np.mean(exact**2)))
    return bool(np.sqrt(np.mean(error**2)) <= _ROUNDING * rms)
