"""The thread that owns a connection from open to close."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Literal

from .connection import Connect, Connection, Picture
from .live_settings import LiveSettings

logger = logging.getLogger(__name__)

GRACE = 1.0
"""Seconds that a thread may be late beyond its time-outs before it counts as stuck."""


class Capture:
    """One connection, in a daemon thread of its own.

    Everything here but `stop` and `over` is used under the lock of the live source that made it.

    Args:
        connect: Makes the connection.
        deliver: Called with each picture in the capturing thread; may wait.
        finished: Called in the capturing thread when the connection is over, before it is closed.
        settings: For their time-outs.

    Attributes:
        connection: While there is one.
        failure: Why it is over; None where the sender ended the stream.
        over: The connection has ended.
        pictures: How many came.
        last_picture: `time.monotonic()` of the last one, at first of the start.
    """

    def __init__(
        self,
        connect: Connect,
        deliver: Callable[[Capture, Picture], None],
        finished: Callable[[], None],
        settings: LiveSettings,
    ) -> None:
        self.connection: Connection | None = None
        self.failure: Exception | None = None
        self.over = False
        self.pictures = 0
        self._connect, self._deliver, self._finished, self._settings = connect, deliver, finished, settings
        self._stop = threading.Event()
        self._doing: Literal["connecting", "receiving", "delivering"] = "connecting"
        self.last_picture = self._since = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="vsdk-capture", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    @property
    def stopped(self) -> bool:
        """Whether nobody wants its pictures any more."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Let the thread close the connection as soon as it gets to it."""
        self._stop.set()

    def take_failure(self) -> Exception | None:
        """Why it is over. It is forgotten here: an error knows what it passed, so the two would know each other."""
        failure, self.failure = self.failure, None
        return failure

    def join(self, seconds: float) -> None:
        """Wait for the thread to end."""
        if self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def deadline(self) -> float:
        """`time.monotonic()` from which on the connection is not to be waited for any longer."""
        opening = self._settings.connect_timeout + self._settings.read_timeout + GRACE
        if self._doing == "delivering":  # waits for the reader
            return float("inf")
        if self._doing == "connecting":
            return self._since + opening
        return min(self._since + self._settings.read_timeout + GRACE, self.last_picture + opening)

    def stall(self) -> float:
        """`time.monotonic()` from which on the connection is to be reported as stalled."""
        if self._doing == "delivering" or self.connection is None:
            return float("inf")
        return self.last_picture + self._settings.stall_after

    def _run(self) -> None:
        connection: Connection | None = None
        try:
            connection = self._connect()
            self.connection = connection
            self._forward(connection)
        except Exception as error:
            self.failure = error
        finally:
            self.over = True
            self._finished()
            if connection is not None:
                _close(connection)

    def _forward(self, connection: Connection) -> None:
        while not self._stop.is_set():
            self._now("receiving")
            pictures = connection.receive()
            if pictures is None:
                return
            for picture in pictures:
                self._now("delivering")
                self._deliver(self, picture)
                self.pictures += 1
                self.last_picture = time.monotonic()

    def _now(self, doing: Literal["receiving", "delivering"]) -> None:
        self._since = time.monotonic()
        self._doing = doing


def _close(connection: Connection) -> None:
    try:
        connection.close()
    except Exception:
        logger.debug("closing a connection failed", exc_info=True)
