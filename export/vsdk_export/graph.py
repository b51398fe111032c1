"""From a PyTorch module to one ONNX graph: traced, optimised, stripped of everything that is not computation.

The graph is held as an `onnx_ir.Model`, which has no 2 GB limit, until `write_graph` puts it on disk.
"""

from __future__ import annotations

import hashlib
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
import torch
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops.nn import aten_gelu, aten_scaled_dot_product_attention

from vsdk_runtimes import Precision
from vsdk_runtimes.errors import ExportError
from vsdk_runtimes.manifest import ComponentSpec, TensorSpec

from .network import Network
from .rewriting import rewrite

# ONNX Runtime has no CUDA kernels for some operators of opset 19 and later, and static quantisation refuses 21.
OPSET = 18
# The oldest runtime supported (ONNX Runtime 1.17) refuses files of a newer IR version.
IR_VERSION = 10
# Protocol buffers end at 2 GiB; a graph whose weights come near that keeps them in a file of their own.
SINGLE_FILE_LIMIT = 1_900_000_000
TRACED_BATCH = 2
_TYPES = {
    ir.DataType.FLOAT: "float32", ir.DataType.FLOAT16: "float16", ir.DataType.INT64: "int64",
    ir.DataType.INT32: "int32", ir.DataType.BOOL: "bool",
}  # fmt: skip


def trace(network: Network) -> ir.Model:
    """The fp32 graph of a network: opset 18, named inputs and outputs, no dynamic axis but `batch` and stated ones.

    A recurrent network has no dynamic axis at all.

    Raises:
        ExportError: PyTorch cannot export the module, or the result is not what a bundle may hold.
    """
    examples, dynamic = _examples(network)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                network.module.eval(),
                tuple(examples.values()),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(examples),
                output_names=list(network.outputs),
                dynamic_shapes=dynamic,
                custom_translation_table={
                    torch.ops.aten.scaled_dot_product_attention.default: _attention,
                    torch.ops.aten.gelu.default: _gelu,
                },
                verbose=False,
            )
    except Exception as error:  # the exporter raises whatever its many stages raise
        cause = str(error).strip().splitlines()
        raise ExportError(
            f"PyTorch cannot export component {network.name!r} ({network.family}): "
            f"{cause[0] if cause else type(error).__name__}",
            hint="A limit of torch.onnx.export, or a fault in vsdk: please report it with the checkpoint's name.",
        ) from error
    assert program is not None
    model = program.model
    rewrite(model)
    _clean(model)
    _check_interface(network, model)
    return model


def _examples(network: Network) -> tuple[dict[str, torch.Tensor], Any]:
    """Inputs to trace with, and which of their axes are dynamic, as the exporter takes it."""
    if network.recurrence is not None:
        return {name: torch.from_numpy(np.array(array)) for name, array in next(iter(network.calls())).items()}, None
    samples = {name: torch.from_numpy(array) for name, array in network.batch(0, TRACED_BATCH).items()}
    axes = {name: torch.export.Dim(name) for name in ("batch", *network.dynamic.values())}
    dynamic = tuple(
        {
            **({} if name in network.shared else {0: axes["batch"]}),
            **({1: axes[network.dynamic[name]]} if name in network.dynamic else {}),
        }
        for name in samples
    )
    return samples, dynamic


def tensor_specs(values: Sequence[ir.Value]) -> dict[str, TensorSpec]:
    """The manifest's description of graph inputs or outputs."""
    specs = {}
    for value in values:
        assert value.name is not None
        assert value.shape is not None
        assert value.dtype is not None
        shape = tuple(axis if isinstance(axis, int) else str(axis.value) for axis in value.shape)
        specs[value.name] = TensorSpec.model_validate({"dtype": _TYPES[value.dtype], "shape": shape})
    return specs


def component_spec(network: Network, graph: ir.Model, files: Mapping[Precision, str]) -> ComponentSpec:
    """What the manifest says of a network, apart from its further files and what was measured."""
    return ComponentSpec(
        role=network.role,
        family=network.family,
        source=network.origin,
        files=dict(files),
        inputs=tensor_specs(graph.graph.inputs),
        outputs=tensor_specs(graph.graph.outputs),
        frames_per_call=network.frames_per_call,
        look_ahead=network.look_ahead,
        layer=network.layer,
        preprocessing=network.preprocessing,
        text=network.text,
        memory=network.recurrence.memory if network.recurrence else None,
        tracker=network.tracker,
    )


def weight_names(module: torch.nn.Module, model: ir.Model) -> dict[str, str]:
    """What the module calls the weights of a node, by the node's name, where they are found again by their values.

    The exporter keeps the names of weights that it does not touch; most matrices it transposes and names `val_77`.
    """
    names: dict[tuple[tuple[int, ...], bytes], str] = {}
    for name, parameter in module.named_parameters():
        values = parameter.detach().float().cpu().numpy()
        for array in (values, values.T) if values.ndim == 2 else (values,):
            names[(array.shape, _fingerprint(array))] = name.removesuffix(".weight")
    found = {}
    for node in model.graph:
        for value in node.inputs[:2]:
            if value is not None and value.is_initializer() and value.const_value is not None:
                array = value.const_value.numpy()
                if array.ndim >= 2 and array.dtype == np.float32:
                    key = (array.shape, _fingerprint(array))
                    found[str(node.name)] = names.get(key, str(value.name).removesuffix(".weight"))
    return found


def _fingerprint(array: np.ndarray[Any, Any]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()


def write_graph(model: ir.Model, path: Path, *, single_file_limit: int = SINGLE_FILE_LIMIT) -> list[Path]:
    """Write a graph; weights beyond the limit go to one file beside it (ONNX external data).

    The bytes depend on nothing but the graph.

    Returns:
        The files written, the graph first.

    Raises:
        ExportError: The graph is not valid ONNX.
    """
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    path.parent.mkdir(parents=True, exist_ok=True)
    if weights > single_file_limit:
        data = path.with_name(path.name + ".data")
        ir.save(model, path, external_data=data.name)
        files = [path, data]
    else:
        path.write_bytes(ir.to_proto(model).SerializeToString(deterministic=True))
        files = [path]
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # ONNX's own errors derive from Exception
        raise ExportError(f"the exported graph is not valid ONNX: {str(error).strip().splitlines()[0]}") from error
    return files


def _attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    """Scaled dot product attention as five operators, or six where something is added to the scores.

    The exporter's own translation transposes the key through a chain of Shape, Slice, Concat and Reshape and scales
    query and key apart: ten operators more for every block, which no engine recognises as attention.
    """
    additive = attn_mask is None or attn_mask.dtype == ir.DataType.FLOAT
    if not additive or is_causal or enable_gqa or len(query.shape) != 4:
        return aten_scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = op.Mul(op.MatMul(query, op.Transpose(key, perm=[0, 1, 3, 2])), op.Constant(value_float=factor))
    if attn_mask is not None:
        scores = op.Add(scores, attn_mask)
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def _gelu(value: Any, approximate: str = "none") -> Any:
    """GELU with its operators in the order in which ONNX Runtime makes one of them.

    The exporter's own translation halves the error function first, which it does not recognise.
    """
    if approximate != "none":
        return aten_gelu(value, approximate)
    doubled = op.Add(op.Erf(op.Div(value, op.Constant(value_float=math.sqrt(2)))), op.Constant(value_float=1.0))
    return op.Mul(op.Mul(value, doubled), op.Constant(value_float=0.5))


def _clean(model: ir.Model) -> None:
    """Drop stack traces, module paths and other metadata: they hold paths of this machine and double the file.

    Values are named after their nodes; the exporter's names come from Python variables and may repeat an output's.
    """
    for single in (
        passes.CommonSubexpressionEliminationPass(),
        passes.DeduplicateInitializersPass(),
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.ClearMetadataAndDocStringPass(),
    ):
        single(model)
    model.graph.name = "main"
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for number, node in enumerate(model.graph):
        node.name = f"{node.op_type}_{number}"
        for index, value in enumerate(node.outputs):
            value.metadata_props.clear()
            if not value.is_graph_output():
                value.name = node.name if len(node.outputs) == 1 else f"{node.name}_{index}"


def _check_interface(network: Network, model: ir.Model) -> None:
    """What a bundle asks of a graph; a breach is a fault of the export, not of the user."""
    problem = None
    if model.ir_version > IR_VERSION:
        problem = f"IR version {model.ir_version} is above {IR_VERSION}"
    elif model.functions or any(node.domain not in ("", "ai.onnx") for node in model.graph):
        problem = "it uses operators outside the ONNX standard"
    elif [value.name for value in model.graph.inputs] != list(network.input_names):
        problem = f"its inputs are {[value.name for value in model.graph.inputs]}, not {list(network.input_names)}"
    else:
        for name, spec in {**tensor_specs(model.graph.inputs), **tensor_specs(model.graph.outputs)}.items():
            dynamic = [axis for axis in spec.shape if isinstance(axis, str)]
            if network.recurrence is not None and dynamic:
                problem = f"tensor {name!r} has the shape {list(spec.shape)}; a recurrent network's sizes are fixed"
            elif network.recurrence is None and dynamic != _dynamic_axes(network, name):
                problem = f"tensor {name!r} has the shape {list(spec.shape)}; only the first axis may be dynamic"
    if problem:
        raise ExportError(f"the exported graph of component {network.name!r} cannot go into a bundle: {problem}")


def _dynamic_axes(network: Network, name: str) -> list[str]:
    """Names of the axes of a tensor that may be dynamic, in order."""
    first = [] if name in network.shared else ["batch"]
    return first + ([network.dynamic[name]] if name in network.dynamic else [])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's chatter (missing torchvision, its own deprecations) out of the user's terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
