"""Frames into an MP4 file, with the chance to draw on each before it is encoded."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, cast

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from ..frame import Frame, Image
from .planes import Planes

CODEC = "libx264"
# Fragments that start at key frames make a file that can be read up to its last fragment at every moment. Without
# B-frames, times begin at zero without an edit list, which such a file cannot have.
MUXER_OPTIONS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
CODEC_OPTIONS = {"preset": "superfast", "crf": "22", "bf": "0"}
KEY_FRAME_EVERY = 50

LONGEST_EDGE = (480, 1280)
"""Smaller videos are enlarged, so that the label can be read; larger ones are reduced."""


class Place(NamedTuple):
    """Where the frame lies in the picture of the video: all of it, unless the size of the frames has changed."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Picture:
    """A frame on its way into the video.

    Attributes:
        planes: To draw into.
        place: Where the frame lies in them.
        number: The frame's number.
        time: Its time, seconds.
        pts: Its time stamp in the video.
    """

    planes: Planes
    place: Place
    number: int
    time: Fraction
    pts: int


class VideoWriter:
    """Writes an MP4 (H.264, BT.709): from RGB frames to YUV planes, and from YUV planes to the file.

    Frames keep their exact times. The file can be played up to its last fragment (some fifty frames) at every moment.

    Args:
        path: The file, which is overwritten.
        width: Of the video, pixels, even.
        height: Of the video, pixels, even.
        time_base: Of the frames' time stamps.
        threads: Threads for the encoder.
    """

    def __init__(self, path: str, width: int, height: int, time_base: Fraction, threads: int) -> None:
        self._size = width, height
        self._reformatter = VideoReformatter()
        self._last_pts = -1
        self._duration = 0
        self._durations: dict[int, int] = {}  # of the pictures that are in the encoder
        # MP4 stores 32 bits; clocks finer than a microsecond are rounded to the 90 kHz of broadcasting.
        self._time_base = time_base if time_base > 0 and time_base.denominator <= 1_000_000 else Fraction(1, 90_000)
        self._container = av.open(path, "w", format="mp4", options=MUXER_OPTIONS)
        self._stream = cast(VideoStream, self._container.add_stream(CODEC, rate=30, options=CODEC_OPTIONS))
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        codec = self._stream.codec_context
        codec.time_base = self._time_base
        codec.gop_size = KEY_FRAME_EVERY
        codec.thread_count = threads
        # 1 is BT.709 in each of these tables (ITU-T H.273); range 1 is limited.
        codec.colorspace = codec.color_primaries = codec.color_trc = codec.color_range = 1

    def prepare(self, frame: Frame) -> Picture:
        """The frame in the size and colours of the video."""
        width, height = self._size
        fit = _fit(frame.image, width, height)
        picture = self._reformatter.reformat(
            av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(frame.image), format="rgb24"),
            width=fit[0],
            height=fit[1],
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BICUBIC,
        )
        planes = Planes(picture)
        pts = max(round(frame.time / self._time_base), self._last_pts + 1)
        self._last_pts = pts
        left, top = _inset(fit[0], width), _inset(fit[1], height)
        if fit != self._size:
            planes = _centred(planes, left, top, width, height)
        return Picture(planes, Place(left, top, *fit), frame.number, frame.time, pts)

    def write(self, picture: Picture, next_pts: int | None) -> None:
        """Encode one picture, which is shown until `next_pts`; the last one as long as the one before it."""
        planes, pts = picture.planes, picture.pts
        if next_pts is not None:
            self._duration = next_pts - pts
        self._durations[pts] = self._duration
        planes.frame.pts, planes.frame.time_base = pts, self._time_base
        planes.frame.colorspace = planes.frame.color_range = 1
        self._mux(planes.frame)

    def flush(self) -> None:
        """Write what the encoder still holds."""
        self._mux(None)

    def _mux(self, picture: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(picture):
            packet.duration = self._durations.pop(packet.pts or 0, 0)
            self._container.mux(packet)

    def close(self) -> None:
        """Finish the file."""
        self._container.close()


def output_size(image: Image) -> tuple[int, int]:
    """Width and height of the video for frames like this one: even, with the longest edge within `LONGEST_EDGE`."""
    height, width = image.shape[:2]
    longest = max(width, height)
    scale = min(max(longest, LONGEST_EDGE[0]), LONGEST_EDGE[1]) / longest
    return _even(width * scale), _even(height * scale)


def _fit(image: Image, width: int, height: int) -> tuple[int, int]:
    """Width and height of the image within the video: all of it unless the size of the frames has changed."""
    if output_size(image) == (width, height):
        return width, height
    scale = min(width / image.shape[1], height / image.shape[0])
    return min(width, _even(image.shape[1] * scale)), min(height, _even(image.shape[0] * scale))


def _inset(edge: int, of: int) -> int:
    """Where a shorter edge begins in the middle of a longer one; even."""
    return (of - edge) // 4 * 2


def _centred(planes: Planes, left: int, top: int, width: int, height: int) -> Planes:
    """The picture on a black one of the given size."""
    canvas = Planes(av.VideoFrame(width, height, "yuv420p"))
    canvas.y[:], canvas.u[:], canvas.v[:] = 16, 128, 128
    canvas.y[top : top + planes.height, left : left + planes.width] = planes.y
    for target, source in ((canvas.u, planes.u), (canvas.v, planes.v)):
        target[top // 2 : (top + planes.height) // 2, left // 2 : (left + planes.width) // 2] = source
    return canvas


def cut_to_whole_fragments(path: Path) -> None:
    """Remove a fragment at the end of the file that could not be written whole (ISO/IEC 14496-12, section 4.2)."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        position = whole = 0
        while position + 8 <= size:
            file.seek(position)
            length, kind = struct.unpack(">I4s", file.read(8))
            position += max(length, 8)
            if position <= size and kind != b"moof":  # the samples that a moof describes are in the box after it
                whole = position
        file.truncate(whole)


def _even(number: float) -> int:
    return max(16, round(number / 2) * 2)
