"""The stream: a source and a pipeline, joined by threads, as a context manager that iterates over events.

    reader thread:  source.read, all that looks at the whole picture -> a few frames ahead
    consumer:       gate, encoder, SceneTilling, sinks (in the thread that iterates)

FFmpeg, Pillow and the engines release Python's global lock while they work, so the two really run side by side; a
picture is looked at by the core that decoded it, while it is still in its cache. FFmpeg decodes with threads of its own
where there are cores for them. A file is read to its last frame, in constant memory. Of a live source that hands out
the newest frame nothing is read ahead: it would be old by the time it is wanted. An exception in the reader comes after
the frames before it, and is raised in the consumer.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from vsdk_runtimes import Bundle, Precision
from vsdk_runtimes.errors import ClosedError, Error

from .engines import Engines
from .events import End, Event, SourceState, how_it_ended
from .frame import Frame, Image
from .gate import GateSettings
from .memory.memory import Memory, MemorySettings
from .pipeline import PICTURE_EVERY, FeatureHook, Pipeline, Prepared, Vector
from .scene_tilling import SceneTillingSettings
from .sinks.base import Sink
from .sources.base import Source
from .sources.live import LiveSource
from .sources.live_settings import LiveSettings
from .sources.opening import open_source
from .stream_stats import StreamStats
from .tracking.tracker import Tracker
from .worker import POLL_SECONDS, Worker

READ_AHEAD = 4
"""Frames, of sources that drop none."""

BATCH = 4
LIVE_STATS_EVERY = 5.0
"""Seconds."""


@dataclass(frozen=True)
class _Taken:
    """A frame on its way to the consumer; the whole picture only if a sink wants it.

    Seven pictures of 720p in flight are 19 MB that no cache holds: dropping them early saves a tenth of all work.
    """

    number: int
    time_ns: int
    captured_ns: int
    prepared: Prepared
    frame: Frame | None


class Stream:
    """Run a source through a pipeline.

    Args:
        bundle: A loaded bundle or its folder; None is the model that ships with vsdk.
        source: What `vsdk.open` takes: a path, an address, a camera, `-`, arrays, or an open `Source`.
        device, engine, precision, threads: On what the encoder and the memory run, as for `vsdk_runtimes.load`.
        batch: Frames to encode at a time; None is 1 for live sources, which must not wait, and 4 for others.
        gate, scenes: Settings; None takes the bundle's.
        memory: True remembers each scene where the bundle has a memory bridge; False does not; settings ask for it.
        tracker: Follows objects beside the scenes, from the same decoding; it stays the caller's.
        on_tracking: Called with the tracker and each frame before the tracker gets it, to prompt it.
        sinks: Each gets every event (and, if it wants them, every frame), and is closed with the stream.
        on_features: Called for each frame with its number, time, class token and whether it was encoded.
        on_frame: Called for each frame as it is taken in, with its number and time in seconds, for progress displays.
        live: Settings of the source where it is live and named by its address.
        stats_every: Seconds between two `Stats` events, of which there is also one before the end. 0 gives none; None
            is 5 for live sources and 0 for others.
        engines: Loaded networks that several streams share, see `Pipeline`.

    Example:
        ```python
        with vsdk.Stream(vsdk.load(), "video.mp4") as stream:
            for event in stream:
                print(event)
        ```

    Raises:
        SourceError, BundleError, EngineError: At construction, when there is nothing to run. What ends a live source is
            raised while iterating.
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str] | None,
        source: Source | str | os.PathLike[str] | int | Iterable[Image],
        *,
        device: str = "cpu",
        engine: str = "onnxruntime",
        precision: Precision | None = None,
        threads: int | None = None,
        batch: int | None = None,
        gate: GateSettings | None = None,
        scenes: SceneTillingSettings | None = None,
        memory: bool | MemorySettings = True,
        tracker: Tracker | None = None,
        on_tracking: Callable[[Tracker, Frame], object] | None = None,
        sinks: Sequence[Sink] = (),
        on_features: FeatureHook | None = None,
        on_frame: Callable[[int, float], None] | None = None,
        live: LiveSettings | None = None,
        stats_every: float | None = None,
        engines: Engines | None = None,
    ) -> None:
        self.source = open_source(source, live=live)
        is_live = self.source.info.live
        try:
            self.pipeline = Pipeline(
                bundle,
                device=device,
                engine=engine,
                precision=precision,
                threads=threads,
                batch=batch if batch is not None else 1 if is_live else BATCH,
                gate=gate,
                scenes=scenes,
                memory=memory,
                tracker=tracker,
                source=self.source.info.name,
                on_features=self._settle,
                engines=engines,
            )
        except BaseException:
            self.source.close()
            raise
        self._sinks = list(sinks)
        self._frame_sinks = [sink for sink in self._sinks if sink.wants_frames]
        self._on_frame, self._on_tracking, self._on_features = on_frame, on_tracking, on_features
        self._whole_frames = bool(self._frame_sinks) or tracker is not None
        self._stop = threading.Event()
        self._closing = threading.Lock()
        self._closed = False
        self._begun = self._ended = False
        self._events: Iterator[Event] | None = None
        every = stats_every if stats_every is not None else LIVE_STATS_EVERY if is_live else 0.0
        self._stats = StreamStats(self.source, every or None)
        newest_only = isinstance(self.source, LiveSource) and self.source.settings.policy == "latest"
        self._reader = Worker("vsdk-reader", self._read, 0 if newest_only else READ_AHEAD, self._stop)

    def __iter__(self) -> Iterator[Event]:
        if self._closed:
            raise ClosedError(f"the stream of {self.source.info.name} is closed")
        if self._events is None:
            self._events = self._run()
        return self._events

    @property
    def memory(self) -> Memory | None:
        """What is remembered of the stream so far; None without a memory."""
        return self.pipeline.memory

    def close(self) -> None:
        """Stop. Idempotent, callable from any thread, returns within a second. Sinks get an end event."""
        self.finish("closed")

    def stop(self) -> None:
        """Let the iteration end soon, from any thread, without waiting for it. The stream is still to be closed."""
        self._stop.set()
        self.source.interrupt()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(*how_it_ended(kind, error))

    def _run(self) -> Iterator[Event]:
        self._reader.start()
        self._stats.begin()
        yield from self._deliver(self.pipeline.begin())
        self._begun = True
        for item in self._reader.items():
            if isinstance(item, SourceState):
                yield from self._deliver([item])
            elif item is not None:
                yield from self._take(item)
                self._stats.deliver()
            if (stats := self._stats.due()) is not None:
                yield from self._deliver([stats])
        if self._stop.is_set():
            return
        yield from self._deliver(self.pipeline.settle())
        self._stats.deliver()
        end = self._last_events("end")
        self._ended = True
        yield from self._deliver(end)

    def _take(self, taken: _Taken) -> Iterator[Event]:
        self._stats.take(taken.captured_ns)
        if self._on_frame is not None:
            self._on_frame(taken.number, taken.time_ns / 1e9)
        if taken.frame is not None:
            for sink in self._frame_sinks:
                sink.write_frame(taken.frame)
        yield from self._deliver(self.pipeline.push_prepared(taken.prepared, taken.time_ns, number=taken.number))
        if self.pipeline.tracker is not None and taken.frame is not None:
            if self._on_tracking is not None:
                self._on_tracking(self.pipeline.tracker, taken.frame)
            yield from self._deliver(self.pipeline.track(taken.frame, taken.number, taken.time_ns))

    def _settle(self, number: int, seconds: float, cls: Vector, encoded: bool) -> None:
        """The pipeline knows a frame's features."""
        self._stats.settle()
        if self._on_features is not None:
            self._on_features(number, seconds, cls, encoded)

    def _deliver(self, events: Sequence[Event]) -> Iterator[Event]:
        for event in events:
            for sink in self._sinks:
                sink.write_event(event)
        yield from events

    def _last_events(self, reason: Literal["end", "closed", "interrupted", "error"], message: str = "") -> list[Event]:
        stats = self._stats.last() if self._begun else None
        end = self.pipeline.end(reason, message)
        end = End(end.reason, end.frames, end.encoded, end.scenes, self.source.decode_errors, message)
        return [end] if stats is None else [stats, end]

    def _read(self) -> Iterator[_Taken | SourceState]:
        count = 0
        while (item := self._next()) is not None:
            if isinstance(item, SourceState):
                yield item
                continue
            prepared = self.pipeline.prepare(item.image, preview=count % PICTURE_EVERY == 0)
            frame = item if self._whole_frames else None
            taken = _Taken(item.number, item.time_ns, item.captured_ns, prepared, frame)
            del item, frame  # its memory serves the next one
            count += 1
            yield taken

    def _next(self) -> Frame | SourceState | None:
        """The next thing that the source gives; None at its end, or when the stream stops."""
        source = self.source
        if not isinstance(source, LiveSource):
            return source.read()
        while not self._stop.is_set():
            item = source.take(POLL_SECONDS)
            if item is not None or source.over:
                return item
        return None

    def finish(self, reason: Literal["closed", "interrupted", "error"], message: str = "") -> None:
        """`close`, with this reason and message in the end event, unless the stream has ended already."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._stop.set()
            if isinstance(self.source, LiveSource):  # may be closed while it is read
                self.source.close()
            self.source.interrupt()
            self._reader.join(0.8)
            if not self._reader.alive:  # the thread that reads owns the source until it is done
                self.source.close()
            if not self._ended:
                events = self._last_events(reason, message)
                for sink in self._sinks:
                    with contextlib.suppress(Error):  # the first error is the one to report
                        for event in events:
                            sink.write_event(event)
            self.pipeline.close()
            self._close_sinks(quiet=reason != "closed")

    def _close_sinks(self, *, quiet: bool) -> None:
        """Close every sink, even when one fails; the first failure is raised unless another error is on its way."""
        failure: Error | None = None
        for sink in self._sinks:
            try:
                sink.close()
            except Error as error:
                failure = failure or error
        if failure is not None and not quiet:
            raise failure
