"""What waits to be sent: a queue that never grows beyond its bound, and counts what it had to drop."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """Something to publish; `qos` is MQTT's quality of service: 0 at most once, 1 at least once."""

    topic: str
    payload: bytes
    qos: int


class Outbox:
    """Messages in order, put by one thread and taken by another; neither ever waits.

    When it is full, the oldest message of quality 0 makes room, or else the oldest of all: a scene is worth more than
    a statistic, and what is new more than what is old.

    Args:
        capacity: Most messages.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._lock = threading.Lock()
        self._messages: deque[Message] = deque()
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def dropped(self) -> int:
        """How many messages were dropped."""
        return self._dropped

    def put(self, message: Message) -> None:
        """Add a message, dropping one if there is no room."""
        with self._lock:
            if len(self._messages) >= self.capacity:
                self._make_room()
            self._messages.append(message)

    def put_back(self, message: Message) -> None:
        """Return the message that was taken last; being the oldest, it is the one to go when there is no room."""
        with self._lock:
            if len(self._messages) >= self.capacity:
                self._dropped += 1
            else:
                self._messages.appendleft(message)

    def take(self) -> Message | None:
        """The oldest message, or None."""
        with self._lock:
            return self._messages.popleft() if self._messages else None

    def count_lost(self, messages: int) -> None:
        """Count messages that were taken and then lost."""
        with self._lock:
            self._dropped += messages

    def _make_room(self) -> None:
        self._dropped += 1
        for place, message in enumerate(self._messages):
            if message.qos == 0:
                del self._messages[place]
                return
        self._messages.popleft()
