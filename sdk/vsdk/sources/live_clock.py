"""Where the pictures of a live source lie in time, and where a new generation begins."""

from __future__ import annotations

from fractions import Fraction

from .connection import Picture
from .timeline import SMALLEST_STEP

LONGEST_LEAP = Fraction(10)
"""Seconds by which stamps may run ahead of the clock; more is a clock that was set. Senders do send bursts."""

_NANOSECOND = Fraction(1, 1_000_000_000)


class LiveClock:
    """Gives each picture its time in seconds since the first one, and says when the old stamps no longer count.

    Within a generation times are exactly those of the stamps. From one generation to the next the time that went by is
    taken from the clock of the machine, because stamps of different connections have nothing to do with each other. So
    it is for pictures without a stamp.

    A generation ends with the connection, when the size of the pictures changes, when stamps go back, and when they
    leap ahead of the machine's clock by more than `LONGEST_LEAP`.

    Attributes:
        generation: Of the last picture.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._last: Fraction | None = None
        self._last_captured_ns = 0
        self._size: tuple[int, int] | None = None
        self._offset: Fraction | None = None  # to be added to a stamp's seconds; None until a stamp has been seen
        self._last_stamp = Fraction(0)  # in seconds
        self._reconnected = False

    def reconnect(self) -> None:
        """The pictures that follow come from another connection."""
        self._reconnected = self._last is not None

    def place(self, picture: Picture) -> tuple[Fraction, str | None]:
        """The time of the next picture, later than that of the one before it.

        Returns:
            Seconds; and if a new generation begins with it: why. The text is empty after a reconnection.
        """
        expected = self._expected(picture)
        stamp = None if picture.pts is None else picture.pts * picture.time_base
        reason = self._why_new(picture, stamp, expected)
        if reason is not None:
            self.generation += 1
            self._offset = None
        if stamp is None:
            time = expected
        else:
            if self._offset is None:
                self._offset = expected - stamp
            self._last_stamp = stamp
            time = stamp + self._offset
            if self._last is not None and time <= self._last:  # two pictures with one stamp
                time = self._last + SMALLEST_STEP
        self._last, self._last_captured_ns = time, picture.captured_ns
        self._size = picture.width, picture.height
        self._reconnected = False
        return time, reason

    def _expected(self, picture: Picture) -> Fraction:
        """The time by the machine's clock."""
        if self._last is None:
            return Fraction(0)
        return self._last + max((picture.captured_ns - self._last_captured_ns) * _NANOSECOND, SMALLEST_STEP)

    def _why_new(self, picture: Picture, stamp: Fraction | None, expected: Fraction) -> str | None:
        if self._last is None:
            return None
        if self._reconnected:
            return ""
        if self._size != (picture.width, picture.height):
            old = "x".join(map(str, self._size or ()))
            return f"the frame size changed from {old} to {picture.width}x{picture.height}"
        if stamp is None or self._offset is None:
            return None
        if stamp < self._last_stamp:
            return f"time stamps went back by {float(self._last_stamp - stamp):.3f} s"
        leap = stamp + self._offset - expected
        return f"time stamps leapt ahead by {float(leap):.0f} s" if leap > LONGEST_LEAP else None
