"""JSON lines for streams that run for months: a file that is put aside when it is large or old enough.

The current file has the name that was asked for. A file that is put aside gets a number and the time of its last line,
and is never written again:

    events.jsonl
    events.00000001-20261112T095959Z.jsonl
    events.00000002-20261112T105958Z.jsonl

Numbers only rise, so that names sort in the order of the lines, also when the clock was set back.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import stat
import time
from pathlib import Path

from vsdk_runtimes.errors import SinkError

from .jsonl import LinesFile, write_line
from .rotation import Rotation

log = logging.getLogger(__name__)

CHUNK = 65536


class RotatingJsonLines(LinesFile):
    """Writes events as JSON lines like `JsonLines`, but goes on with the file that is there, and rotates.

    Files change between lines. A process that is killed leaves whole lines in every file, but perhaps the beginning of
    one at the end of the current file; the next process cuts that off, says so in the log, and goes on behind the last
    whole line. Nothing else is overwritten, and nothing is deleted but files put aside beyond `rotation.keep`.

    Time is looked at when an event comes: a file in which nothing is written stays where it is.

    Args:
        path: The current file. It need not exist; if it does, it must be one of JSON lines.
        rotation: When to begin a new one, and how many to keep.

    Raises:
        SinkError: The file cannot be opened, is no file of JSON lines, or another process is writing it.
    """

    def __init__(self, path: str | os.PathLike[str], rotation: Rotation) -> None:
        super().__init__(path)
        self.rotation = rotation
        with self._failures_named():
            self._current = Path(self.path).resolve()  # files stay in the folder of the real one
            self._aside = _Aside(self._current)
            self._descriptor: int | None = self._open()

    def _take_line(self, line: bytes) -> None:
        if self._descriptor is None:  # putting a file aside has failed halfway; there may be room again
            self._descriptor = self._open()
        if self._is_due(len(line)):
            self._rotate()
        write_line(self._descriptor, line)
        self._size += len(line)
        self._period = self._period_of(time.time())

    def _finish(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _open(self) -> int:
        """Open the current file behind its last whole line."""
        descriptor = os.open(self._current, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._lock_file(descriptor)
            found = os.fstat(descriptor)
            self._check(descriptor, found)
            self._size = _end_of_lines(descriptor, found.st_size)
            self._period = self._period_of(found.st_mtime)
            if self._size < found.st_size:
                os.ftruncate(descriptor, self._size)
                log.warning("%s: an unfinished line of %d bytes was cut off", self.path, found.st_size - self._size)
            os.lseek(descriptor, self._size, os.SEEK_SET)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _lock_file(self, descriptor: int) -> None:
        """Two writers would take each other's unfinished lines for leftovers."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SinkError(
                f"cannot write {self.path}: it is being written already",
                hint="End the process that does so, or give each its own file.",
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOLCK):  # a file system without locks
                raise

    def _check(self, descriptor: int, found: os.stat_result) -> None:
        """Only a file of JSON lines is gone on with: cutting off a line would damage any other.

        Zeros are what a power cut may leave of lines that had not reached the disk.
        """
        if not stat.S_ISREG(found.st_mode):
            raise SinkError(
                f"cannot write {self.path}: only a regular file can be rotated", hint="Leave out the rotation."
            )
        if os.pread(descriptor, 1, 0) not in (b"", b"{", b"\0"):
            raise SinkError(
                f"cannot write {self.path}: there is a file that does not hold JSON lines",
                hint="Choose another name, or move that file away.",
            )

    def _is_due(self, more: int) -> bool:
        """Whether the next line belongs into a new file."""
        if self._size == 0:
            return False
        too_large = self.rotation.size is not None and self._size + more > self.rotation.size
        return too_large or self._period != self._period_of(time.time())

    def _period_of(self, seconds: float) -> int:
        """Number of the time span that a moment lies in; always 0 without one."""
        return int(seconds // self.rotation.seconds) if self.rotation.seconds is not None else 0

    def _rotate(self) -> None:
        """Put the current file aside, begin a new one, and delete those that are too many."""
        assert self._descriptor is not None
        self._aside.take(os.fstat(self._descriptor).st_mtime)
        # Only now, because the lock ends with the descriptor.
        descriptor, self._descriptor = self._descriptor, None
        os.close(descriptor)
        self._descriptor = self._open()
        if self.rotation.keep is not None:
            self._aside.delete_all_but(self.rotation.keep)


class _Aside:
    """The files that were put aside."""

    def __init__(self, current: Path) -> None:
        self._current = current
        self._name = re.compile(
            rf"{re.escape(current.stem)}\.([0-9]{{8,}})-[0-9]{{8}}T[0-9]{{6}}Z{re.escape(current.suffix)}"
        )
        self._newest = max(self._numbers(), default=0)

    def take(self, last_line: float) -> None:
        """Give the current file its number and the time of its last line."""
        self._newest = max(self._newest, *self._numbers(), 0) + 1
        when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(last_line))
        name = f"{self._current.stem}.{self._newest:08d}-{when}{self._current.suffix}"
        self._current.rename(self._current.with_name(name))

    def delete_all_but(self, count: int) -> None:
        """Delete the oldest."""
        numbers = self._numbers()
        for number in sorted(numbers)[:-count]:
            with contextlib.suppress(FileNotFoundError):  # somebody else has cleared it away
                numbers[number].unlink()

    def _numbers(self) -> dict[int, Path]:
        matches = ((self._name.fullmatch(path.name), path) for path in self._current.parent.iterdir())
        return {int(match[1]): path for match, path in matches if match is not None}


def _end_of_lines(descriptor: int, size: int) -> int:
    """How many bytes of a file are whole lines."""
    end = size
    while end > 0:
        begin = max(0, end - CHUNK)
        place = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if place >= 0:
            return begin + place + 1
        end = begin
    return 0
