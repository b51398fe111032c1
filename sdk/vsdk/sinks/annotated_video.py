"""The annotated video: the frames that were seen, with the scenes drawn over them."""

from __future__ import annotations

import contextlib
import os
import struct
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar, cast

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from vsdk_runtimes.errors import SinkError

from ..events import Event, Scene
from ..frame import Frame, Image
from .file_sink import FileSink, check_writable
from .overlay import Overlay, Planes

CODEC = "libx264"
# Fragments that start at key frames make a file that can be read up to its last fragment at every moment. Without
# B-frames, times begin at zero without an edit list, which such a file cannot have.
MUXER_OPTIONS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
CODEC_OPTIONS = {"preset": "superfast", "crf": "22", "bf": "0"}
KEY_FRAME_EVERY = 50

LONGEST_EDGE = (480, 1280)
"""Smaller videos are enlarged, so that the label can be read; larger ones are reduced."""

HOLD_FRAMES = 128
HOLD_BYTES = 96 * 2**20


@dataclass(frozen=True)
class _Held:
    """A frame that waits until it is known to which scene it belongs."""

    planes: Planes
    number: int
    time: Fraction
    pts: int


class AnnotatedVideo(FileSink):
    """Writes an MP4 (H.264, BT.709) of the frames with scene index, time, a strip of scenes and a flash at each cut.

    Frames keep their exact times. A boundary becomes known some frames after it happened, so frames are held back, at
    most `HOLD_FRAMES` and `HOLD_BYTES`; one that had to be let go earlier carries the index of the scene known then.
    The file can be played up to its last fragment (some fifty frames) even when the process is killed.

    Args:
        path: The MP4 file, which is overwritten. Without a single frame, there will be no file.
        duration: Length of the video in seconds if it is known, for the strip.
        threads: Threads for the H.264 encoder.

    Raises:
        SinkError: The file cannot be written, or this PyAV has no H.264 encoder.
    """

    wants_frames = True
    failures: ClassVar[tuple[type[Exception], ...]] = (OSError, av.FFmpegError)

    def __init__(self, path: str | os.PathLike[str], *, duration: float | None = None, threads: int = 2) -> None:
        super().__init__(path)
        if CODEC not in av.codecs_available:
            raise SinkError(
                f"cannot write {self.path}: this build of PyAV has no {CODEC} encoder",
                hint="Install PyAV's own wheel, which has it: pip install --force-reinstall --only-binary=av av",
            )
        with self._failures_named():
            self._target = check_writable(self.path)
            self._target.write_bytes(b"")
        self._duration = duration
        self._threads = threads
        self._held: deque[_Held] = deque()
        self._scene = 0
        self._scene_start = 0.0
        self._writer: _Writer | None = None
        self._overlay: Overlay | None = None

    def _take_frame(self, frame: Frame) -> None:
        if self._writer is None:
            width, height = _output_size(frame.image)
            self._writer = _Writer(str(self._target), width, height, frame.time_base, self._threads)
            self._overlay = Overlay(width, height, self._duration)
        planes, pts = self._writer.prepare(frame)
        self._held.append(_Held(planes, frame.number, frame.time, pts))
        if len(self._held) > min(HOLD_FRAMES, HOLD_BYTES * 2 // (3 * planes.y.size)):
            self._release()

    def _take_event(self, event: Event) -> None:
        if isinstance(event, Scene):
            self._scene, self._scene_start = event.index, event.start
            while self._held and self._held[0].number <= event.end_frame:
                self._release()
            self._scene, self._scene_start = event.index + 1, event.end

    def _release(self) -> None:
        """Draw on the frame that was held longest, and encode it."""
        assert self._writer is not None
        assert self._overlay is not None
        held = self._held.popleft()
        self._overlay.draw(
            held.planes,
            number=held.number,
            time=float(held.time),
            scene=self._scene,
            scene_start=self._scene_start,
        )
        self._writer.write(held.planes, held.pts, self._held[0].pts if self._held else None)

    def _finish(self) -> None:
        if self._writer is None:
            self._target.unlink(missing_ok=True)
            return
        try:
            while self._held:
                self._release()
            self._writer.flush()
        except BaseException:
            with contextlib.suppress(*self.failures):  # the first failure is the one to report
                self._writer.close()
            _cut_to_whole_fragments(self._target)
            raise
        self._writer.close()


class _Writer:
    """From RGB frames to YUV planes, and from YUV planes to the file."""

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

    def prepare(self, frame: Frame) -> tuple[Planes, int]:
        """The picture in the size and colours of the video, and its time stamp."""
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
        return (planes if fit == self._size else _centred(planes, width, height)), pts

    def write(self, planes: Planes, pts: int, next_pts: int | None) -> None:
        """Encode one picture, which is shown until `next_pts`; the last one as long as the one before it."""
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


def _output_size(image: Image) -> tuple[int, int]:
    """Width and height of the video for frames like this one: even, with the longest edge within `LONGEST_EDGE`."""
    height, width = image.shape[:2]
    longest = max(width, height)
    scale = min(max(longest, LONGEST_EDGE[0]), LONGEST_EDGE[1]) / longest
    return _even(width * scale), _even(height * scale)


def _fit(image: Image, width: int, height: int) -> tuple[int, int]:
    """Width and height of the image within the video: all of it unless the size of the frames has changed."""
    if _output_size(image) == (width, height):
        return width, height
    scale = min(width / image.shape[1], height / image.shape[0])
    return min(width, _even(image.shape[1] * scale)), min(height, _even(image.shape[0] * scale))


def _centred(planes: Planes, width: int, height: int) -> Planes:
    """The picture on a black one of the given size."""
    canvas = Planes(av.VideoFrame(width, height, "yuv420p"))
    canvas.y[:], canvas.u[:], canvas.v[:] = 16, 128, 128
    left, top = (width - planes.width) // 4 * 2, (height - planes.height) // 4 * 2
    canvas.y[top : top + planes.height, left : left + planes.width] = planes.y
    for target, source in ((canvas.u, planes.u), (canvas.v, planes.v)):
        target[top // 2 : (top + planes.height) // 2, left // 2 : (left + planes.width) // 2] = source
    return canvas


def _cut_to_whole_fragments(path: Path) -> None:
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
