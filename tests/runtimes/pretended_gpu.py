"""ONNX Runtime that says it has a GPU: its CUDA memory is the host's, and its CUDA graphs are imitated strictly.

What is real: every session, binding, value and result. What is pretended: the name of the provider; that a device
tensor lies on `cuda`; and that a run with a `gpu_graph_id` is recorded. A replay here does what CUDA does: it reads and
writes where the recorded run did, whatever is bound by then. Refused are a recorded run that is given memory of the
host, and a second one at the same time, which ONNX Runtime does not allow.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

GRAPH_ID = "gpu_graph_id"


class Value(onnxruntime.OrtValue):  # type: ignore[misc]
    """An OrtValue whose `numpy` copies, as that of a GPU does."""

    on_gpu = False

    @staticmethod
    def ortvalue_from_numpy(array: Any, device: str = "cpu", index: int = 0) -> Value:
        return Value(onnxruntime.OrtValue.ortvalue_from_numpy(array, "cpu", 0)._ortvalue, array)

    @staticmethod
    def ortvalue_from_shape_and_type(shape: Any, kind: Any, device: str = "cpu", index: int = 0) -> Value:
        value = Value(onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, kind, "cpu", 0)._ortvalue)
        value.on_gpu = device == "cuda"
        return value

    def numpy(self) -> Any:
        return np.array(super().numpy())


class Binding:
    """What was bound, by name."""

    def __init__(self) -> None:
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}

    def bind_cpu_input(self, name: str, array: Any) -> None:
        self.inputs[name] = array

    def bind_ortvalue_input(self, name: str, value: Any) -> None:
        self.inputs[name] = value

    def bind_ortvalue_output(self, name: str, value: Any) -> None:
        self.outputs[name] = value

    def synchronize_inputs(self) -> None:
        """Nothing is under way."""


class GpuSession:
    """A session that records and replays."""

    def __init__(self, path: str, settings: Any, *, providers: Any, enable_fallback: bool) -> None:
        assert not enable_fallback
        ((name, options),) = providers
        assert name == "CUDAExecutionProvider"
        self.records = options.get("enable_cuda_graph") == "1"
        self.recorded: dict[str, Binding] = {}
        self.runs: deque[str] = deque(maxlen=100)  # the graph id of each of the last runs, or "" without one
        self._free = threading.Lock()
        self._real = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def disable_fallback(self) -> None:
        """It has none."""

    def io_binding(self) -> Binding:
        return Binding()

    def run_with_iobinding(self, binding: Binding, options: Any = None) -> None:
        number = options.get_run_config_entry(GRAPH_ID) if options is not None else ""
        self.runs.append(number)
        if not self.records or number == "-1":
            assert self.records or not number
            self._execute(binding)
            return
        assert int(number) >= 1, "0 is the one that a run without a number gets"
        assert self._free.acquire(blocking=False), "two runs at the same time"
        try:
            time.sleep(1e-4)  # so that another thread would come in between
            self._run_recorded(number, binding)
        finally:
            self._free.release()

    def _run_recorded(self, number: str, binding: Binding) -> None:
        if number not in self.recorded:
            for name, value in {**binding.inputs, **binding.outputs}.items():
                assert isinstance(value, Value), f"{name} is in memory of the host"
                assert value.on_gpu, f"{name} is in memory of the host"
            self.recorded[number] = binding
            self._execute(binding)  # the warm-up; what it reads must be there for the recording as well
        self._execute(self.recorded[number])

    def _execute(self, binding: Binding) -> None:
        real = self._real.io_binding()
        for name, value in binding.inputs.items():
            if isinstance(value, np.ndarray):
                real.bind_cpu_input(name, value)
            else:
                real.bind_ortvalue_input(name, value)
        for name, value in binding.outputs.items():
            real.bind_ortvalue_output(name, value)
        self._real.run_with_iobinding(real)


def runtime(**changed: Any) -> Any:
    """The module, with these attributes changed."""
    own: Mapping[str, Any] = {
        "get_available_providers": lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        "preload_dlls": lambda: None,
        "OrtValue": Value,
        "InferenceSession": GpuSession,
    }
    return SimpleNamespace(**{**vars(onnxruntime), **own, **changed})
