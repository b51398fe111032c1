"""Pictures are given the way up that they are meant to be seen: phones record sideways and say so."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import av

from ..frame import Image


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to put a picture upright: first perhaps exchange x and y, then perhaps mirror.

    Attributes:
        transpose: Rows become columns.
        mirror_x: Left and right change places (after the exchange).
        mirror_y: Top and bottom change places (after the exchange).
    """

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @classmethod
    def of(cls, picture: av.VideoFrame) -> Orientation:
        """What the picture's display matrix says; a matrix of other angles counts as the nearest quarter turn."""
        matrix: Any = picture.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return cls()
        # Nine fixed-point numbers, row by row; a point (x, y) is shown at (a x + c y, b x + d y).
        a, b, _, c, d = struct.unpack_from("=5i", matrix)
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(transpose=True, mirror_x=c < 0, mirror_y=b < 0)
        return cls(mirror_x=a < 0, mirror_y=d < 0)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height once upright."""
        return (height, width) if self.transpose else (width, height)

    def apply(self, image: Image) -> Image:
        """The picture upright, as a view."""
        if self.transpose:
            image = image.transpose(1, 0, 2)
        return image[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]
