"""The journal: the last events of all streams, numbered, for readers that each go at their own pace.

Readers keep nothing but the number that they have read up to, so a slow one costs no memory. One that has fallen
further behind than the journal reaches is told so, and starts anew from what is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """One entry: its number, which kind it is, and what it says, as JSON."""

    number: int
    kind: str
    content: str


class Journal:
    """At most so many messages; written by any thread, read by coroutines of one event loop and by threads.

    Args:
        capacity: Most messages that are kept.
    """

    def __init__(self, capacity: int) -> None:
        self._messages: deque[Message] = deque(maxlen=capacity)
        self._newest = 0
        self._lock = threading.Lock()
        self._bell = _Bell()

    @property
    def newest(self) -> int:
        """Number of the newest message; 0 before the first."""
        return self._newest

    def add(self, kind: str, content: str) -> None:
        """Write a message, which gets the next number; readers that wait are woken."""
        with self._lock:
            self._newest += 1
            self._messages.append(Message(self._newest, kind, content))
        self._bell.ring()

    def after(self, number: int) -> list[Message] | None:
        """The messages with greater numbers, in order; None if some of them are gone, or `number` never was."""
        with self._lock:
            oldest = self._newest - len(self._messages) + 1
            if number + 1 < oldest or number > self._newest:
                return None
            return [message for message in self._messages if message.number > number]

    async def wait(self, number: int, seconds: float) -> None:
        """Wait for a message with a greater number, but not longer than this; may also return for nothing."""
        rung = self._bell.listen()  # before looking, so that nothing slips through between the two
        if self._newest > number:
            return
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(rung.wait(), seconds)

    def wake(self) -> None:
        """Wake all who wait, although there is nothing new."""
        self._bell.ring()


class _Bell:
    """Wakes coroutines of one event loop from any thread; many rings before the loop comes round are one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rung = asyncio.Event()
        self._on_its_way = False

    def ring(self) -> None:
        with self._lock:
            if self._loop is None or self._on_its_way:
                return
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._wake)
                self._on_its_way = True

    def listen(self) -> asyncio.Event:
        """What the next ring sets; called in the event loop."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
            return self._rung

    def _wake(self) -> None:
        with self._lock:
            self._on_its_way = False
            rung, self._rung = self._rung, asyncio.Event()
        rung.set()
