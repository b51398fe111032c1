"""Where the capturing thread leaves pictures and the reading thread takes them, with the state changes in between."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from fractions import Fraction

from ..events import SourceState
from .connection import Picture

MOST_WAITING = 16
"""Pictures of a queue in which none is dropped."""

MOST_WAITING_BYTES = 64 * 2**20
"""The same in bytes: sixteen pictures of 4K are 200 MB."""

MOST_STATES = 256
"""State changes that are kept for a reader that does not come; older ones go."""


@dataclass(frozen=True, eq=False)
class Numbered:
    """A picture with its place in the stream.

    Attributes:
        picture: Not converted yet.
        number: Of the frame.
        time: Seconds since the first frame.
        generation: See `SourceState`.
    """

    picture: Picture
    number: int
    time: Fraction
    generation: int


class Mailbox:
    """Pictures and state changes in the order in which they happened.

    Args:
        changed: Guards everything; callers hold it. It is notified when something can be put or taken.
        every: Whether pictures wait for room. Otherwise there is one picture at most, the newest.

    Attributes:
        dropped: Pictures that were replaced before they were taken.
    """

    def __init__(self, changed: threading.Condition, *, every: bool) -> None:
        self.every = every
        self.dropped = 0
        self._changed = changed
        self._items: deque[Numbered | SourceState] = deque()
        self._pictures = self._bytes = 0

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._items

    @property
    def full(self) -> bool:
        """Whether a picture would have to wait."""
        return self.every and (self._pictures >= MOST_WAITING or self._bytes >= MOST_WAITING_BYTES)

    def put(self, item: Numbered | SourceState) -> None:
        """Add something; without `every`, a picture replaces the one that waits."""
        if isinstance(item, Numbered):
            if not self.every and self._pictures:
                self._remove(next(kept for kept in self._items if isinstance(kept, Numbered)))
                self.dropped += 1
            self._pictures += 1
            self._bytes += item.picture.size
        elif len(self._items) - self._pictures >= MOST_STATES:
            self._remove(next(kept for kept in self._items if isinstance(kept, SourceState)))
        self._items.append(item)
        self._changed.notify_all()

    def take(self) -> Numbered | SourceState | None:
        """The oldest thing that waits, or None."""
        if not self._items:
            return None
        item = self._items[0]
        self._remove(item)
        self._changed.notify_all()
        return item

    def clear(self) -> None:
        """Forget everything."""
        self._items.clear()
        self._pictures = self._bytes = 0
        self._changed.notify_all()

    def _remove(self, item: Numbered | SourceState) -> None:
        self._items.remove(item)
        if isinstance(item, Numbered):
            self._pictures -= 1
            self._bytes -= item.picture.size
