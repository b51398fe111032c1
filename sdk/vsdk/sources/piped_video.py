"""A video in any container that arrives through a pipe, a socket or memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import Error, SourceEmptyError, SourceUnreadableError
from ..frame import Frame
from .byte_stream import READ_SECONDS, ByteFile, ByteStream
from .container_video import ContainerVideo

_HEAD_BYTES = 12


class PipedVideo(ContainerVideo):
    """All frames of a video that is read from a binary file object: Y4M, MPEG-TS, Matroska, H.264, motion JPEG, ...

    FFmpeg finds out from the first bytes what it is. Colours, time stamps and damage are treated as in `VideoFile`, and
    no other file and no network address is opened, whatever the bytes say. An MP4 file whose index is at its end can
    only be read where the file object can seek.

    Args:
        file: Open for reading; it need not seek. It stays the caller's, who closes it.
        name: What events and errors call it; without credentials.
        threads: Most threads that the decoder may use; by default one for each core and at most 4.
        timeout: Seconds to wait for the next bytes; see `ByteStream` for what can be waited for.

    Raises:
        SourceEmptyError: Not one byte, or not one frame.
        SourceUnreadableError: Not a video, damaged beyond use, without a video stream, or only readable backwards.
        SourceTimeoutError: Nothing came in time.
        SourceError: The file cannot be read.
        InputError: `file` is no binary file, or a number is out of range.

    `read` raises the same errors, and `SourceChangedError` where the frame size changes.

    Example:
        ```python
        with PipedVideo(process.stdout) as source:
            for frame in source:
                ...
        ```
    """

    def __init__(
        self, file: ByteFile, *, name: str = "piped video", threads: int | None = None, timeout: float = READ_SECONDS
    ) -> None:
        self._input = FFmpegInput(ByteStream(file, name, timeout=timeout))
        try:
            with self._input.interruptions():
                super().__init__(name, name, self._input, threads=threads)
        except (SourceEmptyError, SourceUnreadableError) as error:
            raise self._input.explained(error) from error

    def read(self) -> Frame | None:
        """See `Source.read`."""
        with self._input.interruptions():
            return super().read()

    def interrupt(self) -> None:
        """See `Source.interrupt`."""
        self._input.stop()


class FFmpegInput:
    """The file object that PyAV is given: it cannot be closed, and Ctrl-C ends it.

    FFmpeg asks again and again when a read is interrupted by something that is not an `Exception`.
    """

    def __init__(self, stream: ByteStream) -> None:
        self.name = "pipe"  # PyAV hands it to FFmpeg, which goes by the suffix of a name too
        self._stream = stream
        self._head = b""
        self._interruption: BaseException | None = None

    def stop(self) -> None:
        """See `ByteStream.stop`."""
        self._stream.stop()

    def read(self, count: int) -> bytes:
        """See `ByteStream.read`."""
        if self._interruption is not None:
            return b""
        try:
            data = self._stream.read(count)
        except Exception:
            raise
        except BaseException as error:
            self._interruption = error
            return b""
        self._head += data[: _HEAD_BYTES - len(self._head)]
        return data

    def seekable(self) -> bool:
        """See `ByteStream.seekable`."""
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """See `ByteStream.seek`."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """See `ByteStream.tell`."""
        return self._stream.tell()

    @contextmanager
    def interruptions(self) -> Iterator[None]:
        """Let through what came while FFmpeg was reading inside the block: Ctrl-C, or an error of the file."""
        try:
            yield
        finally:
            if self._interruption is not None:
                raise self._interruption

    def explained(self, error: Error) -> Error:
        """The error that says more of why nothing could be read."""
        name = self._stream.name
        if not self._head:
            return SourceEmptyError(f"{name} is empty: not one byte came", hint="Does the program that writes run?")
        if self._head[4:8] == b"ftyp" and not self.seekable():
            return SourceUnreadableError(
                f"{name} is an MP4 file that cannot be read from a pipe: its index is at its end, or cut off",
                hint="Open the file itself, or write it with: ffmpeg -i INPUT -c copy -movflags +faststart OUTPUT.mp4",
            )
        hint = f"{error.hint} Raw frames have to be described, as 1280x720:bgr24@30 (--raw, RawVideo)."
        return type(error)(error.message, hint=hint.lstrip())
