"""A convolution that cuts a picture into patches becomes a product of matrices.

Where the stride is the size of the kernel, every pixel is read once: the patches are rows of a matrix, the kernels
columns of another. In float that is as fast; in int8 it is a product like all others, while a convolution whose result
is not rounded to eight bits, too, would run in float.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .linear import add_initializer, constant, only_user
from .names import derived


def multiply_patches(model: ir.Model) -> int:
    """Replace convolutions whose result is laid out as tokens `[batch, patches, width]`; how many there were."""
    return sum(_replace(model.graph, node) for node in list(model.graph) if node.op_type == "Conv")


def _replace(graph: ir.Graph, convolution: ir.Node) -> bool:
    kernel, pixels = constant(convolution.inputs[1]), convolution.inputs[0]
    bias = constant(convolution.inputs[2]) if len(convolution.inputs) > 2 else None
    tokens = _tokens(convolution)
    if kernel is None or kernel.ndim != 4 or pixels is None or pixels.shape is None or tokens is None:
        return False
    sizes = pixels.shape[1:]
    if not _cuts_into_patches(convolution, kernel.shape) or not all(isinstance(size, int) for size in sizes):
        return False
    (channels, height, width), (rows, columns) = sizes, kernel.shape[2:]
    if height % rows or width % columns or channels != kernel.shape[1]:
        return False
    down, across = height // rows, width // columns
    name = convolution.inputs[1].name  # type: ignore[union-attr]  # it has content, so it is there
    cut = _value([pixels.shape[0], channels, down, rows, across, columns])
    gathered = _value([pixels.shape[0], down, across, channels, rows, columns])
    matrix = _value([pixels.shape[0], down * across, kernel[0].size])
    product = ir.Value(type=tokens.type, shape=tokens.shape)
    weight = add_initializer(graph, derived(convolution.inputs[1], "matrix"), kernel.reshape(len(kernel), -1).T)
    cut_shape = add_initializer(graph, f"{name}.cut", np.array([0, *cut.shape[1:]], np.int64))  # type: ignore[index]
    matrix_shape = add_initializer(graph, f"{name}.rows", np.array([0, *matrix.shape[1:]], np.int64))  # type: ignore[index]
    nodes = [
        ir.node("Reshape", [pixels, cut_shape], outputs=[cut]),
        ir.node("Transpose", [cut], {"perm": [0, 2, 4, 1, 3, 5]}, outputs=[gathered]),
        ir.node("Reshape", [gathered, matrix_shape], outputs=[matrix]),
        ir.node("MatMul", [matrix, weight], outputs=[product]),
    ]
    if bias is not None:
        biased = ir.Value(type=tokens.type, shape=tokens.shape)
        nodes.append(ir.node("Add", [product, convolution.inputs[2]], outputs=[biased]))
        product = biased
    graph.insert_before(convolution, nodes)
    if tokens.is_graph_output():
        product.name = tokens.name
    ir.convenience.replace_all_uses_with(tokens, product, replace_graph_outputs=True)
    return True


def _tokens(convolution: ir.Node) -> ir.Value | None:
    """The value that has the result as `[batch, patches, width]`, if nothing else is made of it."""
    reshape = only_user(convolution.outputs[0])
    shape = None if reshape is None or reshape.op_type != "Reshape" else reshape.outputs[0].shape
    if reshape is None or shape is None or len(shape) != 3:
        return None
    transpose = only_user(reshape.outputs[0])
    if transpose is None or transpose.op_type != "Transpose":
        return None
    kernels = convolution.inputs[1]
    width = None if kernels is None or kernels.shape is None else kernels.shape[0]
    if list(transpose.attributes["perm"].as_ints()) != [0, 2, 1] or shape[1] != width:
        return None
    return transpose.outputs[0]


def _cuts_into_patches(convolution: ir.Node, kernel: tuple[int, ...]) -> bool:
    attributes = convolution.attributes
    strides = attributes["strides"].as_ints() if "strides" in attributes else [1, 1]
    pads = attributes["pads"].as_ints() if "pads" in attributes else []
    dilations = attributes["dilations"].as_ints() if "dilations" in attributes else []
    return (
        tuple(strides) == tuple(kernel[2:])
        and not any(pads)
        and all(step == 1 for step in dilations)
        and attributes.get_int("group", 1) == 1
        and attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
    )


def _value(shape: list[int | ir.SymbolicDim]) -> ir.Value:
    return ir.Value(type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))
