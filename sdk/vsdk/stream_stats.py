"""How a stream is doing: rates and latencies, measured where events are delivered."""

from __future__ import annotations

import time
from collections import deque

import numpy as np

from .events import Stats
from .sources.base import Source

MOST_LATENCIES = 10_000
"""So many newest latencies of an interval are looked at."""


class StreamStats:
    """Counts the frames of a stream and makes its `Stats`.

    Args:
        source: Whose drops, errors and reconnections are reported.
        every: Seconds between two `Stats`; None makes none.

    Attributes:
        frames: Frames taken in.
    """

    def __init__(self, source: Source, every: float | None) -> None:
        self.frames = 0
        self._source, self._every = source, every
        self._started = self._last = time.monotonic()
        self._last_frames = 0
        self._waiting: deque[int] = deque()  # when the frames were captured whose features are not known yet
        self._settled = 0  # of those, how many are now, but their events have not been delivered
        self._latencies: deque[float] = deque(maxlen=MOST_LATENCIES)

    def begin(self) -> None:
        """The stream begins: seconds are counted from here."""
        self._started = self._last = time.monotonic()

    def take(self, captured_ns: int) -> None:
        """A frame goes into the pipeline."""
        self.frames += 1
        self._waiting.append(captured_ns)

    def settle(self) -> None:
        """The pipeline has done with the frame that has been in it longest."""
        self._settled += 1

    def deliver(self) -> None:
        """The events of all frames that are settled have been delivered."""
        now = time.monotonic_ns()
        for _ in range(self._settled):
            self._latencies.append((now - self._waiting.popleft()) / 1e9)
        self._settled = 0

    def due(self) -> Stats | None:
        """The next `Stats`, if it is time for it."""
        if self._every is None or time.monotonic() - self._last < self._every:
            return None
        return self.now()

    def last(self) -> Stats | None:
        """The `Stats` before the end, if there are to be any."""
        return None if self._every is None else self.now()

    def now(self) -> Stats:
        """The `Stats` since the ones before."""
        now = time.monotonic()
        source = self._source
        rate = (self.frames - self._last_frames) / max(now - self._last, 1e-9)
        p50: float | None = None
        p95: float | None = None
        if source.info.live and self._latencies:
            p50, p95 = (float(share) for share in np.percentile(np.array(self._latencies), (50, 95)))
        self._last, self._last_frames = now, self.frames
        self._latencies.clear()
        return Stats(
            source.info.name,
            self.frames,
            source.dropped,
            source.decode_errors,
            source.reconnects,
            source.generation,
            rate,
            p50,
            p95,
            now - self._started,
        )
