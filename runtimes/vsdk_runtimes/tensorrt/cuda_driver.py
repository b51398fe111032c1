"""GPU memory, streams and graphs from the CUDA driver's own library, by ctypes.

Whoever can run TensorRT has `libcuda.so.1`; it needs no package that must fit its version. The functions used here have
kept their form since CUDA 11.4. Every one is given its argument types, because ctypes would pass addresses as 32 bits.

Without a driver TensorRT does not fail but crashes, so `driver_problem` asks in a process of its own first.
"""

from __future__ import annotations

import ctypes
import functools
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any, Final

from ..errors import EngineRunError, EngineUnavailableError

LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CUdevice_attribute: compute capability
_NON_BLOCKING = 1
_THIS_THREAD_ONLY = 1  # a capture that other threads' calls do not disturb
_SIGNATURES: Final = {
    "cuInit": [c_uint],
    "cuDriverGetVersion": [POINTER(c_int)],
    "cuGetErrorString": [c_int, POINTER(c_char_p)],
    "cuDeviceGetCount": [POINTER(c_int)],
    "cuDeviceGet": [POINTER(c_int), c_int],
    "cuDeviceGetName": [c_char_p, c_int, c_int],
    "cuDeviceGetAttribute": [POINTER(c_int), c_int, c_int],
    "cuDevicePrimaryCtxRetain": [POINTER(c_void_p), c_int],
    "cuDevicePrimaryCtxRelease_v2": [c_int],
    "cuCtxPushCurrent_v2": [c_void_p],
    "cuCtxPopCurrent_v2": [POINTER(c_void_p)],
    "cuMemAlloc_v2": [POINTER(c_uint64), c_size_t],
    "cuMemFree_v2": [c_uint64],
    "cuMemcpyHtoDAsync_v2": [c_uint64, c_void_p, c_size_t, c_void_p],
    "cuMemcpyDtoHAsync_v2": [c_void_p, c_uint64, c_size_t, c_void_p],
    "cuStreamCreate": [POINTER(c_void_p), c_uint],
    "cuStreamDestroy_v2": [c_void_p],
    "cuStreamSynchronize": [c_void_p],
    "cuStreamBeginCapture_v2": [c_void_p, c_int],
    "cuStreamEndCapture": [c_void_p, POINTER(c_void_p)],
    "cuGraphInstantiateWithFlags": [POINTER(c_void_p), c_void_p, c_uint64],
    "cuGraphLaunch": [c_void_p, c_void_p],
    "cuGraphExecDestroy": [c_void_p],
    "cuGraphDestroy": [c_void_p],
}
_PROBE = """
import ctypes, sys
try:
    cuda = ctypes.CDLL(sys.argv[1])
except OSError as error:
    sys.exit(str(error))
count, text = ctypes.c_int(), ctypes.c_char_p()
code = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
if code:
    cuda.cuGetErrorString(code, ctypes.byref(text))
    sys.exit(f"CUDA error {code}: {(text.value or b'').decode()}")
if not count.value:
    sys.exit("the driver sees no GPU")
"""


def driver_problem() -> str:
    """Why CUDA does not work on this machine, as a child process finds out; empty when it works."""
    return _probe(LIBRARY)


@functools.lru_cache(maxsize=4)
def _probe(library: str) -> str:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, library], capture_output=True, text=True, timeout=120, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"looking for the driver failed: {error}"
    if done.returncode < 0:
        return f"the driver crashed (signal {-done.returncode})"
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["unknown error"])[-1]


class CudaDriver:
    """The driver, and the primary context of one GPU.

    Args:
        index: Number of the GPU.

    Raises:
        EngineUnavailableError: There is no driver that works, or no such GPU.

    Attributes:
        name: The GPU's.
        capability: Its architecture, as `sm87`.
        version: The driver's version of CUDA, as 13000.
    """

    def __init__(self, index: int = 0) -> None:
        if problem := driver_problem():
            raise EngineUnavailableError(
                f"TensorRT needs an NVIDIA GPU, and none can be used here: {problem}",
                hint="Check with nvidia-smi that driver and GPU are there; or use --device cpu --engine onnxruntime",
            )
        self._cuda = ctypes.CDLL(LIBRARY)
        for name, arguments in _SIGNATURES.items():
            function = getattr(self._cuda, name)
            function.argtypes, function.restype = arguments, c_int
        self.call("cuInit", 0)
        count = self._integer("cuDeviceGetCount")
        if index >= count:
            raise EngineUnavailableError(
                f"there is no GPU cuda:{index}; the driver sees {count}",
                hint="nvidia-smi lists them with their numbers.",
            )
        device = self._integer("cuDeviceGet", index)
        text = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", text, len(text), device)
        self.name = text.value.decode(errors="replace")
        major, minor = (self._integer("cuDeviceGetAttribute", which, device) for which in (_MAJOR, _MINOR))
        self.capability = f"sm{major}{minor}"
        self.version = self._integer("cuDriverGetVersion")
        self._context = c_void_p()
        self.call("cuDevicePrimaryCtxRetain", byref(self._context), device)
        weakref.finalize(self, self._cuda.cuDevicePrimaryCtxRelease_v2, device)

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function of the driver.

        Raises:
            EngineRunError: It failed.
        """
        if code := getattr(self._cuda, function)(*arguments):
            text = c_char_p()
            self._cuda.cuGetErrorString(code, byref(text))
            raise EngineRunError(f"{function} failed: CUDA error {code}: {(text.value or b'').decode()}")

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make this GPU the current one of this thread, for TensorRT too."""
        self.call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self.call("cuCtxPopCurrent_v2", byref(c_void_p()))

    def _integer(self, function: str, *arguments: int) -> int:
        value = c_int()
        self.call(function, byref(value), *arguments)
        return value.value


class Memory:
    """GPU memory, freed with this object.

    Args:
        driver: Whose.
        size: Bytes.
    """

    def __init__(self, driver: CudaDriver, size: int) -> None:
        self.driver, self.size = driver, size
        address = c_uint64()
        with driver.current():
            driver.call("cuMemAlloc_v2", byref(address), max(size, 1))
        self.address = address.value
        weakref.finalize(self, _free, driver, "cuMemFree_v2", self.address)


class Stream:
    """A queue of work on the GPU that does not wait for other queues.

    Attributes:
        handle: What libraries call the stream.
    """

    def __init__(self, driver: CudaDriver) -> None:
        self.driver = driver
        handle = c_void_p()
        with driver.current():
            driver.call("cuStreamCreate", byref(handle), _NON_BLOCKING)
        self.handle = handle.value or 0
        weakref.finalize(self, _free, driver, "cuStreamDestroy_v2", self.handle)

    def upload(self, address: int, source: int, size: int) -> None:
        """Copy from the host; its memory may be changed after the next `wait`."""
        self.driver.call("cuMemcpyHtoDAsync_v2", address, source, size, self.handle)

    def download(self, target: int, address: int, size: int) -> None:
        """Copy to the host; it is there after the next `wait`."""
        self.driver.call("cuMemcpyDtoHAsync_v2", target, address, size, self.handle)

    def wait(self) -> None:
        """Wait until everything that was queued is done."""
        self.driver.call("cuStreamSynchronize", self.handle)

    @contextmanager
    def capture(self) -> Iterator[list[Graph]]:
        """Record what is queued inside instead of doing it; the list then holds the graph.

        Raises:
            EngineRunError: Something that was queued cannot be recorded.
        """
        self.driver.call("cuStreamBeginCapture_v2", self.handle, _THIS_THREAD_ONLY)
        recorded: list[Graph] = []
        graph = c_void_p()
        try:
            yield recorded
        except BaseException:
            self.driver._cuda.cuStreamEndCapture(self.handle, byref(graph))  # leaves the stream usable
            raise
        self.driver.call("cuStreamEndCapture", self.handle, byref(graph))
        recorded.append(Graph(self.driver, graph))


class Graph:
    """Recorded work that is queued with one call."""

    def __init__(self, driver: CudaDriver, graph: c_void_p) -> None:
        self.driver = driver
        executable = c_void_p()
        try:
            driver.call("cuGraphInstantiateWithFlags", byref(executable), graph, 0)
        finally:
            driver._cuda.cuGraphDestroy(graph)
        self._handle = executable.value or 0
        weakref.finalize(self, _free, driver, "cuGraphExecDestroy", self._handle)

    def launch(self, stream: Stream) -> None:
        """Queue the work."""
        self.driver.call("cuGraphLaunch", self._handle, stream.handle)


def _free(driver: CudaDriver, function: str, handle: int) -> None:
    """Give something back; at the end of a process the driver may be gone already, and then there is nothing to do."""
    cuda = driver._cuda
    if cuda.cuCtxPushCurrent_v2(driver._context) == 0:
        getattr(cuda, function)(handle)
        cuda.cuCtxPopCurrent_v2(byref(c_void_p()))
