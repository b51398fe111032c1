"""What a sink is: the interface between a stream's results and the places where they are kept.

The conformance suite `tests/sdk/test_sink_conformance.py` says in code what this page says in words.
"""

from __future__ import annotations

import abc
from types import TracebackType
from typing import TYPE_CHECKING

from ..events import Event
from ..frame import Frame

if TYPE_CHECKING:
    from typing_extensions import Self


class Sink(abc.ABC):
    """Writes events, frames or both to one place.

    A sink is opened by its constructor, which raises `SinkError` when the place cannot be written. A sink that needs
    pictures sets `wants_frames`; it then gets every frame before the events that the frame caused. What was written
    before a failure stays readable.
    """

    wants_frames: bool = False

    def write_frame(self, frame: Frame) -> None:  # noqa: B027  (most sinks do not want frames)
        """Take one frame, in order; only called when `wants_frames`."""

    @abc.abstractmethod
    def write_event(self, event: Event) -> None:
        """Take one event, in order.

        Raises:
            SinkError: It could not be written (disk full, pipe closed).
            ClosedError: The sink is closed.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Finish what has been written so that it can be read. Idempotent.

        Raises:
            SinkError: The rest could not be written.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
