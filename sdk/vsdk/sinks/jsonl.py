"""JSON lines: one event a line, readable at every moment."""

from __future__ import annotations

import contextlib
import os
import stat
import sys

from ..events import Event, to_json
from .file_sink import FileSink

STANDARD_OUTPUT = 1
"""File descriptor of the process's standard output."""


class JsonLines(FileSink):
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

    def _take_event(self, event: Event) -> None:
        # A file name that is not UTF-8 arrives with lone surrogates; their escapes are valid JSON.
        line = (to_json(event) + "\n").encode(errors="backslashreplace")
        written = 0
        try:
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
        except OSError:
            if written:
                self._take_back(written)
            raise

    def _take_back(self, size: int) -> None:
        """Remove the beginning of a line that could not be finished; a pipe or a terminal cannot take back."""
        if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            with contextlib.suppress(OSError):  # the failed write is what is reported
                os.ftruncate(self._descriptor, os.lseek(self._descriptor, -size, os.SEEK_CUR))

    def _finish(self) -> None:
        if self._descriptor != STANDARD_OUTPUT:
            os.close(self._descriptor)
