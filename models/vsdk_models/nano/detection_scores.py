"""How well detected scene boundaries agree with the truth.

Detections and truth are matched one to one, so that a boundary reported twice counts once as right and once as false.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .clips import Transition

Interval = tuple[int, int]


@dataclass(frozen=True)
class Score:
    """Counts of one or more clips; adding two scores gives the micro-average.

    Attributes:
        matched: Transitions found.
        missed: Transitions not found.
        false: Detections that match nothing.
    """

    matched: int = 0
    missed: int = 0
    false: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(self.matched + other.matched, self.missed + other.missed, self.false + other.false)

    @property
    def precision(self) -> float:
        """Share of the detections that are right; 1 where there is none."""
        found = self.matched + self.false
        return self.matched / found if found else 1.0

    @property
    def recall(self) -> float:
        """Share of the transitions that are found; 1 where there is none."""
        there = self.matched + self.missed
        return self.matched / there if there else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 where nothing is to be found and nothing was."""
        counted = 2 * self.matched + self.missed + self.false
        return 2 * self.matched / counted if counted else 1.0


def window(transition: Transition, tolerance: int = 1) -> Interval:
    """Frame numbers, both inclusive, at which a detection of this transition is right.

    A detection names the first frame of the new scene; that is a cut's own frame, and for a gradual change anything
    from its first frame to the one after its last.
    """
    end = transition.last if transition.kind == "cut" else transition.last + 1
    return transition.first - tolerance, end + tolerance


def score(
    detected: Iterable[int], truth: Sequence[Transition], tolerance: int = 1, ignored: Sequence[Interval] = ()
) -> Score:
    """Match detections to transitions one to one, as many as can be.

    Args:
        detected: Numbers of the first frames of new scenes, in any order.
        truth: The transitions.
        tolerance: Frames by which a detection may miss.
        ignored: Intervals, both ends inclusive, in which a detection that matches nothing is not counted.
    """
    waiting = sorted(detected)
    matched = 0
    # Serving the window that closes first with the earliest detection in it gives a largest matching.
    for first, last in sorted((window(change, tolerance) for change in truth), key=lambda span: span[1]):
        fitting = next((position for position in waiting if first <= position <= last), None)
        if fitting is not None:
            waiting.remove(fitting)
            matched += 1
    false = sum(1 for position in waiting if not any(low <= position <= high for low, high in ignored))
    return Score(matched, len(truth) - matched, false)
