"""The ONNX Runtime engine, on the CPU or on CUDA.

ONNX Runtime falls back to the CPU with no more than a printed line when a provider is missing, so the providers that a
session really got are compared with the one asked for. Its exceptions derive from plain `Exception`; all are mapped.

Everything runs with I/O binding into memory whose shape the manifest states: results land in arrays of the caller,
device outputs and states in buffers that stay, and a graph that computes another shape than it promised is an error.
`onnxruntime_graphs` says when runs on a GPU are recorded and replayed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from . import onnxruntime_cuda, onnxruntime_graphs
from .engine import Array, Axes, DeviceTensor, Precision, Session, SessionInfo, State, Tensor
from .errors import ClosedError, EngineRunError, EngineUnavailableError, Error, GraphError, InputError
from .onnxruntime_graphs import Recordings

if TYPE_CHECKING:
    from .bundle import Component
    from .manifest import TensorSpec

NAME = "onnxruntime"
_INSTALL = {"cpu": "pip install 'vsdk[cpu]'", "cuda": "pip install 'vsdk[gpu]'"}
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_LOG_FATAL = 4
_TYPE_NAMES = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64", "tensor(int32)": "int32",
    "tensor(int8)": "int8", "tensor(uint8)": "uint8", "tensor(bool)": "bool",
}  # fmt: skip


def import_onnxruntime(device_kind: str = "cpu") -> Any:
    """The `onnxruntime` module.

    Raises:
        EngineUnavailableError: Not installed, or its native library does not load.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineUnavailableError(
            f"ONNX Runtime cannot be imported: {error}",
            hint=f"Install it: {_INSTALL.get(device_kind, _INSTALL['cpu'])}",
        ) from error
    return onnxruntime


@contextmanager
def mapped_errors(doing: str, kind: type[Error]) -> Iterator[None]:
    """Turn whatever ONNX Runtime raises into `kind`; its own classes derive from `Exception` directly."""
    try:
        yield
    except Error:
        raise
    except Exception as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise kind(f"{doing}: {first_line}") from error


class OnnxRuntimeTensor(DeviceTensor):
    """Memory that is allocated once, where ONNX Runtime runs.

    On the CPU NumPy owns it, because every version of ONNX Runtime computes into NumPy's memory without a copy.

    Args:
        value: The OrtValue.
        array: The NumPy array that owns the memory of `value`; None on a GPU.
        device: DLPack device type and index.
    """

    def __init__(self, value: Any, array: Array | None, device: tuple[int, int]) -> None:
        self.value = value
        self._array = array
        self._device = device

    @property
    def shape(self) -> tuple[int, ...]:
        """See `DeviceTensor.shape`."""
        return tuple(self.value.shape())

    @property
    def dtype(self) -> np.dtype[Any]:
        """See `DeviceTensor.dtype`."""
        return np.dtype(_TYPE_NAMES[self.value.data_type()])

    def numpy(self) -> Array:
        """See `DeviceTensor.numpy`."""
        return self.value.numpy() if self._array is None else self._array.copy()

    def overwrite(self, array: Array) -> None:
        """Copy an array of the same shape and dtype into this memory."""
        if self._array is None:
            self.value.update_inplace(array)
        else:
            np.copyto(self._array, array)

    def __dlpack__(self, **options: Any) -> Any:
        return (self.value._get_c_value() if self._array is None else self._array).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device


class OnnxRuntimeSession(Session):
    """A component on ONNX Runtime. Made by `vsdk_runtimes.load`."""

    def __init__(self, component: Component, precision: Precision, device: str, threads: int) -> None:
        self._kind, _, index = device.partition(":")
        self._index = int(index or 0)
        self._runtime = import_onnxruntime(self._kind)
        super().__init__(component, SessionInfo(NAME, self._runtime.__version__, device, precision, threads))
        self._recordings: Recordings | None = None
        if self._kind == "cuda" and onnxruntime_graphs.are_wanted(component.spec):
            self._recordings = Recordings(self._runtime.RunOptions, self.allocate)
        path = component.path(component.spec.files[precision]).as_posix()
        self._engine = self._load(path, threads)
        _compare_contract(path, "input", component.spec.inputs, self._engine.get_inputs())
        _compare_contract(path, "output", component.spec.outputs, self._engine.get_outputs())
        self._device_outputs: dict[tuple[str, tuple[int, ...]], OnnxRuntimeTensor] = {}
        self._lock = threading.Lock()

    def new_state(self) -> OnnxRuntimeState:
        """See `Session.new_state`."""
        self._check_open()
        self._check_recurrent()
        return OnnxRuntimeState(self)

    def upload(self, array: Array) -> Array | DeviceTensor:
        """See `Session.upload`."""
        if self._kind == "cpu":
            return array
        tensor = self.allocate(array.shape, array.dtype)
        tensor.overwrite(np.ascontiguousarray(array))
        return tensor

    def close(self) -> None:
        """See `Session.close`."""
        super().close()
        self._engine = None
        self._recordings = None
        self._device_outputs = {}

    def allocate(self, shape: Sequence[int], dtype: np.dtype[Any]) -> OnnxRuntimeTensor:
        """Memory for a tensor where this session runs; its content is undefined."""
        if self._kind == "cpu":
            array = np.empty(shape, dtype)
            return OnnxRuntimeTensor(self._wrap(array), array, self._dlpack_device)
        value = self._runtime.OrtValue.ortvalue_from_shape_and_type(list(shape), dtype.type, self._kind, self._index)
        return OnnxRuntimeTensor(value, None, self._dlpack_device)

    def _load(self, path: str, threads: int) -> Any:
        provider = _PROVIDERS[self._kind]
        available = self._runtime.get_available_providers()
        if provider not in available:
            raise EngineUnavailableError(
                f"ONNX Runtime {self._runtime.__version__} here has no {provider} (it has {', '.join(available)})",
                hint=f"Replace it: pip uninstall onnxruntime, then {_INSTALL[self._kind]}; or use --device cpu",
            )
        options = {}
        if self._kind == "cuda":
            options = {"device_id": str(self._index)}
            if self.info.precision == "fp32":
                options["use_tf32"] = "0"  # by default products would round what they multiply to ten bits
            if self._recordings is not None:
                options["enable_cuda_graph"] = "1"
            onnxruntime_cuda.preload_libraries(self._runtime)
        with mapped_errors(f"ONNX Runtime cannot load {path}", GraphError):
            try:
                engine = self._runtime.InferenceSession(
                    path, self._settings(threads), providers=[(provider, options)], enable_fallback=False
                )
            except Exception as error:
                if failure := onnxruntime_cuda.cuda_failure(error):
                    raise EngineUnavailableError(
                        f"ONNX Runtime cannot use {self.info.device}: {failure}",
                        hint="Check with nvidia-smi that the driver and this GPU are there; or use --device cpu",
                    ) from error
                if self._recordings is not None and "graph capture" in str(error):
                    raise GraphError(
                        f"{path} cannot be recorded as a CUDA graph: {error}",
                        hint=f"Run it without: unset {onnxruntime_graphs.SWITCH}",
                    ) from error
                raise
            engine.disable_fallback()
        if provider not in engine.get_providers()[:1]:
            why = onnxruntime_cuda.missing_library(self._runtime) if self._kind == "cuda" else ""
            raise EngineUnavailableError(
                f"asked for {provider}, ONNX Runtime {self._runtime.__version__} chose "
                f"{', '.join(engine.get_providers())}" + (f": {why}" if why else ""),
                hint=f"Install what is missing: {onnxruntime_cuda.INSTALL}; or use --device cpu",
            )
        return engine

    def _settings(self, threads: int) -> Any:
        settings = self._runtime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        # Whatever goes wrong comes back as an exception; printing it as well would only blur the console.
        settings.log_severity_level = _LOG_FATAL
        # Idle worker threads that spin would take the cores that decoding needs.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self._kind == "cpu":
            # The one kernel for a sum and the norm behind it takes seven times as long there as the two for them.
            settings.add_session_config_entry("optimization.disable_specified_optimizers", "SkipLayerNormFusion")
        return settings

    def _run_to_host(
        self, tensors: Mapping[str, Array | DeviceTensor], axes: Axes, names: Sequence[str]
    ) -> dict[str, Array]:
        results = self._empty_results(axes, names)
        self._execute(tensors, results)
        return results

    def _run_to_device(
        self, tensors: Mapping[str, Array | DeviceTensor], axes: Axes, names: Sequence[str]
    ) -> dict[str, DeviceTensor]:
        with self._lock:
            buffers = {name: self._device_output(name, self._output_shape(name, axes)) for name in names}
            for name, tensor in tensors.items():
                if any(tensor is buffer for buffer in buffers.values()):
                    raise InputError(
                        f"{self._label}: input {name!r} is an output of this session, which this run would overwrite",
                        hint="Pass a copy: tensor.numpy().",
                    )
            self._execute(tensors, buffers)
        return dict(buffers)

    def _advance(
        self, tensors: Mapping[str, Array | DeviceTensor], axes: Axes, state: State, names: Sequence[str]
    ) -> dict[str, Array]:
        assert isinstance(state, OnnxRuntimeState)
        results = self._empty_results(axes, [name for name in names if name not in self._state_outputs])
        with state.lock:
            following = {output: state.following[name] for output, name in self._state_outputs.items()}
            self._execute({**tensors, **state.current}, {**results, **following})
            state.current, state.following = state.following, state.current
            return {name: results[name] if name in results else following[name].numpy() for name in names}

    def _from_device(self, name: str, tensor: Tensor) -> DeviceTensor:
        if isinstance(tensor, OnnxRuntimeTensor):
            return tensor
        with mapped_errors(f"{self._label}: input {name!r} cannot be read through DLPack", InputError):
            native = self._runtime.capi.onnxruntime_pybind11_state.OrtValue
            foreign = OnnxRuntimeTensor(
                self._runtime.OrtValue(native.from_dlpack(tensor.__dlpack__())), None, self._dlpack_device
            )
            if foreign.value.data_type() not in _TYPE_NAMES:
                raise TypeError(f"vsdk has no {foreign.value.data_type()}")
            return foreign

    def _execute(self, inputs: Mapping[str, Any], outputs: Mapping[str, Array | OnnxRuntimeTensor]) -> None:
        """Run the graph on arrays and device tensors, into such."""
        engine, recordings = self._engine, self._recordings
        if engine is None:  # closed by another thread since the call was checked
            raise ClosedError(f"the session of {self._label} is closed")

        def plainly(options: Any = None) -> None:
            binding = engine.io_binding()
            for name, tensor in inputs.items():
                if isinstance(tensor, OnnxRuntimeTensor):
                    binding.bind_ortvalue_input(name, tensor.value)
                else:
                    binding.bind_cpu_input(name, tensor)
            for name, memory in outputs.items():
                value = memory.value if isinstance(memory, OnnxRuntimeTensor) else self._wrap(memory)
                binding.bind_ortvalue_output(name, value)
            if self._kind != "cpu":
                binding.synchronize_inputs()  # what another library computed into an input may still be under way
            engine.run_with_iobinding(binding, options)

        with mapped_errors(f"{self._label} failed", EngineRunError):
            if recordings is None:
                plainly()
            else:
                recordings.run(engine, inputs, outputs, plainly)

    def _wrap(self, array: Array) -> Any:
        return self._runtime.OrtValue.ortvalue_from_numpy(array, "cpu", 0)

    def _empty_results(self, axes: Axes, names: Sequence[str]) -> dict[str, Array]:
        return {name: np.empty(self._output_shape(name, axes), self._dtypes[name]) for name in names}

    def _device_output(self, name: str, shape: tuple[int, ...]) -> OnnxRuntimeTensor:
        """The buffer of an output; one for each batch size that was asked for."""
        if (name, shape) not in self._device_outputs:
            self._device_outputs[name, shape] = self.allocate(shape, self._dtypes[name])
        return self._device_outputs[name, shape]


class OnnxRuntimeState(State):
    """Two sets of buffers, allocated once: a step reads `current`, writes `following`, and the two change places."""

    def __init__(self, session: OnnxRuntimeSession) -> None:
        super().__init__(session)
        self.lock = threading.Lock()
        initial = session._initial_state
        self.current = {name: session.allocate(array.shape, array.dtype) for name, array in initial.items()}
        self.following = {name: session.allocate(array.shape, array.dtype) for name, array in initial.items()}
        self.reset()

    @property
    def tensors(self) -> dict[str, DeviceTensor]:
        """See `State.tensors`."""
        return dict(self.current)

    def snapshot(self) -> dict[str, Array]:
        """See `State.snapshot`."""
        with self.lock:
            return {name: buffer.numpy() for name, buffer in self.current.items()}

    def _overwrite(self, tensors: Mapping[str, Array]) -> None:
        with self.lock:
            for name, array in tensors.items():
                self.current[name].overwrite(array)


def _compare_contract(path: str, what: str, stated: Mapping[str, TensorSpec], found: Sequence[Any]) -> None:
    """The graph must have exactly the tensors of the manifest, with the same dtypes and sizes.

    A size that the manifest fixes may be left open by the graph, but not the other way round.
    """
    graph = {item.name: item for item in found}
    if set(graph) != set(stated):
        raise GraphError(
            f"{path}: the graph's {what}s are {sorted(graph)}, the manifest says {sorted(stated)}",
            hint="Export the bundle again.",
        )
    for name, spec in stated.items():
        dtype = _TYPE_NAMES.get(graph[name].type, graph[name].type)
        shape = list(graph[name].shape)
        sizes_agree = len(shape) == len(spec.shape) and all(
            not isinstance(real, int) or real == want for real, want in zip(shape, spec.shape, strict=True)
        )
        if dtype != spec.dtype or not sizes_agree:
            said = f"{spec.dtype} {list(spec.shape)}"
            raise GraphError(
                f"{path}: {what} {name!r} is {dtype} {shape} in the graph, but {said} in the manifest",
                hint="Export the bundle again.",
            )


def available_threads() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1
