"""The part of TensorRT's Python API that vsdk calls: what is the same from 10.3 to 11.x and in TensorRT for RTX.

These protocols are all that the type checker lets this package use, and `tests/runtimes/test_tensorrt_names.py` looks
every name of them up in the lists of names of each version.
"""

from __future__ import annotations

from typing import Any, Protocol

Dims = Any
"""A sequence of sizes; -1 is dynamic."""
HostMemory = Any
"""`IHostMemory`: read through the buffer protocol."""


class ParserError(Protocol):
    """What the parser has against a node."""

    def desc(self) -> str: ...  # noqa: D102
    def node_name(self) -> str: ...  # noqa: D102
    def node_operator(self) -> str: ...  # noqa: D102


class ITensor(Protocol):
    """A tensor of a network."""

    name: str
    shape: Dims
    dtype: Any


class ILayer(Protocol):
    """A layer of a network."""

    type: Any
    num_inputs: int

    def get_input(self, index: int) -> ITensor: ...  # noqa: D102


class INetworkDefinition(Protocol):
    """A parsed graph."""

    num_inputs: int
    num_outputs: int
    num_layers: int

    def get_input(self, index: int) -> ITensor: ...  # noqa: D102
    def get_output(self, index: int) -> ITensor: ...  # noqa: D102
    def get_layer(self, index: int) -> ILayer: ...  # noqa: D102


class IOptimizationProfile(Protocol):
    """Least, usual and largest shape of each dynamic input."""

    def set_shape(self, input: str, min: Dims, opt: Dims, max: Dims) -> None: ...  # noqa: A002, D102


class ITimingCache(Protocol):
    """What the builder measured before."""

    def serialize(self) -> HostMemory: ...  # noqa: D102


class IBuilderConfig(Protocol):
    """How to build."""

    profiling_verbosity: Any
    progress_monitor: Any

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int: ...  # noqa: D102
    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None: ...  # noqa: D102
    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None: ...  # noqa: D102
    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool: ...  # noqa: D102
    def get_timing_cache(self) -> ITimingCache: ...  # noqa: D102


class Builder(Protocol):
    """Makes networks and engines."""

    max_threads: int

    def create_network(self, flags: int) -> INetworkDefinition: ...  # noqa: D102
    def create_builder_config(self) -> IBuilderConfig: ...  # noqa: D102
    def create_optimization_profile(self) -> IOptimizationProfile: ...  # noqa: D102
    def build_serialized_network(  # noqa: D102
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> HostMemory | None: ...


class OnnxParser(Protocol):
    """Reads ONNX into a network."""

    num_errors: int
    num_subgraphs: int

    def parse(self, model: bytes, path: str) -> bool: ...  # noqa: D102
    def supports_model_v2(self, model: bytes, path: str) -> bool: ...  # noqa: D102
    def is_subgraph_supported(self, index: int) -> bool: ...  # noqa: D102
    def get_subgraph_nodes(self, index: int) -> list[int]: ...  # noqa: D102
    def get_error(self, index: int) -> ParserError: ...  # noqa: D102


class EngineInspector(Protocol):
    """Says what an engine is made of."""

    def get_engine_information(self, format: Any) -> str: ...  # noqa: A002, D102


class IExecutionContext(Protocol):
    """An engine with the memory that it needs to run."""

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool: ...  # noqa: D102
    def set_tensor_address(self, name: str, memory: int) -> bool: ...  # noqa: D102
    def infer_shapes(self) -> list[str]: ...  # noqa: D102
    def get_tensor_shape(self, name: str) -> Dims: ...  # noqa: D102
    def execute_async_v3(self, stream_handle: int) -> bool: ...  # noqa: D102


class ICudaEngine(Protocol):
    """An engine."""

    num_io_tensors: int

    def get_tensor_name(self, index: int) -> str: ...  # noqa: D102
    def get_tensor_mode(self, name: str) -> Any: ...  # noqa: D102
    def get_tensor_dtype(self, name: str) -> Any: ...  # noqa: D102
    def get_tensor_shape(self, name: str) -> Dims: ...  # noqa: D102
    def get_tensor_location(self, name: str) -> Any: ...  # noqa: D102
    def create_execution_context(self) -> IExecutionContext | None: ...  # noqa: D102
    def create_engine_inspector(self) -> EngineInspector: ...  # noqa: D102


class Runtime(Protocol):
    """Reads plans."""

    max_threads: int

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None: ...  # noqa: D102


class NetworkDefinitionCreationFlag(Protocol):
    """Flags of a network."""

    STRONGLY_TYPED: int


class MemoryPoolType(Protocol):
    """Memory that can be limited."""

    WORKSPACE: Any


class ProfilingVerbosity(Protocol):
    """How much an engine knows of its layers."""

    DETAILED: Any


class LayerInformationFormat(Protocol):
    """How the inspector answers."""

    JSON: Any


class DataType(Protocol):
    """Types of tensors."""

    FLOAT: Any
    HALF: Any
    INT8: Any
    INT32: Any
    INT64: Any
    UINT8: Any
    BOOL: Any


class TensorIOMode(Protocol):
    """Input or output."""

    INPUT: Any


class TensorLocation(Protocol):
    """Where a tensor must lie."""

    DEVICE: Any


class LayerType(Protocol):
    """Kinds of layers."""

    CONVOLUTION: Any
    DECONVOLUTION: Any
    MATRIX_MULTIPLY: Any
    EINSUM: Any
    QUANTIZE: Any


class ILogger(Protocol):
    """Base class of loggers, with the severities."""

    INTERNAL_ERROR: Any
    ERROR: Any
    WARNING: Any


class TensorRT(Protocol):
    """The module `tensorrt`, or `tensorrt_rtx`."""

    __name__: str
    __version__: str
    ILogger: ILogger
    IProgressMonitor: Any
    NetworkDefinitionCreationFlag: NetworkDefinitionCreationFlag
    MemoryPoolType: MemoryPoolType
    ProfilingVerbosity: ProfilingVerbosity
    LayerInformationFormat: LayerInformationFormat
    DataType: DataType
    TensorIOMode: TensorIOMode
    TensorLocation: TensorLocation
    LayerType: LayerType

    def Builder(self, logger: Any) -> Builder: ...  # noqa: D102
    def OnnxParser(self, network: INetworkDefinition, logger: Any) -> OnnxParser: ...  # noqa: D102
    def Runtime(self, logger: Any) -> Runtime: ...  # noqa: D102
