"""CUDA graphs: all launches of a network, recorded once and then replayed as one.

A replay does again what was recorded, on the same addresses, whatever is bound to the session by then. So a recording
belongs to the addresses of all tensors of a run: it has a number of its own for each batch size, for each of the two
ways in which a state is read and written, and for each tensor of another session that comes in. What comes from the
host is copied into buffers that stay, and what goes to the host is copied out of such buffers.

ONNX Runtime warms a recording up by itself: the first run with a new number runs the kernels once, so that all memory
is there, and once more to record them. A run never overwrites what it reads, so that does no harm.

`VSDK_CUDA_GRAPHS=1` in the environment switches this on. Then every component whose manifest leaves nothing open but
the batch is recorded; the others run as they do without it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .engine import Array
from .errors import InputError

if TYPE_CHECKING:
    from .manifest import ComponentSpec

SWITCH = "VSDK_CUDA_GRAPHS"
MOST_RECORDINGS = 16
"""Of one session; a run that would need one more is not recorded. Each keeps buffers for what comes from the host."""
_NOT_RECORDED = -1

Place = tuple[str, int | str, tuple[int, ...]]
"""Name of a tensor, its address or that it comes from the host, and its shape."""


class DeviceMemory(Protocol):
    """What is needed of a tensor of the engine."""

    value: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each axis."""

    def numpy(self) -> Array:
        """A copy on the host."""

    def overwrite(self, array: Array) -> None:
        """Copy an array into it."""


Allocate = Callable[[Sequence[int], "np.dtype[Any]"], DeviceMemory]


def are_wanted(spec: ComponentSpec) -> bool:
    """Whether the runs of a component are to be recorded.

    Raises:
        InputError: The switch is neither on nor off.
    """
    value = os.environ.get(SWITCH, "0")
    if value not in ("0", "1"):
        raise InputError(f"{SWITCH}={value!r} is neither 0 nor 1", hint=f"Set {SWITCH}=1 to use CUDA graphs.")
    return value == "1" and only_batch_varies(spec)


def only_batch_varies(spec: ComponentSpec) -> bool:
    """Whether each tensor's shape is fixed but for its first axis, so that there are few shapes to record."""
    return not any(isinstance(size, str) for tensor in spec.inputs.values() for size in tensor.shape[1:])


class Recordings:
    """The recorded runs of one session.

    Args:
        run_options: ONNX Runtime's class of that name.
        allocate: Makes memory on the session's device.
    """

    def __init__(self, run_options: Callable[[], Any], allocate: Allocate) -> None:
        self._run_options = run_options
        self._allocate = allocate
        self._numbers: dict[tuple[Place, ...], int] = {}
        self._buffers: dict[tuple[str, tuple[int, ...]], DeviceMemory] = {}
        self._lock = threading.Lock()  # ONNX Runtime allows one run at a time of a session that records

    def run(
        self, engine: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any], plainly: Callable[[Any], None]
    ) -> None:
        """Record the run, or replay it where it was recorded.

        Args:
            engine: The session of ONNX Runtime.
            inputs: Arrays and `DeviceMemory` by name.
            outputs: The same, to be written.
            plainly: Runs with these run options and without a recording.
        """
        with self._lock:
            number = self._number(inputs, outputs)
            if number == _NOT_RECORDED:
                plainly(self._options(number))
                return
            binding = engine.io_binding()
            for name, tensor in inputs.items():
                if isinstance(tensor, np.ndarray):
                    array, tensor = tensor, self._buffer(name, tensor)
                    tensor.overwrite(array)
                binding.bind_ortvalue_input(name, tensor.value)
            for name, tensor in outputs.items():
                memory = self._buffer(name, tensor) if isinstance(tensor, np.ndarray) else tensor
                binding.bind_ortvalue_output(name, memory.value)
            binding.synchronize_inputs()
            engine.run_with_iobinding(binding, self._options(number))
            for name, tensor in outputs.items():
                if isinstance(tensor, np.ndarray):
                    np.copyto(tensor, self._buffer(name, tensor).numpy())

    def _number(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> int:
        """Of the recording of a run with tensors in these places; ONNX Runtime counts from 1."""
        places = tuple(_place(name, tensor) for name, tensor in (*inputs.items(), *outputs.items()))
        if places not in self._numbers and len(self._numbers) < MOST_RECORDINGS:
            self._numbers[places] = len(self._numbers) + 1
        return self._numbers.get(places, _NOT_RECORDED)

    def _buffer(self, name: str, array: Array) -> DeviceMemory:
        """The memory on the device that stands for arrays of this shape."""
        key = (name, array.shape)
        if key not in self._buffers:
            self._buffers[key] = self._allocate(array.shape, array.dtype)
        return self._buffers[key]

    def _options(self, number: int) -> Any:
        options = self._run_options()
        options.add_run_config_entry("gpu_graph_id", str(number))
        return options


def _place(name: str, tensor: Any) -> Place:
    if isinstance(tensor, np.ndarray):
        return name, "host", tensor.shape
    return name, int(tensor.value.data_ptr()), tensor.shape
