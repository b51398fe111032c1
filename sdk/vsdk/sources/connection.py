"""What a live source needs of a way to get pictures: one connection, from open to close."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from ..frame import Image


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture on its way from the thread that captures to the one that reads.

    Attributes:
        width: Pixels, once upright.
        height: Pixels, once upright.
        pts: Presentation time stamp in units of `time_base`; None where there is none.
        time_base: Seconds for each unit of `pts`.
        captured_ns: `time.monotonic_ns()` when it had been decoded.
        convert: Makes RGB of it, uint8 `[height, width, 3]`. It is called in the reading thread, and only for pictures
            that are used; it raises `SourceError` where that is impossible.
        size: Bytes that it holds in memory.
    """

    width: int
    height: int
    pts: int | None
    time_base: Fraction
    captured_ns: int
    convert: Callable[[], Image]
    size: int


class Connection(abc.ABC):
    """An open connection. One thread makes it, uses it and closes it; no other touches it.

    Making one may block for the connect and the read time-out, `receive` for the read time-out. Where that cannot be
    kept (drivers), the live source abandons the thread and makes another connection in a new one.

    Attributes:
        frame_rate: As declared, for display only; None is unknown.
        finite: The sender has a recording: its end is the end, and it is not read a second time.
        decode_errors: Damaged packets that were skipped.
    """

    frame_rate: Fraction | None = None
    finite: bool = False
    decode_errors: int = 0

    @abc.abstractmethod
    def receive(self) -> Sequence[Picture] | None:
        """What the next packet brings: often one picture, perhaps none. None when the sender has ended the stream.

        Raises:
            SourceError: The connection is lost.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Free everything. Idempotent."""


Connect = Callable[[], Connection]
"""Makes a connection, in the thread that will own it; raises `SourceError` when there is none."""
