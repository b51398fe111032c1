"""Segments: the few frames that stand for a scene, chosen while the scene is still open.

The reference (VideoLLaMB, `rmt_r_transformer_projector.py`) takes frames `trunc(linspace(start, end, min(8, length)))`
of a scene whose end it knows. A stream does not know the end, and cannot keep everything, so at most 16 frames are
kept beside the newest, first all of them, then every second, every fourth and so on; at the close the 8 nearest to the
reference's choice are taken. Scenes of up to 16 frames give exactly the reference's frames, longer ones are off by at
most half the stride.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np

CAPACITY = 16
SEGMENT_FRAMES = 8

Item = TypeVar("Item")


def reference_positions(length: int, count: int = SEGMENT_FRAMES) -> list[int]:
    """Positions within a scene of `length` frames that the reference samples: at most `count`, from first to last."""
    return [int(position) for position in np.linspace(0, length - 1, min(count, length))]


class EvenSample(Generic[Item]):
    """At most `capacity` of the items added, evenly spread, and the newest one: bounded memory, open end."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self.clear()

    def clear(self) -> None:
        """Start anew."""
        self._kept: list[tuple[int, Item]] = []
        self._stride = 1
        self.count = 0

    def add(self, item: Item) -> None:
        """Add the next item; it stays when its position is a multiple of the current stride."""
        if self._kept and self._kept[-1][0] % self._stride:
            self._kept.pop()  # the newest so far was only there for being the newest
        if self.count % self._stride == 0 and len(self._kept) == self._capacity:
            self._kept = self._kept[::2]
            self._stride *= 2
        self._kept.append((self.count, item))
        self.count += 1

    def choose(self, count: int = SEGMENT_FRAMES) -> list[Item]:
        """The kept items nearest to the reference's positions, in order, none twice."""
        if not self._kept:
            return []
        positions = np.array([position for position, _ in self._kept])
        nearest = {int(np.abs(positions - want).argmin()) for want in reference_positions(self.count, count)}
        return [self._kept[index][1] for index in sorted(nearest)]

    def middle(self) -> Item | None:
        """The kept item nearest to the middle."""
        if not self._kept:
            return None
        return min(self._kept, key=lambda kept: abs(kept[0] - (self.count - 1) / 2))[1]
