"""What a tracker is judged on: a sequence of pictures with a label for every pixel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..frame import Image

Labels = npt.NDArray[np.uint8]
"""Uint8 `[height, width]`: 0 is background, `VOID` is not counted, any other number is an object."""

VOID = 255


class TrackSequence(Protocol):
    """A sequence that can be read as often as one likes, one frame at a time."""

    @property
    def name(self) -> str:
        """For reports."""
        ...

    @property
    def scored(self) -> range:
        """Numbers of the frames that count."""
        ...

    def __len__(self) -> int:
        """How many frames it has."""
        ...

    def frames(self) -> Iterator[tuple[Image, Labels]]:
        """Every frame: the picture, and which pixel belongs to which object.

        Raises:
            SourceError: A frame cannot be read.
        """
        ...


def objects_of(labels: Labels) -> list[int]:
    """Numbers of the objects in a frame, ascending."""
    return [int(number) for number in np.unique(labels) if number not in (0, VOID)]
