"""A video file, read with PyAV from its first frame to its last."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator, Iterator
from fractions import Fraction
from operator import attrgetter
from pathlib import Path
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from ..errors import InputError, SourceEmptyError, SourceUnreadableError
from ..frame import Frame
from .orientation import Orientation
from .paths import kind_of
from .pyav_errors import pyav_errors
from .recorded import RecordedSource
from .rgb import RgbConverter
from .timeline import DEFAULT_FRAME_RATE, Timeline

logger = logging.getLogger(__name__)

MOST_THREADS = 4
"""More would decode faster than anything here consumes, and each holds a frame."""

MOST_READ_FAILURES = 16
"""After so many failures in a row to find the next packet, the file is over."""

_NOT_SELF_CONTAINED = {
    *("concat", "dash", "hls", "imf", "rtp", "rtsp", "sdp", "webm_dash_manifest"),  # name other files or addresses
    *("avisynth", "lavfi", "vapoursynth"),  # run scripts
    *("adf", "bin", "idf", "tty", "xbin"),  # render text
}
"""Demuxers that FFmpeg picks by a file's name or first line, and that would do something else than play this file."""

_OPTIONS = {
    "format_whitelist": ",".join(sorted(av.formats_available - _NOT_SELF_CONTAINED)),
    "protocol_whitelist": "file,crypto,data",
}
# Damaged titles are no reason to refuse a video; from 19 on PyAV takes them as they are.
_TOLERANT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


class VideoFile(RecordedSource):
    """The frames of a video file, all of them, in the order in which they are shown.

    * Colours follow the file's matrix and range (`rgb.py`), rotation and mirroring its display matrix. Pixels are given
      as they are stored: no deinterlacing, no correction of non-square pixels.
    * `Frame.pts` and `Frame.time_base` are the container's, exactly; AVI keeps decoding times only, which stand in for
      them. `Frame.time` rises always; `timeline.Timeline` says what happens to stamps that are missing or fall.
    * A damaged packet is skipped and counted in `decode_errors`; frames are numbered as they are given. FFmpeg conceals
      most damage without telling, so `decode_errors` is a lower bound. A file that was cut short simply ends earlier;
      damage in its very last packets can cost the frames in flight, of which there is one for each thread.
    * The file is read by itself: a playlist, a script or a session description is refused, and no other file and no
      network address is opened, whatever it says.

    Args:
        path: The file, in any container and codec that PyAV knows.
        threads: Most threads that the decoder may use; by default one for each core and at most 4.

    Raises:
        SourceNotFoundError: No such file.
        SourceUnreadableError: Not a video, damaged beyond use, or without a video stream.
        SourceEmptyError: Without a single frame.
        InputError: `threads` is less than 1.

    `read` raises `SourceChangedError` where the frame size changes.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"a decoder needs at least 1 thread, not {threads}")
        self._path = Path(path)
        self._decode_errors = 0
        if kind_of(self._path) == "folder":
            raise SourceUnreadableError(
                f"{self._path} is a folder, not a video file", hint="For a folder of pictures use ImageFolder."
            )
        if self._path.stat().st_size == 0:
            raise SourceUnreadableError(f"{self._path} is empty", hint="Nothing was recorded into it.")
        with pyav_errors(str(self._path)):
            container = _open(self._path)
            try:
                stream = _video_stream(container, self._path)
                stream.thread_type = "AUTO"
                stream.thread_count = threads or min(MOST_THREADS, os.cpu_count() or 1)
                rate = _fraction(stream.average_rate) or _fraction(stream.guessed_rate)
                super().__init__(
                    self._path.name,
                    self._decode(container, stream, rate or DEFAULT_FRAME_RATE),
                    frame_rate=rate,
                    frame_count=stream.frames or None,
                )
            except BaseException:
                container.close()
                raise

    @property
    def decode_errors(self) -> int:
        """See `Source.decode_errors`."""
        return self._decode_errors

    def _decode(self, container: InputContainer, stream: VideoStream, rate: Fraction) -> Generator[Frame, None, None]:
        """The frames. Owns the container: it is closed at the end, after an error, or with the generator."""
        time_base = _fraction(stream.time_base) or 1 / rate
        timeline = Timeline(time_base, rate)
        converter = RgbConverter()
        stamp_of = attrgetter("dts" if container.format.name == "avi" else "pts")
        number = -1
        orientation: Orientation | None = None
        with container, pyav_errors(str(self._path)):
            for number, (picture, following) in enumerate(_with_following(self._pictures(container, stream))):
                if orientation is None:
                    # Once for the file: a picture whose side data was looked at lives until the garbage collector comes
                    # by, because the two refer to each other, and a hundred pictures of 720p are 140 MB.
                    orientation = Orientation.of(picture)
                # Before the conversion: damage can make a picture of gigabytes out of a small one.
                self._admit(f"{self._path}: frame {number}", *orientation.size(picture.width, picture.height))
                stamp = stamp_of(picture)
                seconds = timeline.place(stamp, None if following is None else stamp_of(following))
                yield Frame(
                    orientation.apply(converter.convert(picture)),  # in no variable: its memory serves the next picture
                    number,
                    seconds,
                    stamp,
                    time_base,
                    time.monotonic_ns(),
                )
        if number < 0 and self._decode_errors:
            raise SourceUnreadableError(
                f"{self._path}: not one frame could be decoded; {self._decode_errors} packets are damaged",
                hint="Get the file again from where it was recorded.",
            )
        if number < 0:
            raise SourceEmptyError(
                f"{self._path} has a video stream, but not one frame in it",
                hint="Nothing was recorded into it, or the file is cut short.",
            )
        if self._decode_errors:
            logger.warning(
                "%s: %d damaged packets were skipped; %d frames were read", self._path, self._decode_errors, number + 1
            )

    def _pictures(self, container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
        for packet in self._packets(container, stream):
            try:
                yield from stream.decode(packet)
            except av.FFmpegError as error:
                self._skip(error)

    def _packets(self, container: InputContainer, stream: VideoStream) -> Iterator[av.Packet[VideoStream] | None]:
        """The packets, then None or an empty one, which makes the decoder give what it still holds."""
        failures = 0
        while failures < MOST_READ_FAILURES:
            try:
                for packet in container.demux(stream):
                    yield packet
                    failures = 0
                return
            except av.FFmpegError as error:
                if isinstance(error, OSError):  # the disk, not the file
                    raise
                failures += 1
                self._skip(error)
        yield None

    def _skip(self, error: av.FFmpegError) -> None:
        self._decode_errors += 1
        logger.debug("%s: damaged packet: %s", self._path, error.strerror)


def _open(path: Path) -> InputContainer:
    try:
        # With its protocol named, a path is never taken for an address ("http:clip.mp4" is a fine file name).
        container: InputContainer = av.open(f"file:{path}", container_options=_OPTIONS, **_TOLERANT)
        return container
    except av.error.ArgumentError as error:
        raise SourceUnreadableError(
            f"{path} is not a video that stands by itself: a playlist, a session description, a script, text, "
            "or pictures without a header",
            hint="Give the video file itself.",
        ) from error


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The stream that a player would show; a cover picture is not a video."""
    videos = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not videos:
        raise SourceUnreadableError(f"{path} has no video stream", hint="It is a sound file, or cut short.")
    decodable = [stream for stream in videos if stream.codec_context is not None]
    if not decodable:
        raise SourceUnreadableError(
            f"{path}: this build of PyAV has no decoder for its video stream",
            hint="Convert the file, for instance to H.264 in MP4.",
        )
    best = container.streams.best("video")
    return next((stream for stream in decodable if stream is best), decodable[0])


def _with_following(pictures: Iterator[av.VideoFrame]) -> Iterator[tuple[av.VideoFrame, av.VideoFrame | None]]:
    """Each picture with the one after it; an error on the way to that one comes after the picture itself."""
    picture = next(pictures, None)
    while picture is not None:
        try:
            following = next(pictures, None)
        except Exception:
            yield picture, None
            raise
        yield picture, following
        picture = following


def _fraction(value: Any) -> Fraction | None:
    """PyAV's rationals are a Fraction or None, from 19 on an AVRational; one that is unknown may also be 0."""
    return Fraction(value.numerator, value.denominator) if value and value.denominator else None
