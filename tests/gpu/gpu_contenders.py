"""Who runs a network: PyTorch eager and compiled, ONNX Runtime as it is commonly used, and our sessions."""

from __future__ import annotations

import copy
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gpu_ceilings import Ceilings, synchronise
from torch.utils.flop_counter import FlopCounterMode

from vsdk_export.network import Network
from vsdk_runtimes import Component, Session, load
from vsdk_runtimes.onnxruntime_graphs import SWITCH, only_batch_varies

Run = Callable[[], object]
THREADS = 1
"""Of the processor, for each contender: on a GPU more would not help, and on a CPU nobody has an advantage."""


@dataclass(frozen=True)
class Row:
    """The times of one contender on one network.

    Attributes:
        network: Subject and component.
        contender: Who ran it, and at which precision.
        milliseconds: One figure a round.
        matmul: Share of the matrix-product ceiling of the precision; None where it was not measured or has none.
        copy: Share of the copy ceiling that reading the weights once would take; None likewise.
        device_mb: Memory of the device that the contender took when it was made; None on the CPU.
    """

    network: str
    contender: str
    precision: str
    milliseconds: tuple[float, ...]
    matmul: float | None
    copy: float | None
    device_mb: float | None

    def summary(self) -> dict[str, Any]:
        """For JSON and tables."""
        ordered = sorted(self.milliseconds)
        return {
            "network": self.network, "contender": self.contender, "precision": self.precision,
            "min_ms": ordered[0], "median_ms": statistics.median(ordered),
            "p95_ms": ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))],
            "share_of_matmul": self.matmul, "share_of_copy": self.copy, "device_mb": self.device_mb,
        }  # fmt: skip


class Race:
    """All contenders of one network, run in turn.

    Args:
        name: Of the network.
        network: In PyTorch.
        component: Of a bundle.
        device: `cpu` or `cuda`.
        compiled: Whether torch.compile takes part.
        failed: Called with a contender and why it does not take part.
    """

    def __init__(
        self, name: str, network: Network, component: Component, device: str, *, compiled: bool,
        failed: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        self.name, self.network, self.component, self.device = name, network, component, device
        torch.set_num_threads(THREADS)
        self.call = {key: np.ascontiguousarray(value) for key, value in next(network.calls()).items()}
        self.flops = _flops(network, self.call)
        self._failed = failed
        self._opened: list[Session] = []
        self.runs: dict[tuple[str, str], tuple[Run, float | None]] = {}
        for precision in ("fp32",) if device == "cpu" else ("fp32", "fp16"):  # PyTorch has no fast fp16 on a CPU
            self._add("torch eager", precision, lambda p=precision: self._torch(p, compiled=False))  # type: ignore[misc]
            if compiled:
                self._add("torch.compile", precision, lambda p=precision: self._torch(p, compiled=True))  # type: ignore[misc]
        for precision in component.spec.files:
            self._add("onnxruntime", precision, lambda p=precision: self._plain(p))  # type: ignore[misc]
            self._add("vsdk, host", precision, lambda p=precision: self._to_host(p))  # type: ignore[misc]
            self._add("vsdk, device", precision, lambda p=precision: self._on_device(p))  # type: ignore[misc]
            if device != "cpu" and only_batch_varies(component.spec):
                self._add("vsdk, CUDA graph", precision, lambda p=precision: self._recorded(p))  # type: ignore[misc]

    def rows(self, rounds: int, ceilings: Ceilings) -> list[Row]:
        """Run everybody so many times, interleaved."""
        found: dict[tuple[str, str], list[float]] = {key: [] for key in self.runs}
        for _ in range(rounds):
            for key, (run, _) in self.runs.items():
                synchronise(self.device)
                start = time.perf_counter()
                run()
                synchronise(self.device)
                found[key].append(1000 * (time.perf_counter() - start))
        return [self._row(key, times, ceilings) for key, times in found.items()]

    def close(self) -> None:
        """Free the engines."""
        for session in self._opened:
            session.close()

    def _row(self, key: tuple[str, str], times: list[float], ceilings: Ceilings) -> Row:
        contender, precision = key
        best = min(times) / 1000
        ceiling = ceilings.flops.get(precision)
        path = self.component.spec.files.get(precision)  # type: ignore[call-overload]
        weights = self.component.path(path).stat().st_size if path is not None else None
        return Row(
            self.name, contender, precision, tuple(times),
            None if ceiling is None or self.flops is None else self.flops / best / ceiling,
            None if weights is None else weights / best / ceilings.copied,
            self.runs[key][1],
        )  # fmt: skip

    def _add(self, contender: str, precision: str, make: Callable[[], Run]) -> None:
        """Make it and warm it up; one that cannot run is named and left out."""
        before = _free_memory(self.device)
        try:
            run = make()
            for _ in range(3):
                run()
            synchronise(self.device)
        except Exception as error:
            self._failed(f"{self.name}: {contender} {precision}", f"{type(error).__name__}: {str(error)[:200]}")
            return
        after = _free_memory(self.device)
        self.runs[contender, precision] = run, None if after is None or before is None else (before - after) / 1e6

    def _torch(self, precision: str, *, compiled: bool) -> Run:
        """Tensors on the device, fp32 at the edges; fp16 by autocast, the way PyTorch's users get it."""
        module: Any = copy.deepcopy(self.network.module).eval().to(self.device)
        if compiled:
            module = torch.compile(module)
        tensors = [torch.from_numpy(self.call[name]).to(self.device) for name in self.network.input_names]
        kind = self.device.partition(":")[0]

        def run() -> object:
            with torch.inference_mode(), torch.autocast(kind, torch.float16, enabled=precision == "fp16"):
                return module(*tensors)

        return run

    def _plain(self, precision: str) -> Run:
        """`InferenceSession.run` on NumPy arrays: everything is copied there and back."""
        import onnxruntime

        path = str(self.component.path(self.component.spec.files[precision]))  # type: ignore[index]
        provider = "CPUExecutionProvider" if self.device == "cpu" else "CUDAExecutionProvider"
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = THREADS
        session = onnxruntime.InferenceSession(path, settings, providers=[provider])
        if session.get_providers()[0] != provider:
            raise RuntimeError(f"fell back to {session.get_providers()[0]}")
        return lambda: session.run(None, self.call)

    def _session(self, precision: str) -> Session:
        session = load(self.component, precision=precision, device=self.device, threads=THREADS)  # type: ignore[arg-type]
        self._opened.append(session)
        return session

    def _to_host(self, precision: str) -> Run:
        session = self._session(precision)
        if not self.component.spec.state:
            return lambda: session.run(self.call)
        state, given = session.new_state(), self._stream_inputs()
        return lambda: session.step(given, state)

    def _on_device(self, precision: str) -> Run:
        """Inputs are there, outputs stay there, and so does the state."""
        session = self._session(precision)
        if not self.component.spec.state:
            there = {name: session.upload(value) for name, value in self.call.items()}
            return lambda: session.run(there, to="device")
        state = session.new_state()
        given = {name: session.upload(value) for name, value in self._stream_inputs().items()}
        return lambda: session.step(given, state, outputs=())

    def _recorded(self, precision: str) -> Run:
        with switched_on():
            return self._on_device(precision)

    def _stream_inputs(self) -> dict[str, Any]:
        recurrent = {item.input for item in self.component.spec.state}
        return {name: value for name, value in self.call.items() if name not in recurrent}


@contextmanager
def switched_on() -> Iterator[None]:
    """Sessions that are loaded now record their runs as CUDA graphs."""
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = "1"
    try:
        yield
    finally:
        os.environ.pop(SWITCH)
        if before is not None:
            os.environ[SWITCH] = before


def _flops(network: Network, call: dict[str, Any]) -> float | None:
    """Operations of the matrix products and convolutions of one run, as PyTorch counts them."""
    counter = FlopCounterMode(display=False)
    try:
        with torch.inference_mode(), counter:
            network.module.eval()(*(torch.from_numpy(call[name]) for name in network.input_names))
    except Exception:  # an operation that the counter does not know
        return None
    return float(counter.get_total_flops()) or None


def _free_memory(device: str) -> float | None:
    return None if device == "cpu" else float(torch.cuda.mem_get_info()[0])
