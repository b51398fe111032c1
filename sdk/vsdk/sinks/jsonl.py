"""JSON lines: one event a line, readable at every moment."""

from __future__ import annotations

import abc
import contextlib
import os
import stat
import sys

from ..events import Event, to_json
from .base import Sink
from .file_sink import FileSink

STANDARD_OUTPUT = 1
"""File descriptor of the process's standard output."""


class LinesFile(FileSink):
    """A file of JSON lines, of one stream or of several."""

    def of(self, stream: str) -> Sink:
        """A sink for one of several streams that share the file: each of its lines begins with a member `stream`.

        Closing it leaves the file open; the file is closed when all streams have ended.
        """
        return _Named(self, stream)

    def write_named(self, event: Event, stream: str) -> None:
        """Take one event of this stream.

        Raises:
            SinkError: It could not be written.
            ClosedError: The sink is closed.
        """
        with self._writing():
            self._take_line(line_of(event, stream))

    def _take_event(self, event: Event) -> None:
        self._take_line(line_of(event))

    @abc.abstractmethod
    def _take_line(self, line: bytes) -> None:
        """Write a line whole."""


class _Named(Sink):
    """One stream's part of a file that it shares."""

    def __init__(self, file: LinesFile, stream: str) -> None:
        self._file, self._stream = file, stream

    def write_event(self, event: Event) -> None:
        """See `Sink.write_event`."""
        self._file.write_named(event, self._stream)

    def close(self) -> None:
        """See `LinesFile.of`."""


class JsonLines(LinesFile):
    """Writes events as JSON lines (`vsdk/events.schema.json`), UTF-8.

    Each line is handed to the operating system whole, in one call, as soon as its event comes: a killed process leaves
    complete lines. When the disk fills up in the middle of a line, that line is taken back.

    Args:
        path: The file, which is overwritten; `-` is standard output.

    Raises:
        SinkError: The file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        if self.path == "-":
            sys.stdout.flush()  # what was printed before comes before
            self._descriptor = STANDARD_OUTPUT
        else:
            with self._failures_named():
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)

    def _take_line(self, line: bytes) -> None:
        write_line(self._descriptor, line)

    def _finish(self) -> None:
        if self._descriptor != STANDARD_OUTPUT:
            os.close(self._descriptor)


def line_of(event: Event, stream: str | None = None) -> bytes:
    """The line of an event, with its line feed; arguments as for `to_dict`."""
    # A file name that is not UTF-8 arrives with lone surrogates; their escapes are valid JSON.
    return (to_json(event, stream) + "\n").encode(errors="backslashreplace")


def write_line(descriptor: int, line: bytes) -> None:
    """Write a line whole, or take back what was written of it.

    Raises:
        OSError: It could not be written.
    """
    written = 0
    try:
        while written < len(line):
            written += os.write(descriptor, line[written:])
    except OSError:
        if written:
            _take_back(descriptor, written)
        raise


def _take_back(descriptor: int, size: int) -> None:
    """Remove the beginning of a line that could not be finished; a pipe or a terminal cannot take back."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        with contextlib.suppress(OSError):  # the failed write is what is reported
            os.ftruncate(descriptor, os.lseek(descriptor, -size, os.SEEK_CUR))
