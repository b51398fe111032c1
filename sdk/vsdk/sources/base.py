"""What a source is: the interface between the world and a stream.

The conformance suite `tests/sdk/test_source_conformance.py` says in code what this page says in words; a new source is
one that passes it.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING

from ..frame import Frame

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class SourceInfo:
    """What a source says of itself before its first frame; None means unknown.

    Attributes:
        name: For people, events and errors; credentials are already removed.
        width: Pixels; None for a live source before its first frame.
        height: Pixels; likewise.
        frame_rate: Average frames a second as the container declares it: for display, never for decisions.
        frame_count: Number of frames as declared or counted; may be wrong for damaged files.
        live: Whether frames come at the world's pace and are lost when nobody takes them.
    """

    name: str
    width: int | None
    height: int | None
    frame_rate: Fraction | None
    frame_count: int | None
    live: bool = False


class Source(abc.ABC):
    """A sequence of frames that can be read once.

    A source is opened by its constructor, which raises at once when there is nothing to read; a live one connects when
    it is first read, and goes on trying. It is then used by one thread at a time: `read` and `close` are not to be
    called at the same moment, except those of live sources. It is a context manager and an iterator over its frames.
    """

    @property
    @abc.abstractmethod
    def info(self) -> SourceInfo:
        """What is known before the first frame."""

    @abc.abstractmethod
    def read(self) -> Frame | None:
        """The next frame, or None at the end (and again None after it).

        Frame numbers rise; `time` of the first frame is 0 and rises by at least a microsecond within a generation.

        Raises:
            SourceError: The rest cannot be read. Frames given before stay valid.
            ClosedError: The source is closed.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Free what is held. Idempotent."""

    def interrupt(self) -> None:  # noqa: B027 - most sources read without waiting for anybody
        """End a `read` that another thread waits in, if that can be done; nothing can be read after it."""

    @property
    def decode_errors(self) -> int:
        """How many packets or pictures were skipped because they were damaged."""
        return 0

    @property
    def dropped(self) -> int:
        """How many frames were replaced by newer ones before they were read; only live sources drop any."""
        return 0

    @property
    def reconnects(self) -> int:
        """How many connections there were after the first one."""
        return 0

    @property
    def generation(self) -> int:
        """That of the newest frame, see `Frame`."""
        return 0

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self.read()) is not None:
            yield frame

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
