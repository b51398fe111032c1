"""Live sources: connections that break and come back, behind the interface of a source.

    capture thread:     connection.receive -> mailbox     one for each connection, which it owns
    supervisor thread:  starts captures, notices stalls and stuck threads, waits before the next try
    reading thread:     take, read; converts only what it takes

The supervisor never calls into a library, so it is always there to act. A capture that is stuck in native code cannot
be killed: it is abandoned, and closes its connection should it ever come back.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Literal

from ..errors import ClosedError, SourceEmptyError, SourceError, SourceTimeoutError
from ..events import SourceState
from ..frame import Frame
from .base import Source, SourceInfo
from .capture import Capture
from .connection import Connect, Picture
from .live_clock import LiveClock
from .live_settings import LiveSettings
from .mailbox import Mailbox, Numbered
from .reconnecting import Reconnecting
from .thinning import Thinning

logger = logging.getLogger(__name__)

State = Literal["connecting", "live", "stalled", "reconnecting", "ended"]

MOST_STUCK = 4
"""So many abandoned threads may be stuck at a time; until one of them comes back, every try fails."""

MOST_UNCONVERTIBLE = 16
"""After so many pictures in a row that cannot be converted to RGB, none of the next ones will be."""

LOOK_SECONDS = 0.5
"""Longest time between two looks of the supervisor."""

_CLOSE_SECONDS = 0.7


class LiveSource(Source):
    """Frames at the world's pace, through one connection after the other.

    It connects when it is first read, so that nothing is dropped before anybody is there to take it; whether there is
    anything to read turns out then, in the states and in `read`. A frame's number counts what was taken in, so frames
    that were dropped leave gaps; nothing is ever made up for frames that did not come. What is tried again, and when,
    says `reconnecting.Reconnecting`. A recording that a server sends (`Connection.finite`) is read once, and every
    frame of it.

    Args:
        name: For people, events and errors; without credentials.
        connect: Makes a connection; called in a new thread each time.
        settings: None takes the defaults.

    `take` gives frames and states in order. `read` gives frames only. Both raise what ended the source.

    Example:
        ```python
        with vsdk.open("rtsp://10.0.0.7/main") as source:
            for frame in source:
                print(frame.number, frame.generation, float(frame.time))
        ```
    """

    def __init__(self, name: str, connect: Connect, settings: LiveSettings | None = None) -> None:
        self.settings = settings or LiveSettings()
        self._name, self._connect = name, connect
        self._lock = threading.RLock()  # guards all that follows
        self._changed = threading.Condition(self._lock)  # of the mailbox, or over
        self._attention = threading.Condition(self._lock)  # of the supervisor
        self._mailbox = Mailbox(self._changed, every=self.settings.policy == "every")
        self._clock = LiveClock()
        self._thinning = Thinning(self.settings.max_fps)
        self._reconnecting = Reconnecting(self.settings)
        self._info = SourceInfo(name, None, None, None, None, live=True)
        self._state: State = "connecting"
        self._capture: Capture | None = None
        self._stuck: list[Capture] = []
        self._next = self._reconnects = self._past_decode_errors = self._unconvertible = 0
        self._failure: BaseException | None = None
        self._over = self._closed = False
        self._last_frame = 0.0
        self._supervisor = threading.Thread(target=self._supervise, name="vsdk-supervisor", daemon=True)

    @property
    def info(self) -> SourceInfo:
        """See `Source.info`; size and frame rate are those of the newest frame, None before the first one."""
        return self._info

    @property
    def over(self) -> bool:
        """Whether everything has been taken and nothing more will come."""
        with self._lock:
            return self._over and self._mailbox.empty

    @property
    def dropped(self) -> int:
        """See `Source.dropped`."""
        return self._mailbox.dropped

    @property
    def reconnects(self) -> int:
        """See `Source.reconnects`."""
        return self._reconnects

    @property
    def generation(self) -> int:
        """See `Source.generation`."""
        return self._clock.generation

    @property
    def decode_errors(self) -> int:
        """See `Source.decode_errors`."""
        with self._lock:
            connection = self._capture.connection if self._capture is not None else None
            return self._past_decode_errors + (0 if connection is None else connection.decode_errors)

    def take(self, seconds: float) -> Frame | SourceState | None:
        """The next frame or change of state, in the order in which they happened.

        Args:
            seconds: Longest time to wait.

        Returns:
            None when nothing came in that time, or nothing will (`over`).

        Raises:
            SourceError: The source has given up; the subclass says why.
            ClosedError: The source is closed.
        """
        deadline = time.monotonic() + seconds
        with self._lock:
            while True:
                if self._closed:
                    raise ClosedError(f"{self._name} is closed")
                self._start()
                item = self._mailbox.take()
                if item is not None:
                    break
                if self._failure is not None:
                    raise self._failure
                remaining = deadline - time.monotonic()
                if self._over or remaining <= 0:
                    return None
                self._changed.wait(remaining)
        return item if isinstance(item, SourceState) else self._converted(item)

    def read(self) -> Frame | None:
        """See `Source.read`."""
        while True:
            item = self.take(1.0)
            if isinstance(item, Frame):
                return item
            if item is None and self.over:
                return None

    def close(self) -> None:
        """Stop. Idempotent, callable from any thread, returns within a second.

        A thread that waits for the network lives on until its time-out, and closes its connection then.
        """
        with self._lock:
            self._closed = True
            capture = self._capture
            if capture is not None:
                capture.stop()
            self._mailbox.clear()
            self._attention.notify_all()
        deadline = time.monotonic() + _CLOSE_SECONDS
        if self._supervisor.ident is not None:
            self._supervisor.join(_CLOSE_SECONDS)
        if capture is not None:
            capture.join(max(0.0, deadline - time.monotonic()))

    # In the reading thread

    def _start(self) -> None:
        if self._supervisor.ident is None:
            self._last_frame = time.monotonic()
            self._say("connecting", attempt=1)
            self._supervisor.start()

    def _converted(self, item: Numbered) -> Frame | None:
        picture = item.picture
        try:
            image = picture.convert()
        except SourceError:
            with self._lock:
                self._past_decode_errors += 1
            self._unconvertible += 1
            if self._unconvertible >= MOST_UNCONVERTIBLE:
                raise
            return None
        self._unconvertible = 0
        return Frame(
            image, item.number, item.time, picture.pts, picture.time_base, picture.captured_ns, item.generation
        )

    # In the capturing thread

    def _receive(self, capture: Capture, picture: Picture) -> None:
        """A picture has come; wait for room for it where none may be dropped."""
        connection = capture.connection
        with self._lock:
            if connection is not None and connection.finite:
                self._mailbox.every = True
            while self._mailbox.full and not capture.stopped:
                self._changed.wait()
            if capture.stopped:
                return
            seconds, new_generation = self._clock.place(picture)
            self._last_frame = time.monotonic()
            rate = None if connection is None else connection.frame_rate
            self._info = SourceInfo(self._name, picture.width, picture.height, rate, None, live=True)
            if capture.pictures == 0 and self._next:
                self._reconnects += 1
            if new_generation is not None or self._state != "live":
                self._say("live", new_generation or "")
            if self._thinning.takes(seconds):
                self._mailbox.put(Numbered(picture, self._next, seconds, self._clock.generation))
                self._next += 1

    def _finished(self) -> None:
        with self._lock:
            self._attention.notify_all()

    # In the supervisor

    def _supervise(self) -> None:
        try:
            with self._lock:
                while not self._closed and (wait := self._connect_once()) is not None:
                    until = time.monotonic() + wait
                    while not self._closed and (remaining := until - time.monotonic()) > 0:
                        self._attention.wait(remaining)
        except BaseException as error:  # a mistake of ours must not look like a silent camera
            with self._lock:
                self._end(error)

    def _connect_once(self) -> float | None:
        """One connection from beginning to end; then the seconds until the next one, None for never."""
        self._stuck = [capture for capture in self._stuck if capture.alive]
        capture: Capture | None = None
        failure: Exception | None
        if len(self._stuck) < MOST_STUCK:
            capture = self._capture = Capture(self._connect, self._receive, self._finished, self.settings)
            failure = self._watch(capture)
        else:
            failure = SourceTimeoutError(
                f"{self._name}: {MOST_STUCK} threads that read from it do not come back",
                hint="Disconnect the camera, or restart its driver.",
            )
        self._capture = None  # nothing may know its connection any more: its decoder has threads, and would keep them
        connection = None if capture is None else capture.connection
        self._past_decode_errors += 0 if connection is None else connection.decode_errors
        if self._closed:
            return None
        wait = self._reconnecting.wait_after(
            failure,
            frames=capture is not None and capture.pictures > 0,
            ever_frames=self._next > 0,
            finite=connection is not None and connection.finite,
            silent=time.monotonic() - self._last_frame,
        )
        if wait is None:
            self._end(failure)
        else:
            self._clock.reconnect()
            self._say("reconnecting", self._reason(failure), attempt=self._reconnecting.attempt, wait=wait)
        return wait

    def _watch(self, capture: Capture) -> Exception | None:
        """Until the connection is over or overdue; why it is, None where the sender ended the stream."""
        while not capture.over and not self._closed:
            now = time.monotonic()
            if now >= capture.deadline():
                capture.stop()
                self._changed.notify_all()
                self._stuck.append(capture)
                return SourceTimeoutError(
                    f"{self._name}: no frame for {now - capture.last_picture:.1f} s, although it is connected",
                    hint="Does the sender still send pictures? Of a camera: is its driver alive?",
                )
            if self._state == "live" and now >= capture.stall():
                self._say("stalled", f"no frame for {now - capture.last_picture:.1f} s")
            look = min(capture.deadline(), capture.stall() if self._state == "live" else now + LOOK_SECONDS)
            self._attention.wait(min(max(look - now, 0.001), LOOK_SECONDS))
        if capture.over and capture.failure is None and not capture.pictures:
            return SourceEmptyError(
                f"{self._name}: the sender ended the stream before its first frame",
                hint="Does the sender have anything to send?",
            )
        return capture.take_failure()

    def _end(self, failure: BaseException | None) -> None:
        self._failure = failure
        self._over = True
        self._say("ended", self._reason(failure))

    def _reason(self, failure: BaseException | None) -> str:
        """What happened, for an event; the name stands beside it there."""
        if failure is None:
            return "the sender ended the stream"
        text = failure.message if isinstance(failure, SourceError) else type(failure).__name__
        return text.removeprefix(f"{self._name}: ")

    def _say(self, state: State, message: str = "", *, attempt: int = 0, wait: float = 0.0) -> None:
        self._state = state
        self._attention.notify_all()  # what it waits for depends on the state
        self._mailbox.put(SourceState(self._name, state, self._clock.generation, self._next, attempt, wait, message))
        logger.info("%s: %s%s", self._name, state, f": {message}" if message else "")
