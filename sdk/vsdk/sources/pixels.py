"""Bytes that somebody else laid out, a pipe or a mapped buffer, become a picture.

A layout says where each plane begins and how far its rows are apart. The names of the formats are FFmpeg's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import av
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..frame import Image
from .rgb import RgbConverter

_PLANES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "rgb24": ((3, 1, 1),),
    "bgr24": ((3, 1, 1),),
    "rgba": ((4, 1, 1),),
    "bgra": ((4, 1, 1),),
    "gray": ((1, 1, 1),),
    "nv12": ((1, 1, 1), (2, 2, 2)),
    "nv21": ((1, 1, 1), (2, 2, 2)),
    "yuv420p": ((1, 1, 1), (1, 2, 2), (1, 2, 2)),
    "yuvj420p": ((1, 1, 1), (1, 2, 2), (1, 2, 2)),
    "yuv422p": ((1, 1, 1), (1, 2, 1), (1, 2, 1)),
    "yuv444p": ((1, 1, 1), (1, 1, 1), (1, 1, 1)),
    "yuyv422": ((4, 2, 1),),
    "uyvy422": ((4, 2, 1),),
}
"""For each plane the bytes of a group of pixels, and how many pixels it covers across and down."""

FORMATS = tuple(_PLANES)
"""The pixel formats that can be read, all of 8 bits a sample."""

LONGEST_EDGE = 32_768
"""Pixels. Larger pictures are a mistake, or an attack on the memory."""


@dataclass(frozen=True)
class PixelLayout:
    """Where the samples of a picture lie in a buffer.

    Attributes:
        format: One of `FORMATS`.
        width: Pixels.
        height: Pixels.
        strides: Bytes from one row to the next, for each plane.
        offsets: The first byte of each plane.
        matrix: Colour matrix as a number of ISO/IEC 23091-2, for formats with chroma; 2 is unknown.
        full_range: Whether black is 0 rather than 16; None is unknown. `rgb.py` says what becomes of unknowns.

    Raises:
        InputError: Such a picture there cannot be.
    """

    format: str
    width: int
    height: int
    strides: tuple[int, ...]
    offsets: tuple[int, ...]
    matrix: int = 2
    full_range: bool | None = None

    def __post_init__(self) -> None:
        planes = plane_sizes(self.format, self.width, self.height)
        if len(self.strides) != len(planes) or len(self.offsets) != len(planes):
            raise InputError(
                f"{self.format} has {len(planes)} planes, not {len(self.strides)} strides, {len(self.offsets)} offsets"
            )
        for (_, row_bytes), stride, offset in zip(planes, self.strides, self.offsets, strict=True):
            if offset < 0 or stride < row_bytes:
                raise InputError(f"a row of {row_bytes} bytes cannot lie at offset {offset} with a stride of {stride}")

    @classmethod
    def packed(cls, format_name: str, width: int, height: int) -> PixelLayout:
        """Row after row and plane after plane without a gap, as FFmpeg writes raw video.

        In subsampled formats an odd edge is rounded up: 95 pixels have 48 chroma samples.
        """
        strides, offsets, end = [], [], 0
        for rows, row_bytes in plane_sizes(format_name, width, height):
            strides.append(row_bytes)
            offsets.append(end)
            end += rows * row_bytes
        return cls(format_name, width, height, tuple(strides), tuple(offsets))

    @property
    def size(self) -> int:
        """The least number of bytes that hold the picture; the last row needs no padding."""
        planes = plane_sizes(self.format, self.width, self.height)
        return max(
            offset + (rows - 1) * stride + row_bytes
            for (rows, row_bytes), stride, offset in zip(planes, self.strides, self.offsets, strict=True)
        )


def plane_sizes(format_name: str, width: int, height: int) -> list[tuple[int, int]]:
    """Rows, and bytes in a row, of each plane.

    Raises:
        InputError: The format is unknown, or the size absurd.
    """
    if format_name not in _PLANES:
        raise InputError(f"the pixel format {format_name!r} is not known", hint=f"Known are: {', '.join(FORMATS)}")
    if not (1 <= width <= LONGEST_EDGE and 1 <= height <= LONGEST_EDGE):
        raise InputError(f"{width}x{height} is no size; both edges must be between 1 and {LONGEST_EDGE} pixels")
    return [
        (math.ceil(height / down), group * math.ceil(width / across)) for group, across, down in _PLANES[format_name]
    ]


def rgb_from(data: bytes | bytearray | memoryview, layout: PixelLayout, converter: RgbConverter) -> Image:
    """The picture in a buffer as RGB, uint8 `[height, width, 3]`, in memory of its own. Alpha is dropped.

    Args:
        data: The buffer; it is only looked at during the call.
        layout: Where the samples are in it.
        converter: That of the source.

    Raises:
        InputError: The buffer is too small.
    """
    if len(data) < layout.size:
        raise InputError(f"a buffer of {len(data)} bytes cannot hold the {layout.size} bytes of the picture")
    return converter.convert(_video_frame(_planes(data, layout), layout))


def _planes(data: bytes | bytearray | memoryview, layout: PixelLayout) -> list[npt.NDArray[np.uint8]]:
    """Each plane as an array `[rows, bytes]`: a view, whose rows may be apart."""
    array = np.frombuffer(data, np.uint8)
    sizes = plane_sizes(layout.format, layout.width, layout.height)
    return [
        np.lib.stride_tricks.as_strided(array[offset:], size, (stride, 1), writeable=False)
        for size, stride, offset in zip(sizes, layout.strides, layout.offsets, strict=True)
    ]


def _video_frame(planes: Sequence[npt.NDArray[np.uint8]], layout: PixelLayout) -> av.VideoFrame:
    frame = av.VideoFrame(layout.width, layout.height, layout.format)
    for plane, samples in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        rows[:, : samples.shape[1]] = samples
    frame.colorspace = layout.matrix
    if layout.full_range is not None:
        frame.color_range = 2 if layout.full_range else 1
    return frame
