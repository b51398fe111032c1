"""At most so many frames a second."""

from __future__ import annotations

from fractions import Fraction


class Thinning:
    """Chooses frames by their times, evenly: a sender that bursts and pauses is thinned as one that does not.

    Args:
        most: Frames a second; None chooses all.
    """

    def __init__(self, most: float | None) -> None:
        self._interval = None if most is None else 1 / Fraction(most)
        self._due: Fraction | None = None

    def takes(self, seconds: Fraction) -> bool:
        """Whether the frame of this time is taken; times rise."""
        if self._interval is None:
            return True
        due = seconds if self._due is None else self._due
        if seconds < due:
            return False
        late = seconds - due
        self._due = (due if late < self._interval else seconds) + self._interval
        return True
