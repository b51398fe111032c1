"""The frame: one picture with everything that is known of when it was taken."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""An RGB picture, uint8 `[height, width, 3]`; any strides."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a source.

    Attributes:
        image: RGB, uint8 `[height, width, 3]`.
        number: The source's frame number, from 0; frames that were dropped leave gaps.
        time: Seconds since the first frame of the stream, exact.
        pts: Presentation time stamp in units of `time_base`, or None where the container has none.
        time_base: Seconds for each unit of `pts`.
        captured_ns: `time.monotonic_ns()` when the frame had been decoded.
        generation: Of a live source: counts connections, changes of the frame size, and jumps of the time stamps. From
            one generation to the next, `time` goes by the clock of this machine.
    """

    image: Image
    number: int
    time: Fraction
    pts: int | None
    time_base: Fraction
    captured_ns: int
    generation: int = 0

    @property
    def time_ns(self) -> int:
        """`time` in whole nanoseconds."""
        return round(self.time * 1_000_000_000)

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        return f"Frame(number={self.number}, time={float(self.time):.3f}, {width}x{height})"
