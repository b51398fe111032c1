"""Where the time of a graph goes: ONNX Runtime's own profile, by operator as it runs them after its fusions."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsdk_runtimes import Bundle, Precision
from vsdk_runtimes.onnxruntime_engine import OnnxRuntimeSession

from ..network import Arrays

_RUNS = 20


@dataclass(frozen=True)
class OperatorTime:
    """All nodes of one operator.

    Attributes:
        operator: As ONNX Runtime calls it.
        nodes: How many there are.
        milliseconds: Of all of them in one run, each at its fastest.
    """

    operator: str
    nodes: int
    milliseconds: float


class _Profiled(OnnxRuntimeSession):
    """A session as the pipeline uses it, that writes down when each node began and ended."""

    prefix = ""

    def _settings(self, threads: int) -> Any:
        settings = super()._settings(threads)
        settings.enable_profiling = True
        settings.profile_file_prefix = self.prefix
        return settings

    def times(self) -> list[dict[str, Any]]:
        """Every event so far."""
        found: list[dict[str, Any]] = json.loads(Path(self._engine.end_profiling()).read_text())
        return found


def node_times(bundle: Bundle, component: str, precision: Precision, inputs: Arrays) -> list[OperatorTime]:
    """Run a component on the CPU in one thread, and say which operators took how long, the longest first.

    Each node counts with the fastest of its runs, so that other work of the machine shows least.
    """
    with tempfile.TemporaryDirectory() as folder:
        profiled = type("_Here", (_Profiled,), {"prefix": str(Path(folder) / "profile")})
        session = profiled(bundle.components[component], precision, "cpu", 1)
        for _ in range(_RUNS):
            session.run(inputs)
        events = session.times()
        session.close()
    fastest: dict[tuple[str, str], float] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["args"]["op_name"], event["name"]
            fastest[key] = min(fastest.get(key, float("inf")), event["dur"] / 1000)
    nodes: dict[str, list[float]] = defaultdict(list)
    for (operator, _), milliseconds in fastest.items():
        nodes[operator].append(milliseconds)
    rows = [OperatorTime(operator, len(times), sum(times)) for operator, times in nodes.items()]
    return sorted(rows, key=lambda row: -row.milliseconds)
