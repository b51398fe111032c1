"""From an ONNX graph to a strongly typed network, and what stands against it.

The graph is read once: the bytes that are hashed are the bytes that are parsed, so that a file edited after the bundle
was verified is refused.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import BundleDamagedError, GraphError, PrecisionUnavailableError
from ..external_data import external_files
from .api import Builder, INetworkDefinition, ITensor, OnnxParser, TensorRT
from .messages import describe, last_words, mapped_errors

if TYPE_CHECKING:
    from ..bundle import Component
    from ..engine import Precision
    from ..manifest import TensorSpec

TYPES = {
    "float32": "FLOAT", "float16": "HALF", "int64": "INT64", "int32": "INT32", "int8": "INT8", "uint8": "UINT8",
    "bool": "BOOL",
}  # fmt: skip


def graph_digest(component: Component, listed: str) -> str:
    """SHA-256 of a graph with its external weights, from the manifest's digests."""
    files = component.bundle.manifest.files
    digests = [files[name].sha256 for name in (listed, *external_files(component, listed))]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def read_graph(component: Component, listed: str) -> bytes:
    """The ONNX file, if it is still the one that the manifest lists.

    Raises:
        BundleDamagedError: It was edited since.
        GraphError: It cannot be read, or refers to files which the manifest does not list.
    """
    external_files(component, listed)
    path = component.path(listed)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != component.bundle.manifest.files[listed].sha256:
        raise BundleDamagedError(
            f"{path} is not the graph that the manifest lists: its SHA-256 differs",
            hint="It was edited after it was verified: export or copy the bundle again.",
        )
    return content


def create_network(trt: TensorRT, builder: Builder) -> INetworkDefinition:
    """An empty network whose types are those of the graph."""
    return builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))


def unsupported_nodes(trt: TensorRT, content: bytes, path: str, logger: Any) -> list[str]:
    """What the parser does not take, each with its reason; empty if it takes everything.

    Args:
        trt: The module.
        content: The ONNX file.
        path: Where it lies; external weights are looked for beside it.
        logger: From `make_logger`.
    """
    with mapped_errors(f"{trt.__name__} {trt.__version__} cannot check {path}", GraphError, logger):
        builder: Builder = trt.Builder(logger)
        network: INetworkDefinition = create_network(trt, builder)
        parser: OnnxParser = trt.OnnxParser(network, logger)
        if parser.supports_model_v2(content, path):
            return []
        reasons = [describe(parser.get_error(index)) for index in range(parser.num_errors)]
    if not reasons:
        refused = [index for index in range(parser.num_subgraphs) if not parser.is_subgraph_supported(index)]
        reasons = [f"nodes {parser.get_subgraph_nodes(index)}" for index in refused]
    return list(dict.fromkeys(reasons)) or [last_words(logger.errors)]


def parse(
    trt: TensorRT, builder: Builder, component: Component, precision: Precision, content: bytes, logger: Any
) -> tuple[INetworkDefinition, OnnxParser]:
    """A component's network; the parser owns its weights and must live as long.

    Raises:
        GraphError: The parser refuses the graph, or the graph contradicts the manifest.
        PrecisionUnavailableError: Its types are not those of the precision.
    """
    path = component.path(component.spec.files[precision])
    network: INetworkDefinition = create_network(trt, builder)
    parser: OnnxParser = trt.OnnxParser(network, logger)
    if not parser.parse(content, str(path)):
        reasons = [describe(parser.get_error(index)) for index in range(parser.num_errors)]
        raise GraphError(
            f"the parser of {trt.__name__} {trt.__version__} refuses {path}: {last_words(reasons or logger.errors)}",
            hint="Export the bundle again; docs/benchmarks.md says which graphs are known to build.",
        )
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    _compare(trt, str(path), "input", component.spec.inputs, inputs)
    _compare(trt, str(path), "output", component.spec.outputs, outputs)
    _check_precision(str(path), precision, computed_types(trt, network))
    return network, parser


def computed_types(trt: TensorRT, network: INetworkDefinition) -> dict[str, int]:
    """How many convolutions and matrix products compute in fp32 and in fp16, and how many tensors become int8."""
    kinds = trt.LayerType
    products = (kinds.CONVOLUTION, kinds.DECONVOLUTION, kinds.MATRIX_MULTIPLY, kinds.EINSUM)
    names = {trt.DataType.FLOAT: "fp32", trt.DataType.HALF: "fp16"}
    counts: Counter[str] = Counter()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == kinds.QUANTIZE:
            counts["int8"] += 1
        elif layer.type in products and layer.num_inputs:
            first = layer.get_input(0)
            counts[names.get(first.dtype, "other")] += 1
    return dict(sorted(counts.items()))


def _check_precision(path: str, precision: Precision, counts: Mapping[str, int]) -> None:
    """A graph that is called fp16 or int8 and computes nothing in it would be built without a word."""
    if precision == "fp32" or not counts or counts.get(precision):
        return
    raise PrecisionUnavailableError(
        f"{path} is listed as {precision}, but none of its {sum(counts.values())} convolutions and matrix products is",
        hint=f"Export it again: vsdk export CHECKPOINT --precision {precision}",
    )


def _compare(trt: TensorRT, path: str, what: str, stated: Mapping[str, TensorSpec], found: list[ITensor]) -> None:
    """The network must have exactly the tensors of the manifest; a size that it leaves open may be fixed there."""
    names = {getattr(trt.DataType, name): dtype for dtype, name in TYPES.items()}
    graph = {item.name: item for item in found}
    if set(graph) != set(stated):
        raise GraphError(
            f"{path}: the graph's {what}s are {sorted(graph)}, the manifest says {sorted(stated)}",
            hint="Export the bundle again.",
        )
    for name, spec in stated.items():
        shape = [int(size) for size in graph[name].shape]
        dtype = names.get(graph[name].dtype, str(graph[name].dtype))
        agree = len(shape) == len(spec.shape) and all(
            real in (-1, want) for real, want in zip(shape, spec.shape, strict=True)
        )
        if dtype != spec.dtype or not agree:
            raise GraphError(
                f"{path}: {what} {name!r} is {dtype} {shape} in the graph, but {spec.dtype} {list(spec.shape)} in the "
                "manifest",
                hint="Export the bundle again.",
            )
