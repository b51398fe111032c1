"""How far a build is, from TensorRT's progress monitor (10.3 and later have it)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .api import TensorRT

Progress = Callable[[str, float], None]
"""Called with what is done and which part of it is done, 0 to 1."""


def make_monitor(trt: TensorRT, report: Progress) -> Any:
    """An object that TensorRT tells of its phases. Phases nest; the outermost ones and their children are counted.

    When `report` raises, as a Ctrl-C in it does, the build is given up at its next step.
    """
    base: Any = trt.IProgressMonitor

    class Monitor(base):  # type: ignore[misc]  # the class to derive from is known only when TensorRT is loaded
        def __init__(self) -> None:
            base.__init__(self)
            self._phases: dict[str, tuple[str | None, int, int]] = {}
            self.failure: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._phases[phase_name] = (parent_phase, max(num_steps, 1), 0)
            self._report(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            parent, steps, _ = self._phases.get(phase_name, (None, 1, 0))
            self._phases[phase_name] = (parent, steps, min(step + 1, steps))
            self._report(phase_name)
            return self.failure is None

        def phase_finish(self, phase_name: str) -> None:
            parent, steps, _ = self._phases.get(phase_name, (None, 1, 0))
            self._phases[phase_name] = (parent, steps, steps)
            self._report(phase_name)
            if parent is not None:
                self._phases.pop(phase_name, None)

        def _report(self, phase: str) -> None:
            parent, steps, done = self._phases[phase]
            fraction = done / steps
            while parent in self._phases:
                above, steps, done = self._phases[parent]
                fraction = min((done + fraction) / steps, 1.0)
                parent = above
            try:
                report(phase, fraction)
            except BaseException as error:  # nothing may pass through TensorRT's own frames
                self.failure = error

    return Monitor()
