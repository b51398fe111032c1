"""A source whose objects are followed from one prompt on: what `vsdk track` runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from vsdk_runtimes.errors import ClosedError, Error, InputError

from ..events import End, Event, Start, how_it_ended
from ..frame import Frame
from ..sinks.base import Sink
from ..sources.base import Source
from .rle import MaskArray
from .tracked import Box, Point
from .tracker import Tracker


@dataclass(frozen=True, eq=False)
class Prompt:
    """What is said of one object; the fields are those of `Tracker.prompt`.

    Attributes:
        object_id: Its number.
        points: `(x, y)` in pixels of the source.
        labels: For each point 1 (on the object) or 0 (not on it).
        box: `(x0, y0, x1, y1)` in pixels of the source.
        mask: bool `[height, width]`.
    """

    object_id: int
    points: tuple[Point, ...] = ()
    labels: tuple[int, ...] = ()
    box: Box | None = None
    mask: MaskArray | None = None


class TrackedStream:
    """Prompt objects on one frame of a source, follow them to its end, and hand events and frames to sinks.

    Frames before the prompt are passed over: sinks that want frames get them, without any mask. Iterating gives the
    start event, a `Mask` for each object and frame, and the end event.

    Args:
        source: Is closed with the stream.
        tracker: Is closed with the stream; may know objects already.
        prompts: What is said on the frame `at`.
        at: Counts frames from 0.
        sinks: Each gets every event (and, if it wants them, every frame), and is closed with the stream.
        on_frame: Called for each frame as it is taken in, for progress displays.

    Example:
        ```python
        prompt = Prompt(1, box=(40, 60, 120, 200))
        with TrackedStream(vsdk.open("video.mp4"), vsdk.Tracker(), [prompt]) as stream:
            for event in stream:
                print(event)
        ```
    """

    def __init__(
        self,
        source: Source,
        tracker: Tracker,
        prompts: Sequence[Prompt] = (),
        *,
        at: int = 0,
        sinks: Sequence[Sink] = (),
        on_frame: Callable[[Frame], None] | None = None,
    ) -> None:
        self.source, self.tracker = source, tracker
        self._prompts, self._at = prompts, at
        self._sinks = list(sinks)
        self._on_frame = on_frame
        self._frames = self._tracked = 0
        self._ended = self._closed = False

    def __iter__(self) -> Iterator[Event]:
        """Events, in order.

        Raises:
            InputError: A prompt is not acceptable, or the source ends before the frame `at`.
            SourceError, SinkError, EngineRunError: What happened on the way.
            ClosedError: The stream is closed.
        """
        if self._closed:
            raise ClosedError(f"the stream of {self.source.info.name} is closed")
        yield self._deliver(self._start())
        for frame in self.source:
            self._frames += 1
            if self._on_frame is not None:
                self._on_frame(frame)
            for sink in self._sinks:
                if sink.wants_frames:
                    sink.write_frame(frame)
            if self._frames > self._at:
                yield from self._follow(frame)
        if self._frames <= self._at:
            raise InputError(
                f"{self.source.info.name} has {self._frames} frames; there is no frame {self._at} to begin with",
                hint=f"Frames count from 0; the last one is {self._frames - 1}.",
            )
        self._ended = True
        yield self._deliver(self._end("end"))

    def _follow(self, frame: Frame) -> Iterator[Event]:
        if self._frames == self._at + 1:
            for prompt in self._prompts:
                self.tracker.prompt(
                    frame,
                    prompt.object_id,
                    points=prompt.points or None,
                    labels=prompt.labels or None,
                    box=prompt.box,
                    mask=prompt.mask,
                )
        objects = self.tracker.track(frame)
        self._tracked += 1
        for tracked in objects:
            yield self._deliver(tracked.event(frame.number, float(frame.time)))

    def close(self) -> None:
        """Stop; idempotent. Sinks get an end event."""
        self._finish("closed")

    def __enter__(self) -> TrackedStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish(*how_it_ended(kind, error))

    def _start(self) -> Start:
        bundle, info = self.tracker.bundle, self.tracker.networks.encoder.info
        runs_on = f"{info.engine} {info.engine_version} on {info.device}, {info.precision}"
        return Start(self.source.info.name, bundle.manifest.name, bundle.digest, runs_on)

    def _end(self, reason: Literal["end", "closed", "interrupted", "error"], message: str = "") -> End:
        return End(reason, self._frames, self._tracked, 0, self.source.decode_errors, message)

    def _deliver(self, event: Event) -> Event:
        for sink in self._sinks:
            sink.write_event(event)
        return event

    def _finish(self, reason: Literal["closed", "interrupted", "error"], message: str = "") -> None:
        if self._closed:
            return
        self._closed = True
        with contextlib.ExitStack() as closing:  # all are closed, whichever fails
            closing.callback(self.source.close)
            closing.callback(self.tracker.close)
            for sink in reversed(self._sinks):
                closing.callback(_close, sink, quiet=reason != "closed")
            if not self._ended:
                end = self._end(reason, message)
                for sink in self._sinks:
                    with contextlib.suppress(Error):  # the first error is the one to report
                        sink.write_event(end)


def _close(sink: Sink, *, quiet: bool) -> None:
    """Close a sink; `quiet` when another error is on its way."""
    try:
        sink.close()
    except Error:
        if not quiet:
            raise
