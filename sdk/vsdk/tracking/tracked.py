"""The tracked object: where an object is on one frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import InputError
from ..events import Mask
from .rle import MaskArray, Rle, encode_rle

Box = tuple[float, float, float, float]
"""`(x0, y0, x1, y1)` in pixels of the source, exclusive right and bottom edge."""

Point = tuple[float, float]
"""`(x, y)` in pixels of the source; the middle of the first pixel is `(0.5, 0.5)`."""


@dataclass(frozen=True, eq=False)
class TrackedObject:
    """Where one object is on one frame; what `Tracker.prompt` and `Tracker.track` give.

    Box, centroid, area and run-length encoding are made of the mask when they are first asked for.

    Attributes:
        object_id: The number that the application gave it.
        mask: Which pixels belong to it, bool `[height, width]`, as large as the frame. Belongs to the caller.
        score: How good the mask is in the network's own estimate: predicted intersection over union, 0 to 1.
        presence: Probability that the object is visible on the frame, 0 to 1.
        present: Whether it counts as visible; the mask of an absent object is empty.

    Raises:
        InputError: The mask is not a bool `[height, width]`.
    """

    object_id: int
    mask: MaskArray
    score: float
    presence: float
    present: bool

    def __post_init__(self) -> None:
        if self.mask.ndim != 2 or self.mask.dtype != np.bool_:
            raise InputError(
                f"the mask of object {self.object_id} is {self.mask.dtype} {list(self.mask.shape)}; "
                "a mask is bool [height, width]",
                hint="For logits use `logits > 0`.",
            )

    @cached_property
    def box(self) -> Box | None:
        """The smallest box around the mask, `(x0, y0, x1, y1)`; None when the object is absent or the mask empty."""
        if not self.present:
            return None
        rows = np.flatnonzero(self.mask.any(axis=1))
        if not len(rows):
            return None
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        columns = np.flatnonzero(self.mask[top:bottom].any(axis=0))
        return float(columns[0]), float(top), float(columns[-1] + 1), float(bottom)

    @cached_property
    def area(self) -> int:
        """How many pixels belong to the object; 0 when it is absent."""
        return int(np.count_nonzero(self.mask)) if self.present else 0

    @cached_property
    def centroid(self) -> Point | None:
        """The mean of the mask's pixels, `(x, y)`; None when there is no box."""
        if self.box is None:
            return None
        x0, y0, x1, y1 = (int(edge) for edge in self.box)
        inside = self.mask[y0:y1, x0:x1]
        across = np.count_nonzero(inside, axis=0) @ np.arange(x0, x1)
        down = np.count_nonzero(inside, axis=1) @ np.arange(y0, y1)
        return float(across / self.area + 0.5), float(down / self.area + 0.5)

    @cached_property
    def rle(self) -> Rle:
        """The mask in COCO's run-length encoding, as `pycocotools` reads it."""
        return encode_rle(self.mask)

    def event(self, frame: int, time: float) -> Mask:
        """The event that tells of the object.

        Args:
            frame: Number of the frame.
            time: Its time in seconds.
        """
        return Mask(frame, time, self.object_id, self.score, self.presence, self.present, self.box, self.rle, self.mask)

    def __repr__(self) -> str:
        where = "absent" if self.box is None else f"box={self.box}"
        return f"TrackedObject({self.object_id}, {where}, score={self.score:.3f}, presence={self.presence:.3f})"
