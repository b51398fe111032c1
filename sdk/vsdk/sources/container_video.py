"""The frames of an open container: what video files and videos that arrive through a pipe have in common."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator, Iterator, Mapping
from fractions import Fraction
from operator import attrgetter
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from ..errors import InputError, SourceEmptyError, SourceUnreadableError
from ..frame import Frame
from .orientation import Orientation
from .pyav_errors import pyav_errors
from .recorded import RecordedSource
from .rgb import RgbConverter
from .timeline import DEFAULT_FRAME_RATE, Timeline

logger = logging.getLogger(__name__)

MOST_THREADS = 4
"""More would decode faster than anything here consumes, and each holds a frame."""

MOST_READ_FAILURES = 16
"""After so many failures in a row to find the next packet, the file is over."""

NOT_SELF_CONTAINED = frozenset(
    {
        *("concat", "dash", "hls", "imf", "rtp", "rtsp", "sdp", "webm_dash_manifest"),  # name other files or addresses
        *("avisynth", "lavfi", "vapoursynth"),  # run scripts
        *("adf", "bin", "idf", "tty", "xbin"),  # render text
    }
)
"""Demuxers that FFmpeg picks by a file's name or first line, and that would do something else than play this file."""

_OPTIONS = {
    "format_whitelist": ",".join(sorted(av.formats_available - NOT_SELF_CONTAINED)),
    "protocol_whitelist": "file,crypto,data",
}
# Damaged titles are no reason to refuse a video; from 19 on PyAV takes them as they are.
TOLERANT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
"""Arguments of `av.open`."""


class ContainerVideo(RecordedSource):
    """All frames of the video in a container, in the order in which they are shown.

    Args:
        label: What errors call it; without credentials.
        name: What events call it; without credentials.
        file: What PyAV opens: an address of FFmpeg's, or a file object.
        threads: Most threads that the decoder may use; by default one for each core and at most 4.

    Raises:
        SourceUnreadableError: Not a video, damaged beyond use, or without a video stream.
        SourceEmptyError: Without a single frame.
        InputError: `threads` is less than 1.
    """

    def __init__(self, label: str, name: str, file: Any, *, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"a decoder needs at least 1 thread, not {threads}")
        self._label = label
        self._decode_errors = 0
        with pyav_errors(label):
            container = open_container(file, label)
            try:
                stream = video_stream(container, label)
                stream.thread_type = "AUTO"
                stream.thread_count = threads or min(MOST_THREADS, os.cpu_count() or 1)
                rate = fraction_of(stream.average_rate) or fraction_of(stream.guessed_rate)
                super().__init__(
                    name,
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
        time_base = fraction_of(stream.time_base) or 1 / rate
        timeline = Timeline(time_base, rate)
        converter = RgbConverter()
        stamp_of = attrgetter("dts" if container.format.name == "avi" else "pts")
        number = -1
        orientation: Orientation | None = None
        with container, pyav_errors(self._label):
            for number, (picture, following) in enumerate(_with_following(self._pictures(container, stream))):
                if orientation is None:
                    # Once for the file: a picture whose side data was looked at lives until the garbage collector comes
                    # by, because the two refer to each other, and a hundred pictures of 720p are 140 MB.
                    orientation = Orientation.of(picture)
                # Before the conversion: damage can make a picture of gigabytes out of a small one.
                self._admit(f"{self._label}: frame {number}", *orientation.size(picture.width, picture.height))
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
                f"{self._label}: not one frame could be decoded; {self._decode_errors} packets are damaged",
                hint="Get the file again from where it was recorded.",
            )
        if number < 0:
            raise SourceEmptyError(
                f"{self._label} has a video stream, but not one frame in it",
                hint="Nothing was recorded into it, or the file is cut short.",
            )
        if self._decode_errors:
            logger.warning(
                "%s: %d damaged packets were skipped; %d frames were read", self._label, self._decode_errors, number + 1
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
        logger.debug("%s: damaged packet: %s", self._label, error.strerror)


def open_container(file: Any, label: str, options: Mapping[str, str] | None = None) -> InputContainer:
    """Open what stands by itself, with more options of FFmpeg's.

    Raises:
        SourceUnreadableError: It would have to open other files or addresses.
    """
    try:
        container: InputContainer = av.open(file, container_options={**_OPTIONS, **(options or {})}, **TOLERANT)
        return container
    except av.error.ArgumentError as error:
        raise SourceUnreadableError(
            f"{label} is not a video that stands by itself: a playlist, a session description, a script, text, "
            "or pictures without a header",
            hint="Give the video file itself.",
        ) from error


def video_stream(container: InputContainer, label: str) -> VideoStream:
    """The stream that a player would show; a cover picture is not a video."""
    videos = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not videos:
        raise SourceUnreadableError(f"{label} has no video stream", hint="It is a sound file, or cut short.")
    decodable = [stream for stream in videos if stream.codec_context is not None]
    if not decodable:
        raise SourceUnreadableError(
            f"{label}: this build of PyAV has no decoder for its video stream",
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


def fraction_of(value: Any) -> Fraction | None:
    """PyAV's rationals are a Fraction or None, from 19 on an AVRational; one that is unknown may also be 0."""
    return Fraction(value.numerator, value.denominator) if value and value.denominator else None
