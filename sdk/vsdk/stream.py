"""The stream: a source and a pipeline, joined by threads, as a context manager that iterates over events.

    reader thread:  source.read, all that looks at the whole picture -> bounded queue
    consumer:       gate, encoder, SceneTilling, sinks (in the thread that iterates)

FFmpeg, Pillow and the engines release Python's global lock while they work, so the two really run side by side; a
picture is looked at by the core that decoded it, while it is still in its cache. FFmpeg decodes with threads of its own
where there are cores for them. The queue is short and blocking: a file is read to its last frame, in constant memory.
An exception in the reader travels through the queue behind the frames that came before it, and is raised in the
consumer.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Literal, TypeVar

from vsdk_runtimes import Bundle, Precision
from vsdk_runtimes.errors import ClosedError, Error

from .events import End, Event, how_it_ended
from .frame import Frame, Image
from .gate import GateSettings
from .memory.memory import Memory, MemorySettings
from .pipeline import PICTURE_EVERY, FeatureHook, Pipeline, Prepared
from .scene_tilling import SceneTillingSettings
from .sinks.base import Sink
from .sources.base import Source
from .sources.opening import open_source
from .tracking.tracker import Tracker

QUEUE_FRAMES = 4
BATCH = 4
POLL_SECONDS = 0.1

Item = TypeVar("Item")


@dataclass(frozen=True)
class _Taken:
    """A frame on its way to the consumer; the whole picture only if a sink wants it.

    Seven pictures of 720p in flight are 19 MB that no cache holds: dropping them early saves a tenth of all work.
    """

    number: int
    time_ns: int
    prepared: Prepared
    frame: Frame | None


class Stream:
    """Run a source through a pipeline.

    Args:
        bundle: A loaded bundle or its folder; None is the model that ships with vsdk.
        source: A video file, a folder of images, an iterable of RGB arrays, or an open `Source`.
        device, engine, precision, threads: On what the encoder and the memory run, as for `vsdk_runtimes.load`.
        batch: Frames to encode at a time.
        gate, scenes: Settings; None takes the bundle's.
        memory: True remembers each scene where the bundle has a memory bridge; False does not; settings ask for it.
        tracker: Follows objects beside the scenes, from the same decoding; it stays the caller's.
        on_tracking: Called with the tracker and each frame before the tracker gets it, to prompt it.
        sinks: Each gets every event (and, if it wants them, every frame), and is closed with the stream.
        on_features: Called for each frame with its number, time, class token and whether it was encoded.
        on_frame: Called for each frame as it is taken in, with its number and time in seconds, for progress displays.

    Example:
        ```python
        with vsdk.Stream(vsdk.load(), "video.mp4") as stream:
            for event in stream:
                print(event)
        ```

    Raises:
        SourceError, BundleError, EngineError: At construction, when there is nothing to run.
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str] | None,
        source: Source | str | os.PathLike[str] | Iterable[Image],
        *,
        device: str = "cpu",
        engine: str = "onnxruntime",
        precision: Precision | None = None,
        threads: int | None = None,
        batch: int = BATCH,
        gate: GateSettings | None = None,
        scenes: SceneTillingSettings | None = None,
        memory: bool | MemorySettings = True,
        tracker: Tracker | None = None,
        on_tracking: Callable[[Tracker, Frame], object] | None = None,
        sinks: Sequence[Sink] = (),
        on_features: FeatureHook | None = None,
        on_frame: Callable[[int, float], None] | None = None,
    ) -> None:
        self.source = open_source(source)
        try:
            self.pipeline = Pipeline(
                bundle,
                device=device,
                engine=engine,
                precision=precision,
                threads=threads,
                batch=batch,
                gate=gate,
                scenes=scenes,
                memory=memory,
                tracker=tracker,
                source=self.source.info.name,
                on_features=on_features,
            )
        except BaseException:
            self.source.close()
            raise
        self._sinks = list(sinks)
        self._frame_sinks = [sink for sink in self._sinks if sink.wants_frames]
        self._on_frame, self._on_tracking = on_frame, on_tracking
        self._whole_frames = bool(self._frame_sinks) or tracker is not None
        self._stop = threading.Event()
        self._closing = threading.Lock()
        self._closed = False
        self._ended = False
        self._events: Iterator[Event] | None = None
        self._reader = _Worker("vsdk-reader", self._read, self._stop)

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
        self._finish("closed")

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish(*how_it_ended(kind, error))

    def _run(self) -> Iterator[Event]:
        self._reader.start()
        for taken in self._reader.items():
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
        if self._stop.is_set():
            return
        yield from self._deliver(self.pipeline.settle())
        end = self._end("end")
        self._ended = True
        yield from self._deliver([end])

    def _deliver(self, events: Sequence[Event]) -> Iterator[Event]:
        for event in events:
            for sink in self._sinks:
                sink.write_event(event)
        yield from events

    def _end(self, reason: Literal["end", "closed", "interrupted", "error"], message: str = "") -> End:
        end = self.pipeline.end(reason, message)
        return End(end.reason, end.frames, end.encoded, end.scenes, self.source.decode_errors, message)

    def _read(self) -> Iterator[_Taken]:
        for count in itertools.count():
            if (frame := self.source.read()) is None:
                return
            prepared = self.pipeline.prepare(frame.image, preview=count % PICTURE_EVERY == 0)
            taken = _Taken(frame.number, frame.time_ns, prepared, frame if self._whole_frames else None)
            del frame  # its memory serves the next one
            yield taken

    def _finish(self, reason: Literal["closed", "interrupted", "error"], message: str = "") -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._stop.set()
            self._reader.join(0.8)
            if not self._reader.alive:  # the thread that reads owns the source until it is done
                self.source.close()
            if not self._ended:
                end = self._end(reason, message)
                for sink in self._sinks:
                    with contextlib.suppress(Error):  # the first error is the one to report
                        sink.write_event(end)
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


class _Failure:
    """An exception on its way from a worker to the consumer."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Worker(Generic[Item]):
    """A daemon thread that runs a generator into a short queue."""

    def __init__(self, name: str, generate: Callable[[], Iterator[Item]], stop: threading.Event) -> None:
        self._generate = generate
        self._stop = stop
        self._queue: queue.Queue[Item | _Failure | None] = queue.Queue(QUEUE_FRAMES)
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, seconds: float) -> None:
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def items(self) -> Iterator[Item]:
        """What the thread makes, until it is done or the stream stops; raises what it raised."""
        while not self._stop.is_set():
            try:
                item = self._queue.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, _Failure):
                raise item.error
            yield item

    def _work(self) -> None:
        try:
            for item in self._generate():
                if not self._put(item):
                    return
            self._put(None)
        except BaseException as error:
            self._put(_Failure(error))

    def _put(self, item: Item | _Failure | None) -> bool:
        """Wait for room; False when the stream stops first."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False
