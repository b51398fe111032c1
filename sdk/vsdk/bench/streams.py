"""Several cameras through one process: frames, drops, latency, and where the processor's time goes.

The cameras are a process of their own that sends a rendered clip over TCP (`cameras.py`), so everything that a camera
costs is there: the network, the decoder, the conversion to RGB.

Time is that of the processor, not that of a clock on the wall: what a thread waits does not count. What a Python thread
has used is read from its own clock; calls of the stages in it are timed with the same clock; what no Python thread has
used is that of the threads which the engine and FFmpeg have for themselves.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from vsdk_runtimes import Bundle, Precision
from vsdk_runtimes.errors import InputError, SourceTimeoutError
from vsdk_runtimes.onnxruntime_engine import available_threads

from ..events import End, Stats
from ..sources.live_settings import LiveSettings
from ..streams import Streams
from .cameras import running_cameras
from .clip import render_clip
from .speed import BUSY

WINDOW_SECONDS = 5.0
"""Latencies are those of so many seconds each."""
START_SECONDS = 120.0
CLIP_FRAMES = 150

PARTS = ("decode", "convert", "resize", "gate", "normalise", "encode", "scenes", "memory", "stream", "other", "helpers")
"""Where time goes. `convert` is to RGB; `gate` is all else that the reader does for a frame, so small pictures for
people too; `stream` is the rest of the streams' threads: events, sinks, statistics; `other` are the consumer and the
supervisors; `helpers` are the threads of the engine and of FFmpeg."""


@dataclass(frozen=True)
class CameraFigures:
    """How one stream did.

    Attributes:
        frames: Taken in while it was measured.
        frames_per_second: The same in a second.
        dropped: Frames that were replaced by newer ones.
        encoded: Share of the frames that went through the encoder.
        latency_p50: Seconds from capture to delivery: the median of the windows' medians.
        latency_p95: The largest of the windows' 95th percentiles.
    """

    frames: int
    frames_per_second: float
    dropped: int
    encoded: float
    latency_p50: float
    latency_p95: float


@dataclass(frozen=True)
class StreamsReport:
    """All figures of one measurement.

    Attributes:
        bundle, digest, engine: What ran.
        width, height, rate: Of the cameras.
        cores, load: Of this machine, before the start (1-minute load average).
        seconds: How long it was measured.
        cameras: Each stream.
        parts: Processor seconds a second of each of `PARTS`, that is, how many cores it kept busy.
        sender: The same of the cameras' process.
    """

    bundle: str
    digest: str
    engine: str
    width: int
    height: int
    rate: float
    cores: int
    load: float
    seconds: float
    cameras: tuple[CameraFigures, ...]
    parts: dict[str, float]
    sender: float

    @property
    def busy(self) -> bool:
        """Whether the machine had too much other work for the figures to be trusted."""
        return self.load > BUSY * self.cores

    @property
    def frames_per_second(self) -> float:
        """Of all cameras."""
        return sum(camera.frames_per_second for camera in self.cameras)

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {**asdict(self), "busy": self.busy, "frames_per_second": self.frames_per_second}


def measure_streams(
    bundle: Bundle,
    *,
    cameras: int = 4,
    rate: float = 15.0,
    seconds: float = 60.0,
    precision: Precision | None = None,
    threads: int | None = None,
    progress: Callable[[str, float], None] = lambda says, fraction: None,
) -> StreamsReport:
    """Measure a bundle on the CPU with cameras of 1280x720.

    Args:
        bundle: What to run.
        cameras: How many.
        rate: Pictures a second of each.
        seconds: How long to measure, at least two windows.
        precision: Of the networks; None takes the bundle's default.
        threads: Of the engine; None takes all cores.
        progress: Called with what is being done and the fraction that is done.

    Raises:
        InputError: Nothing could be measured that way.
        SourceTimeoutError: The cameras did not come up.
        BundleError, EngineError: The bundle cannot be run as asked.
    """
    if cameras < 1 or not 0 < rate <= 1000 or seconds < 2 * WINDOW_SECONDS:
        raise InputError(f"a measurement needs a camera, a rate, and at least {2 * WINDOW_SECONDS:g} seconds")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="vsdk-bench-") as folder:
        clip = Path(folder) / "clip.mp4"
        progress("rendering a clip", 0.0)
        render_clip(clip, CLIP_FRAMES)
        with running_cameras(clip, rate) as sender:
            begun = time.monotonic()
            urls = {f"camera {number + 1}": sender.url for number in range(cameras)}
            with Streams(
                bundle,
                urls,
                precision=precision,
                threads=threads,
                live=LiveSettings(),
                stats_every=WINDOW_SECONDS,
                on_features=(counts := _Encoded()).take,
            ) as streams:
                measured = _Measured(streams, counts)
                measured.run(seconds, progress)
            lived = time.monotonic() - begun
    return StreamsReport(
        bundle=bundle.manifest.name,
        digest=bundle.digest,
        engine=measured.engine,
        width=1280,
        height=720,
        rate=rate,
        cores=available_threads(),
        load=load,
        seconds=measured.seconds,
        cameras=tuple(measured.figures(name) for name in urls),
        parts=measured.parts(),
        sender=sender.seconds / lived,
    )


class _Encoded:
    """Counts the frames of each stream, and those that went through the encoder."""

    def __init__(self) -> None:
        self.frames: dict[str, int] = defaultdict(int)
        self.encoded: dict[str, int] = defaultdict(int)

    def take(self, name: str, number: int, seconds: float, cls: object, encoded: bool) -> None:
        """A frame is done with."""
        self.frames[name] += 1
        self.encoded[name] += encoded


class _Measured:
    """Runs streams and keeps the figures of the time in which all of them were there."""

    def __init__(self, streams: Streams, counts: _Encoded) -> None:
        self.seconds = 0.0
        info = streams.engines.encoder.session.info
        self.engine = f"{info.engine} {info.engine_version} on {info.device}, {info.precision}, {info.threads} threads"
        self._streams, self._counts = streams, counts
        self._calls = _Calls()
        self._windows: dict[str, list[Stats]] = defaultdict(list)
        self._used: dict[str, float] = {}
        self._time_calls()

    def run(self, seconds: float, progress: Callable[[str, float], None]) -> None:
        """Until it has been measured for so long."""
        waiting = time.monotonic()
        begun: float | None = None
        at_first: dict[str, float] = {}
        for name, event in self._streams:
            now = time.monotonic()
            if begun is None and now - waiting > START_SECONDS:
                raise SourceTimeoutError(f"the cameras did not come up within {START_SECONDS:g} s")
            if isinstance(event, End):
                raise SourceTimeoutError(f"{name} has ended: {event.message or event.reason}")
            if not isinstance(event, Stats) or event.frames == 0:
                continue
            self._windows[name].append(event)
            if begun is None:
                progress("waiting for the cameras", 0.0)
                if len(self._windows) == len(self._streams.names):
                    begun, at_first = now, self._processor_times()
                    self._windows = defaultdict(list, {each: [told[-1]] for each, told in self._windows.items()})
                continue
            progress("measuring", min(1.0, (now - begun) / seconds))
            if now - begun >= seconds and all(len(told) > 1 for told in self._windows.values()):
                self.seconds = now - begun
                at_last = self._processor_times()
                self._used = {part: at_last[part] - at_first.get(part, 0.0) for part in at_last}
                return

    def figures(self, name: str) -> CameraFigures:
        """Those of one stream."""
        first, *windows = self._windows[name]
        last = windows[-1]
        frames = last.frames - first.frames
        return CameraFigures(
            frames=frames,
            frames_per_second=frames / (last.seconds - first.seconds),
            dropped=last.dropped - first.dropped,
            encoded=self._counts.encoded[name] / max(self._counts.frames[name], 1),
            latency_p50=median(told.latency_p50 or 0.0 for told in windows),
            latency_p95=max(told.latency_p95 or 0.0 for told in windows),
        )

    def parts(self) -> dict[str, float]:
        """Processor seconds a second."""
        used = defaultdict(float, self._used)
        reader = used["vsdk-reader"] - used["convert"] - used["resize"]
        stream = used["vsdk-stream"] - sum(used[part] for part in ("normalise", "encode", "scenes", "memory"))
        threads = sum(seconds for part, seconds in used.items() if part.startswith("thread "))
        named = sum(used[part] for part in ("vsdk-capture", "vsdk-reader", "vsdk-stream"))
        derived = {
            "decode": used["vsdk-capture"],
            "gate": reader,
            "stream": stream,
            "other": threads,
            "helpers": used["process"] - named - threads,
        }
        return {part: derived.get(part, used[part]) / self.seconds for part in PARTS}

    def _time_calls(self) -> None:
        """Time the stages where they are called; an object's own attribute goes before its class's method."""
        encoder = self._streams.engines.encoder
        self._calls.time("resize", encoder.preprocessor, "resize")
        self._calls.time("normalise", encoder.preprocessor, "normalise")
        self._calls.time("encode", encoder.session, "run")
        for name in self._streams.names:
            stream = self._streams[name]
            self._calls.time("convert", stream.source, "take")
            self._calls.time("scenes", stream.pipeline.scenes, "push")
            if stream.memory is not None:
                self._calls.time("memory", stream.memory, "remember")

    def _processor_times(self) -> dict[str, float]:
        """Seconds used until now: by the process, by its Python threads, by the timed calls."""
        used: dict[str, float] = defaultdict(float)
        for thread in threading.enumerate():
            if thread.ident is None:
                continue
            ours = thread.name if thread.name in ("vsdk-capture", "vsdk-reader", "vsdk-stream") else "thread others"
            used[ours] += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        return {**used, **self._calls.seconds(), "process": time.process_time()}


class _Calls:
    """Processor seconds of calls, summed over all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nanoseconds: dict[str, int] = defaultdict(int)

    def time(self, part: str, owner: object, name: str) -> None:
        """Count what the calls of this method take."""
        method = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            with self._counted(part):
                return method(*arguments, **options)

        setattr(owner, name, timed)

    def seconds(self) -> dict[str, float]:
        """What was counted until now."""
        with self._lock:
            return {part: nanoseconds / 1e9 for part, nanoseconds in self._nanoseconds.items()}

    @contextmanager
    def _counted(self, part: str) -> Iterator[None]:
        begun = time.thread_time_ns()
        try:
            yield
        finally:
            used = time.thread_time_ns() - begun
            with self._lock:
                self._nanoseconds[part] += used
