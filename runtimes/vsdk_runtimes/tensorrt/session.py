"""Sessions on TensorRT and on TensorRT for RTX: a cached engine, GPU memory that is allocated once, no torch.

A host array is sent to the GPU once for each run, a device tensor is read where it is, and only outputs that are asked
for come back. Buffers have the size of the engine's largest shapes, so that addresses stay and runs can be recorded as
CUDA graphs. A state has two sets of buffers that change places.

Tested on a stand-in for TensorRT and the driver that runs the same graphs; not run on a GPU yet.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from ..engine import Array, Axes, DeviceTensor, Precision, Session, SessionInfo, State, Tensor
from ..errors import ClosedError, EngineError, EngineRunError, EngineUnavailableError, GraphError, InputError
from .api import ICudaEngine, Runtime, TensorRT
from .cache import EngineCache
from .cuda_driver import CudaDriver, Memory, Stream
from .dlpack import Taken
from .execution import Execution, Shapes
from .gpu_tensor import GpuTensor, allocate, bytes_of
from .inspection import compare, read_back
from .library import TITLES, EngineName, import_tensorrt
from .lookup import Machine, command, find_engine
from .messages import last_words, make_logger, mapped_errors
from .network import TYPES
from .rtx import check_target

if TYPE_CHECKING:
    from ..bundle import Component
    from ..manifest import TensorSpec

_ALIGNMENT = 256


class TensorRtSession(Session):
    """A component on TensorRT or TensorRT for RTX. Made by `vsdk_runtimes.load`."""

    def __init__(
        self, component: Component, precision: Precision, device: str, threads: int, engine: EngineName
    ) -> None:
        kind, _, index = device.partition(":")
        if kind != "cuda":
            raise EngineUnavailableError(
                f"{TITLES[engine]} runs on NVIDIA GPUs, not on the device {device!r}",
                hint="Use --device cuda, or --engine onnxruntime.",
            )
        trt = import_tensorrt(engine)
        driver = CudaDriver(int(index or 0))
        super().__init__(component, SessionInfo(engine, trt.__version__, device, precision, threads))
        cache = EngineCache()
        machine = Machine(engine, trt.__version__, driver.name, driver.capability)
        if engine == "tensorrt-rtx":
            check_target(trt, driver.capability)
        path, sidecar = find_engine(cache, machine, component, precision)
        self._profile = sidecar.key.profile
        self._build_command = command(component, machine, precision)
        content = cache.read(path, sidecar)
        self._driver, self._stream = driver, Stream(driver)
        # What is copied outside of runs must not end up in a graph that another thread records.
        self._copies = Stream(driver)
        self._logger = make_logger(trt)
        failing = f"{TITLES[engine]} {trt.__version__} cannot load the engine {path}"
        with driver.current(), mapped_errors(failing, EngineUnavailableError, self._logger):
            self._runtime: Runtime | None = trt.Runtime(self._logger)
            self._runtime.max_threads = threads
            loaded = self._runtime.deserialize_cuda_engine(content)
            if loaded is None:
                raise EngineUnavailableError(
                    f"{TITLES[engine]} {trt.__version__} refuses the engine {path}: {last_words(self._logger.errors)}",
                    hint=f"Delete it and build it again: rm '{path}' && {self._build_command}",
                )
            self._engine: ICudaEngine | None = loaded
            _compare_contract(trt, loaded, str(path), component)
            if sidecar.layers is None:  # built where it could not be read back
                layers = read_back(trt, loaded)
                compare(sidecar.asked, layers, f"the engine {path}")
                cache.add_layers(path, sidecar, layers)
            self._execution: Execution | None = Execution(loaded, self._stream, self._logger)
        self._uploads: dict[str, Memory] = {}
        self._results: dict[str, Memory] = {}
        self._kept: dict[str, Memory] = {}
        self._lock = threading.Lock()

    def new_state(self) -> TensorRtState:
        """See `Session.new_state`."""
        self._check_open()
        self._check_recurrent()
        return TensorRtState(self)

    def upload(self, array: Array) -> GpuTensor:
        """See `Session.upload`."""
        tensor = self.allocate(array.shape, array.dtype)
        tensor.overwrite(array)
        return tensor

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> GpuTensor:
        """Memory for a tensor on this session's GPU; its content is undefined."""
        return allocate(self._copies, shape, dtype, self._dlpack_device)

    def close(self) -> None:
        """See `Session.close`. Tensors that were handed out, and states, keep their memory."""
        super().close()
        with self._lock:
            if self._engine is None:
                return
            with self._driver.current():
                self._execution = self._engine = self._runtime = None
            self._uploads, self._results, self._kept = {}, {}, {}

    def _run_to_host(
        self, tensors: Mapping[str, Array | DeviceTensor], axes: Axes, names: Sequence[str]
    ) -> dict[str, Array]:
        with self._running() as execution:
            self._execute(execution, tensors, axes, {})
            return self._download({name: self._results[name].address for name in names}, axes)

    def _run_to_device(
        self, tensors: Mapping[str, Array | DeviceTensor], axes: Axes, names: Sequence[str]
    ) -> dict[str, DeviceTensor]:
        with self._running() as execution:
            buffers = {name: self._buffer(self._kept, name, self.outputs[name]) for name in names}
            for name, tensor in tensors.items():
                if isinstance(tensor, GpuTensor) and any(tensor.owner is buffer for buffer in buffers.values()):
                    raise InputError(
                        f"{self._label}: input {name!r} is an output of this session, which this run would overwrite",
                        hint="Pass a copy: tensor.numpy().",
                    )
            self._execute(execution, tensors, axes, {name: buffer.address for name, buffer in buffers.items()})
            self._stream.wait()
        return {
            name: GpuTensor(
                buffer, buffer.address, self._output_shape(name, axes), self._dtypes[name], self._dlpack_device,
                self._copies,
            )
            for name, buffer in buffers.items()
        }  # fmt: skip

    def _advance(
        self, tensors: Mapping[str, Array | DeviceTensor], axes: Axes, state: State, names: Sequence[str]
    ) -> dict[str, Array]:
        assert isinstance(state, TensorRtState)
        with state.lock, self._running() as execution:
            following = {output: state.following[name].address for output, name in self._state_outputs.items()}
            self._execute(execution, {**tensors, **state.current}, axes, following)
            sources = {name: following.get(name) or self._results[name].address for name in names}
            results = self._download(sources, axes)
            state.current, state.following = state.following, state.current
            return results

    def _from_device(self, name: str, tensor: Tensor) -> DeviceTensor:
        if isinstance(tensor, GpuTensor):
            return tensor
        try:
            taken = Taken(tensor.__dlpack__(stream=self._copies.handle))
            with self._driver.current():
                self._copies.wait()  # for what the other library still computes
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{self._label}: input {name!r} cannot be read through DLPack: {error}") from error
        if taken.address % _ALIGNMENT:
            raise InputError(
                f"{self._label}: input {name!r} begins at an address that TensorRT cannot read",
                hint=f"Pass a copy, which begins at a multiple of {_ALIGNMENT} bytes: tensor.clone()",
            )
        return GpuTensor(taken, taken.address, taken.shape, taken.dtype, self._dlpack_device, self._copies)

    @contextmanager
    def _running(self) -> Iterator[Execution]:
        """One run at a time, with this session's GPU current; errors name the component."""
        with self._lock:
            execution = self._execution
            if execution is None:  # closed by another thread since the call was checked
                raise ClosedError(f"the session of {self._label} is closed")
            try:
                with self._driver.current(), mapped_errors("TensorRT", EngineRunError, self._logger):
                    yield execution
            except EngineError as error:
                raise type(error)(f"{self._label} failed: {error.message}", hint=error.hint) from error

    def _execute(
        self,
        execution: Execution,
        tensors: Mapping[str, Array | DeviceTensor],
        axes: Axes,
        outputs: Mapping[str, int],
    ) -> None:
        """Queue one run; outputs without an address go where the next run will overwrite them."""
        self._check_profile(axes)
        shapes: Shapes = {name: tensor.shape for name, tensor in tensors.items()}
        execution.set_shapes(shapes, {name: self._output_shape(name, axes) for name in self.outputs})
        addresses = {}
        for name, spec in self.inputs.items():
            tensor = tensors[name]
            if isinstance(tensor, GpuTensor):
                addresses[name] = tensor.address
                continue
            assert isinstance(tensor, np.ndarray)
            addresses[name] = self._buffer(self._uploads, name, spec).address
            self._stream.upload(addresses[name], tensor.ctypes.data, tensor.nbytes)
        for name, spec in self.outputs.items():
            addresses[name] = outputs.get(name) or self._buffer(self._results, name, spec).address
        execution.enqueue(addresses)

    def _download(self, sources: Mapping[str, int], axes: Axes) -> dict[str, Array]:
        """Wait for what was queued, with these outputs on the host."""
        results = {name: np.empty(self._output_shape(name, axes), self._dtypes[name]) for name in sources}
        for name, array in results.items():
            self._stream.download(array.ctypes.data, sources[name], array.nbytes)
        self._stream.wait()
        return results

    def _buffer(self, buffers: dict[str, Memory], name: str, spec: TensorSpec) -> Memory:
        """Memory for a tensor at the largest size of the engine's profile."""
        if name not in buffers:
            largest = tuple(self._profile[size][2] if isinstance(size, str) else size for size in spec.shape)
            buffers[name] = Memory(self._driver, bytes_of(largest, self._dtypes[name]))
        return buffers[name]

    def _check_profile(self, axes: Axes) -> None:
        for axis, size in axes.items():
            least, usual, largest = self._profile[axis]
            if not least <= size <= largest:
                wider = f"{axis}={min(least, size)}:{usual}:{max(largest, size)}"
                raise InputError(
                    f"{self._label}: {axis}={size} is not in {least} to {largest}, which its engine was built for",
                    hint=f"Build one: {self._build_command} --shapes {wider}",
                )


class TensorRtState(State):
    """Two sets of GPU buffers, allocated once: a step reads `current`, writes `following`, and they change places."""

    def __init__(self, session: TensorRtSession) -> None:
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
            return {name: tensor.numpy() for name, tensor in self.current.items()}

    def _overwrite(self, tensors: Mapping[str, Array]) -> None:
        with self.lock:
            for name, array in tensors.items():
                self.current[name].overwrite(array)


def _compare_contract(trt: TensorRT, engine: ICudaEngine, path: str, component: Component) -> None:
    """The engine must have exactly the tensors of the manifest, all of them on the GPU.

    Raises:
        GraphError: It has not.
    """
    dtypes = {getattr(trt.DataType, name): dtype for dtype, name in TYPES.items()}
    found = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
            raise GraphError(f"the engine {path} wants {name!r} on the host", hint="Export the bundle again.")
        side = "input" if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else "output"
        found[side, name] = (dtypes.get(engine.get_tensor_dtype(name)), len(engine.get_tensor_shape(name)))
    sides = {"input": component.spec.inputs, "output": component.spec.outputs}
    stated = {
        (side, name): (spec.dtype, len(spec.shape)) for side, tensors in sides.items() for name, spec in tensors.items()
    }
    wrong = sorted(f"{side} {name!r}" for (side, name), _ in found.items() ^ stated.items())
    if wrong:
        raise GraphError(
            f"the engine {path} and the manifest differ in {wrong[0]}",
            hint="Delete the engine and build it again.",
        )
