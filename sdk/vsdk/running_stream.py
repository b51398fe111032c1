"""A stream that runs in a thread of its own, beside others."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Literal

from vsdk_runtimes.errors import Error

from .event_queue import Outlet
from .events import how_it_ended
from .stream import Stream

logger = logging.getLogger(__name__)

Reason = Literal["closed", "interrupted", "error"]


class RunningStream:
    """Runs a stream to its end; its events go to its sinks, the last of which is the outlet.

    Args:
        stream: Belongs to this object from now on.
        outlet: Its last sink.
        ended: Called in the thread when all is done.

    Attributes:
        failure: What ended the stream, or kept a sink from being finished; None where nothing did.
        unfinished: Whether it is a sink that could not be finished.
    """

    def __init__(self, stream: Stream, outlet: Outlet, ended: Callable[[], None]) -> None:
        self.stream = stream
        self.failure: BaseException | None = None
        self.unfinished = False
        self._outlet, self._ended = outlet, ended
        self._reason: Reason = "closed"
        self._message = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vsdk-stream", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, reason: Reason = "closed", message: str = "") -> None:
        """Let it end soon, with this in its end event; does not wait. A stream that never ran ends here and now."""
        if self._stopping.is_set():
            return
        self._reason, self._message = reason, message
        self._stopping.set()
        if self._thread.ident is None:
            self._finish(reason, message)
            self._leave()
        elif self._thread.is_alive():
            self.stream.stop()
            self._outlet.hurry()

    def join(self, seconds: float) -> None:
        """Wait for the end, after `stop`.

        A stream that is held up, by a long run of an engine for instance, is then ended from here: its sinks are
        finished when this returns. A thread cannot wait for itself: it ends when it comes back to the stream.
        """
        if self._thread.ident is None or self._thread is threading.current_thread():
            return
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._finish(self._reason, self._message)

    def _run(self) -> None:
        reason, message = self._reason, ""
        try:
            for _ in self.stream:
                pass
        except BaseException as error:
            if not self._stopping.is_set():
                reason, message = how_it_ended(type(error), error)
                self.failure = error
                if not isinstance(error, Error):  # a mistake, which needs more than the line in the end event
                    logger.error("the stream of %s failed", self._outlet.name, exc_info=error)
        if self._stopping.is_set() and self.failure is None:
            reason, message = self._reason, self._message
        self._finish(reason, message)
        self._leave()

    def _finish(self, reason: Reason, message: str) -> None:
        try:
            self.stream.finish(reason, message)
        except Exception as error:
            self.failure, self.unfinished = self.failure or error, True

    def _leave(self) -> None:
        self._outlet.end()
        self._ended()
