"""A stand-in for the module `tensorrt`: the names that vsdk calls, on ONNX Runtime and the stand-in driver's memory.

What is real: the graphs, their results, every address and size, the order of calls. What is not: TensorRT, its parser
and builder (those of TensorRT for RTX are tried for real in `tests/export/test_tensorrt_rtx.py`), and the GPU. A plan
is the ONNX file with a line in front; it is refused when the line is of another version, as real plans are.
"""

from __future__ import annotations

import atexit
import ctypes
import enum
import functools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from vsdk_runtimes.tensorrt import cuda_driver

VERSION = "10.3.0"
_WORK = ctypes.CFUNCTYPE(None, ctypes.c_int)
_DTYPES = {
    "FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32, "INT64": np.int64, "UINT8": np.uint8,
    "BOOL": np.bool_,
}  # fmt: skip
_KINDS = {
    "Conv": "CONVOLUTION", "MatMul": "MATRIX_MULTIPLY", "Gemm": "MATRIX_MULTIPLY", "QuantizeLinear": "QUANTIZE",
}  # fmt: skip
_UNSUPPORTED = {"Unique": "UNSUPPORTED_NODE: there is no layer for it", "DFT": "UNSUPPORTED_NODE: no layer either"}


@functools.lru_cache(maxsize=1)
def compiled_driver() -> Path:
    """The stand-in for libcuda.so.1; skips the test where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("the stand-in for the CUDA driver needs a C compiler, and there is none")
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = Path(folder, "libcuda.so.1")
    source = Path(__file__).with_name("stand_in_driver.c")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-lpthread"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return library


class Driver:
    """What a test asks the stand-in driver."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        self._library.standin_inside.argtypes = [ctypes.c_uint64, ctypes.c_size_t]
        self._library.standin_queue.argtypes = [ctypes.c_void_p, _WORK, ctypes.c_int]
        self._jobs: list[Any] = []
        self._call = _WORK(lambda number: self._jobs[number]())

    def inside(self, address: int, size: int) -> bool:
        return bool(self._library.standin_inside(address, size))

    def queue(self, stream: int, job: Any) -> bool:
        self._jobs.append(job)
        return bool(self._library.standin_queue(stream, self._call, len(self._jobs) - 1) == 0)

    def capturing(self) -> bool:
        return bool(self._library.standin_capturing())

    def set_devices(self, count: int) -> None:
        self._library.standin_devices(count)

    def counts(self) -> dict[str, int]:
        found = (ctypes.c_long * 8)()
        self._library.standin_count(found)
        names = ("blocks", "bytes", "streams", "graphs", "launches", "uploads", "downloads", "contexts")
        return dict(zip(names, found, strict=True))


@dataclass(frozen=True)
class StandIn:
    """A machine with a GPU and TensorRT, both stand-ins."""

    trt: Any
    driver: Driver


def install(patch: pytest.MonkeyPatch, version: str = VERSION) -> StandIn:
    """Make vsdk find the stand-ins, until the patch is undone."""
    driver = Driver(compiled_driver())
    driver.set_devices(1)
    trt = module(driver, version)
    patch.setattr(cuda_driver, "LIBRARY", str(driver.path))
    patch.setitem(sys.modules, "tensorrt", trt)
    return StandIn(trt, driver)


def module(driver: Driver, version: str = VERSION) -> Any:
    """A module to be put into `sys.modules`."""
    trt: Any = ModuleType("tensorrt")
    trt.__version__ = version
    for name, members in {
        "NetworkDefinitionCreationFlag": ["EXPLICIT_BATCH", "STRONGLY_TYPED"],
        "MemoryPoolType": ["WORKSPACE"],
        "ProfilingVerbosity": ["LAYER_NAMES_ONLY", "DETAILED"],
        "LayerInformationFormat": ["ONELINE", "JSON"],
        "DataType": list(_DTYPES),
        "TensorIOMode": ["NONE", "INPUT", "OUTPUT"],
        "TensorLocation": ["DEVICE", "HOST"],
        "LayerType": ["CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM", "QUANTIZE", "OTHER"],
    }.items():
        setattr(trt, name, enum.IntEnum(name, members, start=0))
    trt.ILogger = type("ILogger", (), {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2})
    trt.IProgressMonitor = type("IProgressMonitor", (), {})
    trt.Builder = lambda logger: _Builder(trt, logger)
    trt.OnnxParser = lambda network, logger: _Parser(trt, network, logger)
    trt.Runtime = lambda logger: _Runtime(trt, logger, driver)
    trt.forgotten_precision = False  # builds everything in fp32 without a word, as the worst bug in the field does
    trt.unseen_layers = False  # layers of which the inspector knows only the name
    trt.refuses_capture = False
    trt.built = []  # workspace and profile of every engine
    return trt


class _Tensor:
    def __init__(self, trt: Any, described: Any) -> None:
        self.name = described.name
        kind = described.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        self.dtype = getattr(trt.DataType, next(name for name, known in _DTYPES.items() if np.dtype(known) == dtype))
        self.axes = tuple(size.dim_param or size.dim_value for size in kind.shape.dim)
        self.shape = tuple(size if isinstance(size, int) else -1 for size in self.axes)


class _Network:
    def __init__(self, flags: int) -> None:
        assert flags == 2, "networks are strongly typed"
        self.inputs: list[_Tensor] = []
        self.outputs: list[_Tensor] = []
        self.layers: list[Any] = []
        self.content = b""

    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))
    num_layers = property(lambda self: len(self.layers))

    def get_input(self, index: int) -> _Tensor:
        return self.inputs[index]

    def get_output(self, index: int) -> _Tensor:
        return self.outputs[index]

    def get_layer(self, index: int) -> Any:
        return self.layers[index]


class _Layer:
    num_inputs = 1

    def __init__(self, kind: Any, tensor: Any) -> None:
        self.type = kind
        self._tensor = tensor

    def get_input(self, index: int) -> Any:
        return self._tensor


class _ParserError:
    def __init__(self, node: Any) -> None:
        self._node = node

    def desc(self) -> str:
        return _UNSUPPORTED[self._node.op_type]

    def node_name(self) -> str:
        return str(self._node.name)

    def node_operator(self) -> str:
        return str(self._node.op_type)


class _Parser:
    def __init__(self, trt: Any, network: _Network, logger: Any) -> None:
        self._trt, self._network, self._logger = trt, network, logger
        self._errors: list[_ParserError] = []

    num_errors = property(lambda self: len(self._errors))
    num_subgraphs = 1

    def is_subgraph_supported(self, index: int) -> bool:
        return not self._errors

    def get_subgraph_nodes(self, index: int) -> list[int]:
        return [0]

    def get_error(self, index: int) -> _ParserError:
        return self._errors[index]

    def supports_model_v2(self, content: bytes, path: str) -> bool:
        graph = self._read(content)
        if graph is None:
            return False
        self._errors = [_ParserError(node) for node in graph.node if node.op_type in _UNSUPPORTED]
        return not self._errors

    def parse(self, content: bytes, path: str) -> bool:
        assert Path(path).is_file()
        graph = self._read(content)
        if graph is None or not self.supports_model_v2(content, path):
            return False
        network, trt = self._network, self._trt
        network.content = content
        network.inputs = [_Tensor(trt, item) for item in graph.input]
        network.outputs = [_Tensor(trt, item) for item in graph.output]
        types = {item.name: item.type.tensor_type.elem_type for item in (*graph.value_info, *graph.input)}
        types |= {item.name: item.data_type for item in graph.initializer}
        for node in graph.node:
            half = types.get(node.input[0]) == onnx.TensorProto.FLOAT16
            tensor = type("Tensor", (), {"dtype": trt.DataType.HALF if half else trt.DataType.FLOAT})
            network.layers.append(_Layer(trt.LayerType[_KINDS.get(node.op_type, "OTHER")], tensor))
        return True

    def _read(self, content: bytes) -> Any:
        try:
            model = onnx.load_model_from_string(content)
            onnx.checker.check_model(model)
            return onnx.shape_inference.infer_shapes(model).graph
        except Exception as error:
            self._logger.log(self._trt.ILogger.ERROR, f"cannot parse: {str(error).splitlines()[0]}")
            return None


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, name: str, least: Any, usual: Any, largest: Any) -> None:
        self.shapes[name] = [list(least), list(usual), list(largest)]


class _Config:
    def __init__(self) -> None:
        self.profile = _Profile()
        self.workspace = 0
        self.profiling_verbosity: Any = 0
        self.progress_monitor: Any = None
        self.cache: Any = None

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self.workspace = size

    def add_optimization_profile(self, profile: _Profile) -> int:
        self.profile = profile
        return 0

    def create_timing_cache(self, content: bytes) -> Any:
        return type("Cache", (), {"content": content, "serialize": lambda cache: cache.content + b"measured;"})()

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self.cache


class _Builder:
    def __init__(self, trt: Any, logger: Any) -> None:
        self._trt, self._logger = trt, logger
        self.max_threads = 0

    def create_network(self, flags: int) -> _Network:
        return _Network(flags)

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        trt = self._trt
        for tensor in network.inputs:
            if -1 in tensor.shape and tensor.name not in config.profile.shapes:
                self._logger.log(trt.ILogger.ERROR, f"{tensor.name}: dynamic, without a profile")
                return None
        monitor = config.progress_monitor
        monitor.phase_start("Building engine", None, 2)
        for step in range(2):
            monitor.phase_start("Timing tactics", "Building engine", 3)
            for inner in range(3):
                if not monitor.step_complete("Timing tactics", inner):
                    return None
            monitor.phase_finish("Timing tactics")
            monitor.step_complete("Building engine", step)
        monitor.phase_finish("Building engine")
        if config.workspace < 2**20:
            self._logger.log(trt.ILogger.ERROR, "no tactic fits into the workspace")
            return None
        trt.built.append({"workspace": config.workspace, "profile": config.profile.shapes, "threads": self.max_threads})
        line = {
            "version": trt.__version__,
            "profile": config.profile.shapes,
            "types": sorted({layer.get_input(0).dtype.name for layer in network.layers}),
            "int8": any(layer.type == trt.LayerType.QUANTIZE for layer in network.layers),
            "detailed": config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED,
        }
        return json.dumps(line).encode() + b"\n" + network.content


class _Runtime:
    def __init__(self, trt: Any, logger: Any, driver: Driver) -> None:
        self._trt, self._logger, self._driver = trt, logger, driver
        self.max_threads = 0

    def deserialize_cuda_engine(self, content: bytes) -> _Engine | None:
        line, _, graph = content.partition(b"\n")
        facts = json.loads(line)
        if facts["version"] != self._trt.__version__:
            self._logger.log(self._trt.ILogger.ERROR, "the plan is of another version")
            return None
        return _Engine(self._trt, self._logger, self._driver, facts, graph)


class _Engine:
    def __init__(self, trt: Any, logger: Any, driver: Driver, facts: Any, content: bytes) -> None:
        self.trt, self.logger, self.driver, self.facts, self.content = trt, logger, driver, facts, content
        graph = onnx.load_model_from_string(content).graph
        self.inputs = {item.name: _Tensor(trt, item) for item in graph.input}
        self.outputs = {item.name: _Tensor(trt, item) for item in graph.output}
        self._all = {**self.inputs, **self.outputs}

    num_io_tensors = property(lambda self: len(self._all))

    def get_tensor_name(self, index: int) -> str:
        return str(list(self._all)[index])

    def get_tensor_mode(self, name: str) -> Any:
        return self.trt.TensorIOMode.INPUT if name in self.inputs else self.trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return self._all[name].dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._all[name].shape

    def get_tensor_location(self, name: str) -> Any:
        return self.trt.TensorLocation.DEVICE

    def create_execution_context(self) -> _Context:
        return _Context(self)

    def create_engine_inspector(self) -> Any:
        return type("Inspector", (), {"get_engine_information": lambda inspector, kind: self._information()})()

    def _information(self) -> str:
        names = {"FLOAT": "Float", "HALF": "Half", "INT8": "Int8"}
        types = ["FLOAT"] if self.trt.forgotten_precision else [*self.facts["types"], *["INT8"] * self.facts["int8"]]
        layers: list[Any] = [
            {"Name": f"layer {number}", "LayerType": "gemm",
             "Inputs": [{"Name": "x", "Dimensions": [1], "Format/Datatype": names.get(name, name)}], "Outputs": []}
            for number, name in enumerate(types)
        ]  # fmt: skip
        if self.trt.unseen_layers or not self.facts["detailed"]:
            layers = [layer["Name"] for layer in layers]
        return json.dumps({"Layers": layers, "Bindings": list(self._all)})


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        settings.log_severity_level = 4
        # As vsdk's session for ONNX Runtime sets it, so that results are the same to the bit.
        settings.add_session_config_entry("optimization.disable_specified_optimizers", "SkipLayerNormFusion")
        self._session = onnxruntime.InferenceSession(engine.content, settings, providers=["CPUExecutionProvider"])
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, largest = self._engine.facts["profile"].get(name) or [self._engine.inputs[name].shape] * 3
        self._shapes[name] = shape
        return all(low <= size <= high for low, size, high in zip(least, shape, largest, strict=True))

    def infer_shapes(self) -> list[str]:
        return [name for name in self._engine.inputs if name not in self._shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        sizes = {
            axis: size
            for tensor in self._engine.inputs.values()
            for axis, size in zip(tensor.axes, self._shapes[tensor.name], strict=True)
        }
        tensor = self._engine.outputs.get(name) or self._engine.inputs[name]
        return tuple(axis if isinstance(axis, int) else sizes.get(axis, -1) for axis in tensor.axes)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return address % 256 == 0

    def execute_async_v3(self, stream: int) -> bool:
        engine = self._engine
        tensors = {**engine.inputs, **engine.outputs}
        arrays = {}
        for name, tensor in tensors.items():
            shape, dtype = self.get_tensor_shape(name), np.dtype(_DTYPES[tensor.dtype.name])
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            address = self._addresses[name]
            if not engine.driver.inside(address, size):
                engine.logger.log(engine.trt.ILogger.ERROR, f"{name}: an illegal address")
                return False
            memory: Any = (ctypes.c_char * size).from_address(address)
            arrays[name] = np.frombuffer(memory, dtype).reshape(shape)
        if engine.trt.refuses_capture and engine.driver.capturing():
            engine.logger.log(engine.trt.ILogger.ERROR, "this layer cannot be captured")
            return False
        return engine.driver.queue(stream, lambda: self._compute(arrays))

    def _compute(self, arrays: Mapping[str, Any]) -> None:
        names = list(self._engine.outputs)
        given = {name: np.array(arrays[name]) for name in self._engine.inputs}
        for name, result in zip(names, self._session.run(names, given), strict=True):
            arrays[name][...] = result
