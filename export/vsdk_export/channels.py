"""Which weights have a scale for each output channel in int8, and which one for all of them.

A kernel multiplies the scales in after the sum, so only what is not summed over can have scales of its own: the columns
of a matrix on the right of a MatMul or Gemm, the filters of a Conv. ONNX Runtime's quantiser always takes axis 1 of a
MatMul's weights. In a stack of matrices, and in a matrix on the left, that axis is summed over, and ONNX Runtime runs
the node in float or refuses it ("b zero point is not valid"). A vector of scales for each matrix of a stack is nothing
that DequantizeLinear could say.
"""

from __future__ import annotations

import onnx_ir as ir

from vsdk_runtimes.errors import ExportError

QUANTISED = ("MatMul", "Gemm", "Conv")


def channel_axis(node: ir.Node, index: int, rank: int) -> int | None:
    """The axis of a node's weights along which each output channel may have a scale; None if there is none.

    Args:
        node: A MatMul, a Gemm or a Conv.
        index: Which input the weights are.
        rank: Of the weights.
    """
    if index != 1:
        return None
    if node.op_type == "Conv":
        return 0
    if rank != 2:
        return None
    transposed = node.op_type == "Gemm" and "transB" in node.attributes and node.attributes["transB"].as_int() == 1
    return 0 if transposed else 1


def without_channels(model: ir.Model) -> list[str]:
    """Names of the weights that get one scale for all: their readers have no axis for more, or not the same one."""
    axes: dict[str, set[int | None]] = {}
    for node in model.graph:
        for index, value in enumerate(node.inputs[:2] if node.op_type in QUANTISED else ()):
            if value is not None and value.is_initializer() and value.shape is not None:
                axes.setdefault(str(value.name), set()).add(channel_axis(node, index, len(value.shape)))
    return [name for name, found in axes.items() if None in found or len(found) > 1]


def check_channels(node: ir.Node) -> None:
    """Hold the scales of a node's int8 weights against the axis that its kernel multiplies them in along.

    Args:
        node: A MatMul, a Gemm or a Conv.

    Raises:
        ExportError: There is a scale for each element of an axis that is summed over.
    """
    for index, value in enumerate(node.inputs[:2]):
        dequantise = None if value is None else value.producer()
        if dequantise is None or dequantise.op_type != "DequantizeLinear":
            continue
        weights, scale = dequantise.inputs[0], dequantise.inputs[1]
        if weights is None or not weights.is_initializer() or weights.shape is None:
            continue
        if scale is None or scale.const_value is None or len(scale.const_value.shape) == 0:
            continue
        rank = len(weights.shape)
        axis = dequantise.attributes["axis"].as_int() if "axis" in dequantise.attributes else 1
        if axis % rank != channel_axis(node, index, rank):
            raise ExportError(
                f"int8: the weights of {node.op_type} {node.name!r} have a scale for each element of axis {axis}, "
                "which no kernel can multiply in after the sum"
            )
