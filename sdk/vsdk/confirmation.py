"""Confirmation: is what follows a boundary really another scene?

A valley of similarity says only that something changed between two neighbouring frames. A camera flash, a flickering
lamp and a truck that drives past do that too. What tells a new scene from an interruption is what comes next: after an
interruption the old scene returns. Candidates are rare, so this may look at many pairs of frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Given = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float64]


class RecentVectors:
    """The most recent frames' vectors, by frame index, in a ring that never grows; as given, and of unit length."""

    ALIGNMENT = 4  # so that a block of four frames never wraps around

    def __init__(self, capacity: int) -> None:
        self._capacity = -(-capacity // self.ALIGNMENT) * self.ALIGNMENT
        self.ring: Given = np.zeros((self._capacity, 0))
        self.norms = np.ones(self._capacity)
        self.count = 0

    def clear(self) -> None:
        """Forget all; vectors of any width may follow."""
        self.ring = np.zeros((self._capacity, 0))
        self.count = 0

    def append(self, vector: npt.NDArray[np.floating]) -> Given:
        """Store the next frame's vector `[width]`; return it as stored, valid until the ring comes round."""
        if self.count == 0:
            self.ring = np.zeros((self._capacity, len(vector)))
        slot = self.count % self._capacity
        row: Given = self.ring[slot]
        row[:] = vector
        self.count += 1
        return row

    def set_norm(self, norm: float) -> None:
        """The length of the vector stored last; a zero vector stays zero."""
        self.norms[(self.count - 1) % self._capacity] = norm if norm > 0 else 1.0

    def block_direction(self, frames: int) -> Vectors:
        """The direction of the newest unit vectors' sum; `count` must be a multiple of `frames`, a divisor of 4."""
        end = (self.count - 1) % self._capacity + 1
        total: Vectors = (1.0 / self.norms[end - frames : end]) @ self.ring[end - frames : end]
        total /= max(math.sqrt(total.dot(total)), 1e-12)
        return total

    def between(self, first: int, last: int) -> Vectors:
        """The unit vectors of frames first..last (inclusive), as far as they are still (or already) there."""
        low = max(first, self.count - self._capacity, 0)
        high = min(last, self.count - 1)
        slots = np.arange(low, high + 1) % self._capacity
        return self.ring[slots] / self.norms[slots, None]

    def turning_point(self, earlier: int, later: int, frames: int = 8) -> int:
        """The last frame in earlier..later that resembles what was before more than what comes after."""
        before = self.between(earlier - frames + 1, earlier).sum(axis=0)
        after = self.between(later, later + frames - 1).sum(axis=0)
        return earlier + max(0, int((self.between(earlier, later) @ (after - before) < 0).sum()) - 1)


@dataclass(frozen=True)
class Confirmation:
    """When a candidate counts as a new scene.

    All distances are 1 - cosine; that of a frame from a scene is to the scene's nearest frame.

    Attributes:
        distance: Least distance of the new scene's frames from the old scene.
        sharpness: A cut whose step is more than so many times larger than the steps around it (their 90th percentile)
            needs less distance, in proportion: two shots of one place are not far apart, but nothing moves so fast
            that it stands still before and after.
        sharp_distance: The least distance that the sharpest cut needs.
        intercut: Distance from which a scene may return soon: a shot that is intercut with another is a shot.
        before: Frames of the old scene to remember.
        horizon: Frames of the new scene to wait for.
        steady: Frames right after the change that must already belong to the new scene.
    """

    distance: float = 0.35
    sharpness: float = 4.0
    sharp_distance: float = 0.1
    intercut: float = 0.5
    before: int = 16
    horizon: int = 24
    steady: int = 8

    def holds(self, recent: RecentVectors, last: int, first: int) -> bool:
        """Whether the scene that ended with frame `last` is gone from frame `first` on."""
        old = recent.between(last - self.before + 1, last)
        new = recent.between(first, first + self.horizon - 1)
        if len(old) == 0 or len(new) == 0:
            return False
        distances = 1 - (new @ old.T).max(axis=1)
        is_cut = first == last + 1
        limit = self._cut_distance(old, new) if is_cut else self.distance
        opening = distances[: self.steady]
        if np.median(opening) <= limit:
            return False
        if is_cut and len(opening) == self.steady and opening.min() > self.intercut:
            return True
        tail = distances[-max(1, self.horizon // 4) :]
        return bool(np.median(distances) > limit and np.median(tail) > limit)

    def _cut_distance(self, old: Vectors, new: Vectors) -> float:
        """The distance that a cut needs, given how much it stands out from the motion around it."""
        around = np.concatenate([_steps(old), _steps(new[: self.steady])])
        if len(around) == 0:
            return self.distance
        step = 1 - float(old[-1].dot(new[0]))
        ratio = step / float(np.percentile(around, 90))
        return max(self.sharp_distance, self.distance * min(1.0, self.sharpness / max(ratio, 1e-6)))


def _steps(vectors: Vectors) -> Vectors:
    """Distances of neighbouring frames, never below what rounding leaves between equal ones."""
    return np.asarray(np.maximum(1 - np.einsum("ij,ij->i", vectors[:-1], vectors[1:]), 1e-6))


DEFAULT_CONFIRMATION = Confirmation()
