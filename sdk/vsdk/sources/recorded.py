"""What the sources have in common that are read from a first frame to a last one: files, folders, arrays."""

from __future__ import annotations

from collections.abc import Generator
from fractions import Fraction

from ..errors import ClosedError, SourceChangedError, SourceEmptyError
from ..frame import Frame
from .base import Source, SourceInfo


class RecordedSource(Source):
    """A source whose frames come from a generator.

    The first frame is made when the source is opened, so that a source without one is refused there. After an error the
    source stays failed: `read` raises the same error again.

    Args:
        name: For people; without credentials.
        frames: Makes the frames. It calls `_admit` before it makes one, and frees what it holds when it is closed.
        frame_rate: As declared, or None.
        frame_count: As declared or counted, or None.
    """

    def __init__(
        self,
        name: str,
        frames: Generator[Frame, None, None],
        *,
        frame_rate: Fraction | None,
        frame_count: int | None,
    ) -> None:
        self._frames = frames
        self._size: tuple[int, int] | None = None
        self._closed = False
        self._failure: Exception | None = None
        self._ahead: Frame | None = next(frames, None)
        if self._ahead is None:
            raise SourceEmptyError(f"{name} has no frames")
        height, width = self._ahead.image.shape[:2]
        self._info = SourceInfo(name, width, height, frame_rate, frame_count)

    @property
    def info(self) -> SourceInfo:
        """See `Source.info`."""
        return self._info

    def read(self) -> Frame | None:
        """See `Source.read`."""
        if self._closed:
            raise ClosedError(f"{self._info.name} is closed")
        if self._failure is not None:
            raise self._failure
        frame, self._ahead = self._ahead, None
        if frame is not None:
            return frame
        try:
            return next(self._frames, None)
        except Exception as error:
            self._failure = error
            raise

    def close(self) -> None:
        """See `Source.close`."""
        self._closed = True
        self._ahead = None
        self._frames.close()

    def _admit(self, label: str, width: int, height: int) -> None:
        """Let a picture of this size follow those before it.

        Raises:
            SourceChangedError: Theirs was another one.
        """
        if self._size is None:
            self._size = (width, height)
        if self._size != (width, height):
            raise SourceChangedError(
                f"{label} is {width}x{height}, the frames before it are {self._size[0]}x{self._size[1]}",
                hint="Cut the source there and open its parts one after the other, or bring all of it to one size.",
            )
