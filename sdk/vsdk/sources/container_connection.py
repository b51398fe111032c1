"""A connection through PyAV: network streams, and devices that FFmpeg opens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction

import av
import av.error
from av.container import InputContainer
from av.video.stream import VideoStream

from ..errors import SourceError, SourceTimeoutError, SourceUnreadableError
from ..frame import Image
from .connection import Connection, Picture
from .container_video import fraction_of, video_stream
from .orientation import Orientation
from .pyav_errors import pyav_errors
from .rgb import RgbConverter

MOST_DAMAGED = 100
"""When so many more packets could not be decoded than could, the connection is made anew. Before the first picture none
is counted: who joins in the middle has to wait for a key frame, which can be hundreds of packets away."""

MOST_PIXELS = 1 << 26
"""The decoder refuses larger pictures (8192x8192): damaged data ask for absurd ones."""

_NO_TIMESTAMPS = 0x0080  # FFmpeg's AVFMT_NOTIMESTAMPS
REACHABLE = "Are the host and the port right, is the sender running, and is the network up?"


class ContainerConnection(Connection):
    """Pictures from a container that PyAV opens.

    The decoder works with slice threads: threads that work on several pictures at a time would hold back one each.
    `decode_errors` counts packets that were refused, and also those that arrived incomplete, whose damage the decoder
    may have concealed. Pictures that it calls corrupt are given, unless it has just refused packets: then they are made
    of leftovers.

    Args:
        name: For errors; without credentials.
        open_container: Opens it, with finite time-outs.
        connect_timeout: Seconds that `open_container` was given.
        read_timeout: Seconds of silence after which a read fails; for the text of errors.
        finite: Says of the open container whether it is a recording.
        convert_at_once: Convert every picture when it arrives. For devices, whose pictures lie in buffers of the driver
            that it wants back.
        hint: What errors advise where nothing answers.

    Raises:
        SourceError: There is no connection; the subclass says why.
    """

    def __init__(
        self,
        name: str,
        open_container: Callable[[], InputContainer],
        *,
        connect_timeout: float,
        read_timeout: float,
        finite: Callable[[InputContainer], bool] | None = None,
        convert_at_once: bool = False,
        hint: str = REACHABLE,
    ) -> None:
        self._name, self._read_timeout, self._hint = name, read_timeout, hint
        self._convert_at_once = convert_at_once
        with self._errors(connect_timeout):
            self._container = open_container()
            try:
                self._stream = _prepared(video_stream(self._container, name))
                self.finite = finite is not None and finite(self._container)
                codec = self._stream.codec_context
                self.frame_rate = fraction_of(self._stream.average_rate) or fraction_of(codec.framerate)
            except BaseException:
                self._container.close()
                raise
        no_timestamps = self._container.format.flags & _NO_TIMESTAMPS
        self._time_base = fraction_of(self._stream.time_base) or Fraction(1, 1_000_000_000)
        self._stamped = not no_timestamps  # otherwise FFmpeg makes stamps up, from a frame rate that nobody stated
        self._converter = RgbConverter()
        self._orientation: Orientation | None = None  # once for the connection, see `container_video`
        self._packets = self._container.demux(self._stream)
        self._refused = 0  # packets more than pictures

    def receive(self) -> Sequence[Picture] | None:
        """See `Connection.receive`."""
        with self._errors(self._read_timeout):
            try:
                packet = next(self._packets, None)
                if packet is None:
                    return None
                pictures = self._stream.decode(packet)
            except av.FFmpegError as error:
                if isinstance(error, (OSError, av.error.ExitError)):  # the connection, not the data
                    raise
                self._skip(error)
                return ()
            captured_ns = time.monotonic_ns()
            whole = [picture for picture in pictures if not (self._refused and picture.is_corrupt)]
            if self._orientation is not None:
                self.decode_errors += len(pictures) - len(whole) + packet.is_corrupt
            if whole:
                self._refused = max(0, self._refused - 1)
            return [self._picture(picture, captured_ns) for picture in whole]

    def close(self) -> None:
        """See `Connection.close`."""
        self._container.close()

    def _skip(self, error: av.FFmpegError) -> None:
        self._packets = self._container.demux(self._stream)  # a generator is over once it has raised
        if self._orientation is None:
            return
        self.decode_errors += 1
        self._refused += 1
        if self._refused >= MOST_DAMAGED:
            raise SourceUnreadableError(
                f"{self._name}: most packets cannot be decoded ({error.strerror})",
                hint="Is the network overloaded? RTSP loses nothing over tcp.",
            ) from error

    def _picture(self, picture: av.VideoFrame, captured_ns: int) -> Picture:
        if self._orientation is None:
            self._orientation = Orientation.of(picture)
        width, height = self._orientation.size(picture.width, picture.height)
        size = sum(plane.buffer_size for plane in picture.planes)
        convert = self._conversion(picture, self._orientation)
        if self._convert_at_once:
            image = convert()
            size, convert = image.nbytes, lambda: image
        pts = picture.pts if self._stamped else None
        return Picture(width, height, pts, self._time_base, captured_ns, convert, size)

    def _conversion(self, picture: av.VideoFrame, orientation: Orientation) -> Callable[[], Image]:
        def convert() -> Image:
            with pyav_errors(self._name):
                return orientation.apply(self._converter.convert(picture))

        return convert

    @contextmanager
    def _errors(self, limit: float) -> Iterator[None]:
        """Errors of PyAV as those of vsdk. Time-outs have many names there, invalid data among them."""
        started = time.monotonic()
        try:
            with pyav_errors(self._name):
                yield
        except SourceTimeoutError as error:
            raise self._too_late(limit) from error.__cause__
        except SourceUnreadableError as error:
            cause = error.__cause__
            if isinstance(cause, av.error.InvalidDataError) and time.monotonic() - started >= limit:
                raise self._too_late(limit) from cause
            if isinstance(cause, OSError) and type(error) is SourceUnreadableError:
                raise SourceError(error.message, hint=self._hint) from cause
            raise

    def _too_late(self, limit: float) -> SourceTimeoutError:
        return SourceTimeoutError(f"{self._name}: nothing arrived within {limit:g} s", hint=self._hint)


def _prepared(stream: VideoStream) -> VideoStream:
    """The stream with a decoder that gives each picture as soon as it can."""
    stream.thread_type = "SLICE"
    stream.codec_context.options = {**stream.codec_context.options, "max_pixels": str(MOST_PIXELS)}
    return stream
