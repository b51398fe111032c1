"""Bytes from a pipe, a socket or memory: what has come as soon as it has come, and never a wait without end."""

from __future__ import annotations

import io
import os
import select
import time
from typing import Any, Protocol

from ..errors import ClosedError, Error, InputError, SourceError, SourceTimeoutError
from .credentials import redacted

READ_SECONDS = 30.0
"""How long to wait for the next bytes before the sender is given up."""

_POLL_MILLISECONDS = 100


class ByteFile(Protocol):
    """What is needed of a binary file object; `io.BytesIO`, pipes and the files of sockets have it."""

    def read(self, size: int, /) -> bytes | None:
        """At most `size` bytes, none at the end; None where nothing has come yet."""


class ByteStream:
    """A binary file object as a reader of frames wants it.

    A read gives what is there. Where nothing is there yet, pipes and sockets are waited for, for at most `timeout`
    seconds, and `stop` ends such a wait from another thread. (Of a buffered pipe it is the descriptor that is read,
    after what its buffer holds.) Files that can seek, and objects that have no descriptor, are asked directly and have
    to come back by themselves.

    After an error the stream stays failed. The file stays its owner's, who closes it.

    Args:
        file: Binary, open for reading. It need not seek.
        name: For people; without credentials.
        timeout: Seconds.

    Raises:
        InputError: Not a binary file object, or `timeout` is not positive.
    """

    def __init__(self, file: ByteFile, name: str, *, timeout: float = READ_SECONDS) -> None:
        if not callable(getattr(file, "read", None)) or isinstance(file, io.TextIOBase):
            raise InputError(
                f"a {type(file).__name__} is not a binary file object",
                hint="Open it with mode 'rb', or use its .buffer.",
            )
        if not timeout > 0:
            raise InputError(f"a time-out must be more than 0 seconds, not {timeout}")
        self.name = name
        self.timeout = timeout
        """See `ByteStream`; may be changed."""
        self.taken = 0
        """How many bytes were given."""
        self._failure: Error | None = None
        self._stopped = False
        self._kept = file  # a buffered file closes its descriptor when nobody refers to it any more
        self._seekable = _can_seek(file)
        self._ahead = b""
        self._file: Any = file
        self._poll: select.poll | None = None
        if not self._seekable:
            self._ahead, self._file = _without_buffer(file)
            self._poll = _poll_of(self._file)

    def read(self, count: int) -> bytes:
        """At least one byte and at most `count`; none at the end.

        Raises:
            SourceTimeoutError: Nothing came in time.
            SourceError: The file cannot be read.
            ClosedError: `stop` was called.
        """
        if self._failure is not None:
            raise self._failure
        try:
            data = self._ahead or self._fresh(count)
        except Error as error:
            self._failure = error
            raise
        # What an object gives beyond what it was asked for is kept: FFmpeg has no room for it.
        data, self._ahead = data[:count], data[count:]
        self.taken += len(data)
        return data

    def read_whole(self, count: int) -> bytes:
        """Exactly `count` bytes; fewer only at the end. Raises what `read` raises."""
        parts, missing = [], count
        while missing and (part := self.read(missing)):
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def seekable(self) -> bool:
        """Whether `seek` and `tell` work; FFmpeg needs them for MP4 files whose index is at the end."""
        return self._seekable

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place of a file that can."""
        self._ahead = b""
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Where the next read of a file that can seek begins."""
        return int(self._file.tell())

    def stop(self) -> None:
        """End the read that another thread waits in, and all later ones."""
        self._stopped = True

    def _fresh(self, count: int) -> bytes:
        deadline = time.monotonic() + self.timeout
        while not self._stopped:
            data = self._ask(count)
            if data is not None:
                return data
            if time.monotonic() > deadline:
                raise SourceTimeoutError(
                    f"{self.name}: nothing came for {self.timeout:g} s, after {self.taken} bytes",
                    hint="Is the program that writes still running?",
                )
        raise ClosedError(f"{self.name} is closed")

    def _ask(self, count: int) -> bytes | None:
        """What is there; None when it is nothing so far."""
        try:
            if self._poll is not None and not self._poll.poll(_POLL_MILLISECONDS):
                return None
            data = self._file.read1(count) if hasattr(self._file, "read1") else self._file.read(count)
            if data is not None:
                return data if isinstance(data, bytes) else bytes(memoryview(data))
        except Exception as error:  # OSError, and whatever else an object of somebody's own may raise
            reason = redacted(str(error) or type(error).__name__)
            raise SourceError(f"{self.name} cannot be read: {reason}", hint="Is the sender still there?") from error
        if self._poll is None:
            time.sleep(_POLL_MILLISECONDS / 1000)
        return None


def _can_seek(file: Any) -> bool:
    try:
        return bool(getattr(file, "seekable", bool)())
    except ValueError as error:
        raise InputError(f"a {type(file).__name__} cannot be read: {error}", hint="Open it again.") from error


def _without_buffer(file: Any) -> tuple[bytes, Any]:
    """What the buffer of a pipe or socket holds, and the same pipe without a buffer."""
    if not isinstance(file, io.BufferedReader) or not hasattr(select, "poll"):
        return b"", file
    try:
        descriptor = file.fileno()
        blocking = os.get_blocking(descriptor)
        os.set_blocking(descriptor, False)  # only while the buffer is looked into: this must not wait for the sender
        try:
            held = file.peek()
        finally:
            os.set_blocking(descriptor, blocking)
        return (file.read(len(held)) if held else b""), file.raw
    except (OSError, ValueError):  # it has no descriptor
        return b"", file


def _poll_of(file: Any) -> select.poll | None:
    """Waits for a file; None for a file without a descriptor of its own bytes."""
    if not isinstance(file, io.RawIOBase) or not hasattr(select, "poll"):
        return None
    try:
        poll = select.poll()
        poll.register(file.fileno(), select.POLLIN)
    except (OSError, ValueError):
        return None
    return poll
