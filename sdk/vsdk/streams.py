"""Several sources in one process: a stream for each, one encoder for all.

    a thread for each stream:  its source, gate, SceneTilling, memory and sinks, as in `Stream`
    shared:                    the loaded networks; pictures that wait for the encoder at the same time go together
    consumer:                  takes the events of all, in the thread that iterates

Streams know nothing of each other. One whose camera is dead waits for its camera, and nobody waits for it; one that
fails ends with an end event, and the others go on.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType

from vsdk_runtimes import Bundle, Precision
from vsdk_runtimes.errors import ClosedError

from .engines import MOST_TOGETHER, Engines
from .event_queue import EventQueue, StreamEvent
from .events import how_it_ended
from .gate import GateSettings
from .memory.memory import MemorySettings
from .pipeline import Vector
from .running_stream import Reason, RunningStream
from .scene_tilling import SceneTillingSettings
from .sinks.base import Sink
from .sources.base import Source
from .sources.live_settings import LiveSettings
from .sources.several import Spec, check_name, open_sources
from .stream import BATCH, Stream

CLOSE_SECONDS = 0.6
"""Longest time that streams are waited for; then they are ended from outside."""


class Streams:
    """Run several sources, each as a stream of its own; iterate over the events of all, as `(name, event)`.

    What is known of one stream is had by its name: `streams["door"].memory`, `streams["door"].source.info`.

    Args:
        bundle: A loaded bundle or its folder; None is the model that ships with vsdk.
        sources: Names and what `vsdk.open` takes. A sequence without names gets those of its sources, with a number
            where two are the same. Sources that are open already belong to the streams from here on.
        device, engine, precision, threads: On what the networks run, as for `vsdk_runtimes.load`.
        batch: Most pictures in one run of the encoder, of whichever streams.
        gate, scenes, memory, stats_every: For each stream, see `Stream`.
        live: Settings of the live sources that are named by their address.
        sinks: Called with each name; gives the sinks of that stream, which are closed with it.
        on_features: Called with the name and what `Stream` calls it with, in the stream's thread.
        on_frame: Likewise.

    Attributes:
        engines: The networks, for further use while the streams are open, such as searches.

    The iterator ends when all streams have. A stream that fails ends with an `End` of the reason `"error"`, which is
    the last event of its name; `failures` has the exception. What fails in the construction is raised there.

    Example:
        ```python
        with vsdk.Streams(None, {"door": "rtsp://10.0.0.7/main", "yard": "rtsp://10.0.0.8/main"}) as streams:
            for name, event in streams:
                print(name, event)
        ```

    Raises:
        InputError: Names that are empty, not unique, or contain credentials.
        SourceError, BundleError, EngineError, SinkError: At construction, when one of the streams cannot be run.
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str] | None,
        sources: Mapping[str, Spec] | Sequence[Spec],
        *,
        device: str = "cpu",
        engine: str = "onnxruntime",
        precision: Precision | None = None,
        threads: int | None = None,
        batch: int = MOST_TOGETHER,
        gate: GateSettings | None = None,
        scenes: SceneTillingSettings | None = None,
        memory: bool | MemorySettings = True,
        live: LiveSettings | None = None,
        sinks: Callable[[str], Sequence[Sink]] | None = None,
        on_features: Callable[[str, int, float, Vector, bool], None] | None = None,
        on_frame: Callable[[str, int, float], None] | None = None,
        stats_every: float | None = None,
    ) -> None:
        self._gate, self._scenes, self._stats_every = gate, scenes, stats_every
        self._live, self._sinks = live, sinks
        self._on_features, self._on_frame = on_features, on_frame
        self._queue = EventQueue()
        self._lock = threading.RLock()  # guards all that follows
        self._running: dict[str, RunningStream] = {}
        self._alive = 0
        self._started = self._closed = False
        self._events: Iterator[StreamEvent] | None = None
        self._closing = threading.Lock()
        with contextlib.ExitStack() as undo:
            opened = open_sources(sources, live=live)
            for source in opened.values():
                undo.callback(source.close)
            self.engines = Engines(
                bundle,
                device=device,
                engine=engine,
                precision=precision,
                threads=threads,
                batch=batch,
                memory=memory,
            )
            undo.callback(self.engines.close)
            for name, source in opened.items():
                self._running[name] = running = self._make(name, source)
                undo.callback(running.stop, "error", "another stream could not be started")
            undo.pop_all()

    def __iter__(self) -> Iterator[StreamEvent]:
        with self._lock:
            self._check_open()
            if self._events is None:
                self._events = iter(self._queue.take, None)
                self._started = True
                for running in self._running.values():
                    running.start()
            return self._events

    def __getitem__(self, name: str) -> Stream:
        """The stream of this name, to look at; it is for `remove` to end it.

        Raises:
            KeyError: There is none.
        """
        return self._running[name].stream

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the streams, those that have ended included."""
        with self._lock:
            return tuple(self._running)

    @property
    def failures(self) -> dict[str, BaseException]:
        """What ended streams, or kept their sinks from being finished, by the streams' names."""
        with self._lock:
            found = {name: running.failure for name, running in self._running.items()}
        return {name: failure for name, failure in found.items() if failure is not None}

    def add(self, name: str, source: Spec) -> None:
        """One more stream, from any thread; it starts at once, or with the others.

        Raises:
            InputError: The name is not acceptable.
            ClosedError: The streams are closed, or all have ended.
            SourceError, SinkError: As for the constructor.
        """
        with self._lock:
            self._check_open()
            check_name(name, self._running)
        ((_, opened),) = open_sources({name: source}, live=self._live).items()
        with self._lock:
            try:
                self._check_open()
                check_name(name, self._running)
                running = self._make(name, opened)
            except BaseException:
                opened.close()
                raise
            self._running[name] = running
            if self._started:
                running.start()

    def remove(self, name: str) -> None:
        """End a stream and forget it, from any thread, within a second; its last events still come.

        Raises:
            KeyError: There is none of this name.
        """
        with self._lock:
            running = self._running.pop(name)
        running.stop()
        running.join(CLOSE_SECONDS)

    def close(self) -> None:
        """End all streams. Idempotent, callable from any thread, returns within a second. Sinks get an end event.

        Raises:
            SinkError: A sink of one of the streams could not be finished, now or earlier.
        """
        self._finish("closed")

    def __enter__(self) -> Streams:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish(*how_it_ended(kind, error))

    def _make(self, name: str, source: Source) -> RunningStream:
        """The stream of an open source. If it cannot be made, its sinks are closed, but not the source."""
        with contextlib.ExitStack() as undo:
            sinks = [undo.enter_context(sink) for sink in (self._sinks(name) if self._sinks is not None else ())]
            outlet = self._queue.outlet(name)
            undo.callback(outlet.end)
            stream = Stream(
                None,
                source,
                engines=self.engines,
                batch=1 if source.info.live else min(BATCH, self.engines.encoder.batch),
                gate=self._gate,
                scenes=self._scenes,
                sinks=[*sinks, outlet],
                on_features=None if self._on_features is None else partial(self._on_features, name),
                on_frame=None if self._on_frame is None else partial(self._on_frame, name),
                stats_every=self._stats_every,
            )
            undo.pop_all()
        self._alive += 1
        return RunningStream(stream, outlet, self._one_has_ended)

    def _one_has_ended(self) -> None:
        with self._lock:
            self._alive -= 1
            self._free_engines()

    def _free_engines(self) -> None:
        """Whoever comes last does it: a stream that is stuck somewhere may outlive `close`."""
        if self._closed and self._alive == 0:
            self.engines.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the streams are closed")
        if self._started and self._alive == 0:
            raise ClosedError("all streams have ended", hint="Begin anew, with Streams of the sources that there are.")

    def _finish(self, reason: Reason, message: str = "") -> None:
        with self._closing:
            with self._lock:
                if self._closed:
                    return
                self._closed = True
                running = list(self._running.values())
            self._queue.close()
            for one in running:
                one.stop(reason, message)
            deadline = time.monotonic() + CLOSE_SECONDS
            for one in running:
                one.join(max(0.0, deadline - time.monotonic()))
            with self._lock:
                self._free_engines()
        if reason == "closed":  # otherwise another error is on its way
            for one in running:
                if one.unfinished and one.failure is not None:
                    raise one.failure
