"""What each network of a tracker takes alone, on the inputs that it got while the tracker was at work."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vsdk_runtimes import Session
from vsdk_runtimes.engine import Tensor

PARTS = ("encoder", "attention", "decoder", "memory")
"""The networks of a tracker, in the order in which they run."""


class Networks(Protocol):
    """The sessions of a tracker."""

    @property
    def encoder(self) -> Session:
        """Makes maps of a frame."""
        ...

    @property
    def attention(self) -> Session:
        """Reads the memory."""
        ...

    @property
    def decoder(self) -> Session:
        """Proposes masks."""
        ...

    @property
    def memory(self) -> Session:
        """Makes memories of masks."""
        ...


@dataclass(frozen=True, eq=False)
class _Call:
    """One run of a network, as it was asked for."""

    part: str
    session: Session
    inputs: dict[str, Tensor]
    options: dict[str, Any]


class ComponentTimes:
    """Times the networks of a tracker.

    Args:
        networks: Those that the tracker uses.
    """

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._calls: list[_Call] = []
        self._seconds: list[list[float]] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """While this is open, what the networks are run on is taken down: track one frame in it."""
        sessions = {part: getattr(self._networks, part) for part in PARTS}
        for part, session in sessions.items():
            setattr(self._networks, part, _Recorder(part, session, self._calls))
        try:
            yield
        finally:
            for part, session in sessions.items():
                setattr(self._networks, part, session)
        self.forget()

    def measure(self, rounds: int) -> None:
        """Run every recorded call once, then every one again, and so on."""
        for _ in range(rounds):
            for call, seconds in zip(self._calls, self._seconds, strict=True):
                start = time.perf_counter()
                call.session.run(call.inputs, **call.options)
                seconds.append(time.perf_counter() - start)

    def forget(self) -> None:
        """Drop what was measured."""
        self._seconds = [[] for _ in self._calls]

    def times(self) -> dict[str, float]:
        """Seconds that each network takes for a frame: the median of all rounds, of all its calls together."""
        times = dict.fromkeys(PARTS, 0.0)
        for call, seconds in zip(self._calls, self._seconds, strict=True):
            times[call.part] += statistics.median(seconds)
        return times


class _Recorder:
    """Stands in for a session for one frame."""

    def __init__(self, part: str, session: Session, calls: list[_Call]) -> None:
        self._part, self._session, self._calls = part, session, calls

    def run(self, inputs: Mapping[str, Tensor], *args: Any, **options: Any) -> Any:
        if args:
            options["outputs"] = args[0]
        kept = {name: tensor.copy() if isinstance(tensor, np.ndarray) else tensor for name, tensor in inputs.items()}
        self._calls.append(_Call(self._part, self._session, kept, options))
        return self._session.run(inputs, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)
