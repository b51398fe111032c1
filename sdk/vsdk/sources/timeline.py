"""Time: from the stamps of a container to seconds since the first frame, exact and always rising."""

from __future__ import annotations

import numbers
from fractions import Fraction

from ..errors import InputError

DEFAULT_FRAME_RATE = Fraction(25)
"""For pictures without any stated rate: image folders, arrays, raw streams that declare none."""

LONGEST_DISORDER = Fraction(1)
"""Seconds. A smaller step back is frames out of order, a larger one is a new run of the clock."""

SMALLEST_STEP = Fraction(1, 1_000_000)
"""Seconds. The least distance of two frames, so that their nanoseconds differ too."""


class Timeline:
    """Places frames in time.

    A frame with a time stamp is exactly `(stamp - first stamp) * time_base` after the first frame. Where that would not
    be later than the frame before it:

    * less than `LONGEST_DISORDER` back, the frame comes one tick of the time base after its predecessor, and the frames
      after it are where their own stamps say;
    * further back, the clock is taken to have started anew: the frame comes one frame duration after its predecessor,
      and the frames after it are counted from there.

    A frame without a stamp comes one frame duration after its predecessor. So does a frame whose stamp leaps ahead or
    back only for that of the following frame to return: one damaged stamp must not displace all that comes after it.

    Args:
        time_base: Seconds for each unit of the stamps.
        frame_rate: Frames a second, for frames without stamps.
    """

    def __init__(self, time_base: Fraction, frame_rate: Fraction) -> None:
        self._time_base = time_base
        self._tick = max(time_base, SMALLEST_STEP)
        self._duration = max(1 / frame_rate, SMALLEST_STEP)
        self._last: Fraction | None = None
        self._offset: Fraction | None = None  # to be added to a stamp's seconds; None until a stamp has been seen

    def place(self, stamp: int | None, following: int | None = None) -> Fraction:
        """The time of the next frame in seconds: 0 for the first, and later for each one after it.

        Args:
            stamp: The frame's own, or None.
            following: That of the frame after it, or None.
        """
        expected = Fraction(0) if self._last is None else self._last + self._duration
        if stamp is None or self._leaps(stamp, following):
            self._last = expected
            return expected
        seconds = stamp * self._time_base
        if self._offset is None:
            self._offset = expected - seconds
        time = seconds + self._offset
        if self._last is not None and time <= self._last:
            if self._last - time >= LONGEST_DISORDER:
                self._offset = expected - seconds
                time = expected
            else:
                time = self._last + self._tick
        self._last = time
        return time

    def _leaps(self, stamp: int, following: int | None) -> bool:
        if following is None or self._last is None or self._offset is None:
            return False
        time, returns = (value * self._time_base + self._offset for value in (stamp, following))
        return returns > self._last and max(time - returns, self._last - time) >= LONGEST_DISORDER


def checked_frame_rate(value: Fraction | float) -> Fraction:
    """A frame rate as a fraction; floats such as 29.97 become the nearest simple one.

    Raises:
        InputError: Not a positive, finite number.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"a frame rate must be a number, not {value!r}")
    try:
        rate = Fraction(value).limit_denominator(1_000_000)
    except (ValueError, OverflowError) as error:
        raise InputError(f"a frame rate must be finite, not {value!r}") from error
    if rate <= 0:
        raise InputError(f"a frame rate must be more than 0, not {value!r}")
    return rate
