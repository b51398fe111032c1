"""Events of several streams on their way to the one who takes them."""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple

from .events import Event
from .sinks.base import Sink

MOST_WAITING = 16
"""Events of one stream that may wait to be taken; then the stream waits, as a single one does for its consumer."""


class StreamEvent(NamedTuple):
    """An event, and the name of the stream that it is of."""

    stream: str
    event: Event


class EventQueue:
    """Events in the order in which they come. Each stream has its own room, so that none fills up that of another."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards everything here
        self._events: deque[tuple[Outlet, Event]] = deque()
        self._open = 0
        self._closed = False

    def outlet(self, name: str) -> Outlet:
        """The place where a stream puts its events."""
        with self._changed:
            self._open += 1
        return Outlet(self, name)

    def take(self) -> StreamEvent | None:
        """Wait for the next event; None when none will come any more."""
        with self._changed:
            while not self._events and self._open and not self._closed:
                self._changed.wait()
            if self._closed or not self._events:
                return None
            outlet, event = self._events.popleft()
            outlet.waiting -= 1
            self._changed.notify_all()
            return StreamEvent(outlet.name, event)

    def close(self) -> None:
        """Nobody takes events any more. Idempotent."""
        with self._changed:
            self._closed = True
            self._events.clear()
            self._changed.notify_all()

    def put(self, outlet: Outlet, event: Event) -> None:
        """Add an event when there is room for it."""
        with self._changed:
            while outlet.waiting >= MOST_WAITING and not (outlet.hurries or self._closed):
                self._changed.wait()
            if not self._closed:
                outlet.waiting += 1
                self._events.append((outlet, event))
                self._changed.notify_all()

    def hurry(self, outlet: Outlet) -> None:
        """This stream does not wait for room any more."""
        with self._changed:
            outlet.hurries = True
            self._changed.notify_all()

    def end(self, outlet: Outlet) -> None:
        """Nothing more comes from there. Idempotent."""
        with self._changed:
            if not outlet.ended:
                outlet.ended = True
                self._open -= 1
                self._changed.notify_all()


class Outlet(Sink):
    """A sink of one stream that puts its events into the queue.

    Attributes:
        name: Of the stream.
        waiting: How many of its events wait.
        hurries: Whether it is not to wait for room.
        ended: Whether nothing more comes.
    """

    def __init__(self, queue: EventQueue, name: str) -> None:
        self.name = name
        self.waiting = 0
        self.hurries = self.ended = False
        self._queue = queue

    def write_event(self, event: Event) -> None:
        """Wait for room and put the event there."""
        self._queue.put(self, event)

    def hurry(self) -> None:
        """Do not wait for room any more: the stream is to end."""
        self._queue.hurry(self)

    def end(self) -> None:
        """Nothing more comes. It is not `close` that says so: after it there may be a failure to note."""
        self._queue.end(self)

    def close(self) -> None:
        """See `Sink.close`."""
