"""A recording at its own pace, as if a camera sent it now."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace

from ..errors import InputError
from ..frame import Frame
from .base import Source, SourceInfo


class Paced(Source):
    """Gives each frame of another source when it is due, counted from the first one; none is dropped.

    Args:
        source: A recording; it belongs to this one from here on.
        speed: How many times as fast as it was recorded.

    Where the reader is late, the frames that are overdue come at once.
    """

    def __init__(self, source: Source, speed: float = 1.0) -> None:
        if not 0 < speed < math.inf:
            raise InputError(f"speed must be finite and more than 0, not {speed!r}")
        self._source, self._speed = source, speed
        self._interrupted = threading.Event()
        self._started: float | None = None

    @property
    def info(self) -> SourceInfo:
        """See `Source.info`; that of the recording."""
        return self._source.info

    @property
    def decode_errors(self) -> int:
        """See `Source.decode_errors`."""
        return self._source.decode_errors

    def read(self) -> Frame | None:
        """See `Source.read`; waits until the frame is due. None once it is interrupted."""
        frame = self._source.read()
        if frame is None:
            return None
        if self._started is None:
            self._started = time.monotonic()
        due = self._started + float(frame.time) / self._speed
        if self._interrupted.wait(max(0.0, due - time.monotonic())):
            return None
        return replace(frame, captured_ns=time.monotonic_ns())

    def interrupt(self) -> None:
        """See `Source.interrupt`."""
        self._interrupted.set()
        self._source.interrupt()

    def close(self) -> None:
        """See `Source.close`."""
        self._interrupted.set()
        self._source.close()
