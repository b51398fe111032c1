"""What all sinks that write a file have in common: locking, closing, errors, and files that appear whole."""

from __future__ import annotations

import abc
import contextlib
import errno
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, ClassVar

from vsdk_runtimes.errors import ClosedError, SinkError

from ..events import Event
from ..frame import Frame
from .base import Sink

_HINTS = {
    errno.ENOSPC: "Free some space there, or choose another disk.",
    errno.EDQUOT: "Your quota is used up: free some space there, or choose another disk.",
    errno.EFBIG: "A file may not grow larger there: choose another file system, or raise the limit (ulimit -f).",
    errno.EPIPE: "The program that reads the pipe has ended.",
    errno.EACCES: "Choose a place where you may write.",
    errno.EROFS: "Choose a place where you may write.",
    errno.ENOTDIR: "A part of the path is a file, not a folder.",
    errno.EISDIR: "Name a file, not a folder.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


class FileSink(Sink):
    """A sink with one file, safe to close from another thread while it is being written.

    Subclasses take events, frames or both (`_take_event`, `_take_frame`) and finish the file (`_finish`).

    Attributes:
        path: The file, or `-` where a sink can write to standard output.
    """

    failures: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    """What the libraries below raise when they cannot write."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._lock = threading.Lock()
        self._closed = False

    def write_frame(self, frame: Frame) -> None:
        """Take one frame, in order.

        Raises:
            SinkError: It could not be written.
            ClosedError: The sink is closed.
        """
        with self._writing():
            self._take_frame(frame)

    def write_event(self, event: Event) -> None:
        """Take one event, in order.

        Raises:
            SinkError: It could not be written.
            ClosedError: The sink is closed.
        """
        with self._writing():
            self._take_event(event)

    def close(self) -> None:
        """Finish the file. Idempotent.

        Raises:
            SinkError: The rest could not be written.
        """
        with self._lock:
            if not self._closed:
                self._closed = True
                with self._failures_named():
                    self._finish()

    def _take_frame(self, frame: Frame) -> None:
        """Write one frame."""

    @abc.abstractmethod
    def _take_event(self, event: Event) -> None:
        """Write one event."""

    @abc.abstractmethod
    def _finish(self) -> None:
        """Finish the file; called once."""

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise ClosedError(f"the sink for {self.path} is closed")
            with self._failures_named():
                yield

    @contextlib.contextmanager
    def _failures_named(self) -> Iterator[None]:
        """Raise what the libraries below raise as a `SinkError` that names the file."""
        try:
            yield
        except self.failures as error:
            raise sink_error(self.path, error) from error


def sink_error(path: str, error: Exception) -> SinkError:
    """The `SinkError` for an error of the operating system or of a library below."""
    place = "standard output" if path == "-" else path
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    code = getattr(error, "errno", None)
    hint = _HINTS.get(code, "") if isinstance(code, int) else ""
    parent = Path(path).absolute().parent
    if code == errno.ENOENT and not parent.exists():
        hint = f"Create the folder first: mkdir -p {parent}"
    return SinkError(f"cannot write {place}: {reason}", hint=hint)


def check_writable(path: str) -> Path:
    """The real path (symbolic links followed) of a file that `replacing` will be able to write.

    Raises:
        OSError: The folder is missing or not writable, or the path is no regular file.
    """
    real = Path(path).resolve()
    if real.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if real.exists() and not real.is_file():
        raise OSError(errno.EINVAL, "not a regular file", path)
    part = _part_of(real)
    part.touch(exist_ok=False)
    part.unlink()
    return real


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends well, and vanishes when it does not."""
    part = _part_of(path)
    try:
        with part.open("xb") as file:
            yield file
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _part_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
