"""How fast a bundle runs here, stage by stage and end to end, and how near that is to what is possible.

Each stage is measured alone, in one thread. A stream runs its stages at the same time, so at best it is as fast as its
slowest stage, and at best it keeps every core busy:

    ideal = min(rate of the slowest stage, cores / sum of the stages' seconds a frame)

The memory, which works once a scene, is part of the streams where the bundle has one, but no stage of its own; `vsdk
bench memory` measures it.

Rounds are interleaved (every contender once, then every contender again), so that a machine that slows down for a while
slows them all; minimum and median are reported. On a machine that had other work to do the figures say little.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vsdk_runtimes import Bundle, Precision
from vsdk_runtimes.errors import InputError, SourceEmptyError
from vsdk_runtimes.onnxruntime_engine import available_threads

from ..encoder import Encoder
from ..frame import Frame, Image
from ..gate import Gate, GateSettings, block_means
from ..scene_tilling import SceneTilling
from ..settings import gate_settings, scene_settings
from ..sources.base import Source, SourceInfo
from ..sources.opening import open_source
from ..stream import BATCH, Stream

BUSY = 0.5
"""Load for each core, before the start, above which the figures are not to be trusted."""

MIN_ROUNDS = 5
KEPT_BYTES = 128_000_000
"""Most memory for decoded frames that are kept to measure the resizing of."""

STAGES = ("decode", "resize", "gate", "normalise", "encode", "scenes")
"""The stages of a stream, in order; `encode` is measured at the stream's batch."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Timing:
    """Seconds a frame of one contender, one figure a round."""

    seconds: tuple[float, ...]

    @property
    def best(self) -> float:
        """The fastest round, seconds a frame."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The median round, seconds a frame."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class SpeedReport:
    """All figures of one measurement.

    Attributes:
        bundle, digest, engine: What ran.
        source, width, height, frames: What it ran on.
        cores, load: Of this machine, before the start (1-minute load average).
        rounds: How often everything was measured.
        stages: Each of `STAGES`, and `encode one` (batch 1), alone in one thread.
        every_frame: A stream that encodes every frame.
        gated: A stream with the bundle's gate.
        encoded: Share of the frames that `gated` encoded.
        still: A stream with the bundle's gate on a clip in which nothing happens; None where a source was named.
        still_encoded: Share of its frames that were encoded.
    """

    bundle: str
    digest: str
    engine: str
    source: str
    width: int
    height: int
    frames: int
    cores: int
    load: float
    rounds: int
    stages: dict[str, Timing]
    every_frame: Timing
    gated: Timing
    encoded: float
    still: Timing | None = None
    still_encoded: float = 0.0

    @property
    def busy(self) -> bool:
        """Whether the machine had too much other work for the figures to be trusted."""
        return self.load > BUSY * self.cores

    def ideal(self, figure: Callable[[Timing], float] = lambda timing: timing.median) -> float:
        """Frames a second that a stream of these stages could reach on these cores."""
        seconds = [figure(self.stages[name]) for name in STAGES]
        return min(1 / max(seconds), self.cores / sum(seconds))

    def share(self, figure: Callable[[Timing], float] = lambda timing: timing.median) -> float:
        """How much of the ideal `every_frame` reaches."""
        return 1 / figure(self.every_frame) / self.ideal(figure)

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            **asdict(self),
            "busy": self.busy,
            "ideal": {"median": self.ideal(), "best": self.ideal(_best)},
            "share": {"median": self.share(), "best": self.share(_best)},
        }


def measure_speed(
    bundle: Bundle,
    source: str | None = None,
    *,
    frames: int = 200,
    rounds: int = 20,
    precision: Precision | None = None,
    progress: Progress = lambda says, fraction: None,
) -> SpeedReport:
    """Measure a bundle on the CPU.

    Args:
        bundle: What to run.
        source: A video file or a folder of images; None renders a clip.
        frames: How many of its frames to use, at least 8.
        rounds: How often to measure everything, at least 5.
        precision: Of the encoder; None takes the bundle's default.
        progress: Called with what is being done and the fraction that is done.

    Raises:
        InputError: Too few frames or rounds.
        SourceError, BundleError, EngineError: There is nothing to measure.
    """
    if rounds < MIN_ROUNDS or frames < 2 * BATCH:
        raise InputError(f"a measurement needs at least {MIN_ROUNDS} rounds and {2 * BATCH} frames")
    load = os.getloadavg()[0]
    with _clips(source, frames, progress) as (path, still):
        bench = _Bench(bundle, path, still, frames, precision)
        contenders = bench.contenders()
        found: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range(rounds):
            for position, (name, run) in enumerate(contenders.items()):
                progress(name, (number + position / len(contenders)) / rounds)
                found[name].append(run())
        progress("done", 1.0)
        timings = {name: Timing(tuple(seconds)) for name, seconds in found.items()}
        info = bench.encoder.session.info
        return SpeedReport(
            bundle=bundle.manifest.name,
            digest=bundle.digest,
            engine=f"{info.engine} {info.engine_version} on {info.device}, {info.precision}",
            source=source or "rendered clip",
            width=bench.kept[0].shape[1],
            height=bench.kept[0].shape[0],
            frames=bench.frames,
            cores=available_threads(),
            load=load,
            rounds=rounds,
            stages={name: timings[name] for name in (*STAGES, "encode one")},
            every_frame=timings["every frame"],
            gated=timings["gated"],
            encoded=bench.encoded["gated"] / bench.frames,
            still=timings.get("still"),
            still_encoded=bench.encoded["still"] / bench.frames,
        )


class _Bench:
    """The contenders; each is a function that runs once and returns its seconds a frame."""

    def __init__(self, bundle: Bundle, path: str, still: str | None, frames: int, precision: Precision | None) -> None:
        self.bundle, self.path, self.still, self.precision = bundle, path, still, precision
        self.gate = gate_settings(bundle)
        self.scenes = scene_settings(bundle)
        self.encoder = Encoder(bundle, precision=precision, threads=1)
        self.kept: list[Image] = []
        self.resized: list[Image] = []
        times: list[int] = []
        kept_bytes = 0
        for frame in _FirstFrames(open_source(path), frames):
            self.resized.append(self.encoder.preprocessor.resize(frame.image))
            times.append(frame.time_ns)
            if not self.kept or kept_bytes + frame.image.nbytes <= KEPT_BYTES:
                self.kept.append(frame.image)
                kept_bytes += frame.image.nbytes
        self.frames = len(self.resized)
        if self.frames < 2 * BATCH:
            raise SourceEmptyError(f"{path} has only {self.frames} frames; a measurement needs {2 * BATCH}")
        self.times = times
        self.batches = [self.resized[at : at + BATCH] for at in range(0, self.frames - BATCH + 1, BATCH)]
        self.cls = [row for batch in self.batches for row in self.encoder.encode(batch).cls]
        self.encoded: Counter[str] = Counter()

    def contenders(self) -> dict[str, Callable[[], float]]:
        still = self.still
        found = {
            "decode": self._decode,
            "resize": self._resize,
            "gate": self._gate,
            "normalise": self._normalise,
            "encode one": lambda: self._encode(1),
            "encode": lambda: self._encode(BATCH),
            "scenes": self._scenes,
            "every frame": lambda: self._stream("every frame", self.path, replace(self.gate, enabled=False)),
            "gated": lambda: self._stream("gated", self.path, self.gate),
        }
        if still is not None:
            found["still"] = lambda: self._stream("still", still, self.gate)
        return found

    def _decode(self) -> float:
        with _FirstFrames(open_source(self.path, threads=1), self.frames) as source:
            start = time.perf_counter()
            count = sum(1 for _ in source)
            return (time.perf_counter() - start) / count

    def _resize(self) -> float:
        return _each(self.kept, self.encoder.preprocessor.resize)

    def _gate(self) -> float:
        gate = Gate(self.gate)
        start = time.perf_counter()
        for picture, t_ns in zip(self.resized, self.times, strict=True):
            blocks = block_means(picture)
            if not gate.is_flat(blocks):
                gate.opens(blocks, t_ns)
        return (time.perf_counter() - start) / self.frames

    def _normalise(self) -> float:
        out = self.encoder.preprocessor.normalise(self.batches[0])
        return _each(self.batches, lambda batch: self.encoder.preprocessor.normalise(batch, out=out)) / BATCH

    def _encode(self, batch: int) -> float:
        pixels = self.encoder.preprocessor.normalise(self.resized[:batch])
        outputs = [name for name in ("cls", "embedding") if name in self.encoder.session.outputs]
        runs = range(max(1, min(self.frames, 32) // batch))
        return _each(runs, lambda _: self.encoder.session.run({"pixels": pixels}, outputs=outputs)) / batch

    def _scenes(self) -> float:
        return _each(self.cls, SceneTilling(self.scenes).push)

    def _stream(self, name: str, path: str, gate: GateSettings) -> float:
        source = _FirstFrames(open_source(path, threads=1), self.frames)
        with Stream(self.bundle, source, precision=self.precision, threads=1, gate=gate) as stream:
            start = time.perf_counter()
            for event in stream:
                if event.type == "end":
                    self.encoded[name] = event.encoded
            return (time.perf_counter() - start) / self.frames


def _each(items: Any, work: Callable[[Any], object]) -> float:
    """Seconds that `work` takes for one of `items`."""
    start = time.perf_counter()
    for item in items:
        work(item)
    return (time.perf_counter() - start) / len(items)


class _FirstFrames(Source):
    """A source that ends after so many frames of another one."""

    def __init__(self, source: Source, count: int) -> None:
        self._source = source
        self._left = count

    @property
    def info(self) -> SourceInfo:
        """The other source's."""
        return self._source.info

    def read(self) -> Frame | None:
        """See `Source.read`."""
        if self._left == 0:
            return None
        self._left -= 1
        return self._source.read()

    def close(self) -> None:
        """See `Source.close`."""
        self._source.close()


@contextmanager
def _clips(source: str | None, frames: int, progress: Progress) -> Iterator[tuple[str, str | None]]:
    """The source to measure with; if there is none, a clip and a still one, rendered into a temporary folder."""
    if source is not None:
        yield source, None
        return
    from .clip import render_clip

    with tempfile.TemporaryDirectory(prefix="vsdk-bench-") as folder:
        progress("rendering a clip", 0.0)
        path, still = Path(folder) / "clip.mp4", Path(folder) / "still.mp4"
        render_clip(path, frames)
        render_clip(still, frames, still=True)
        yield str(path), str(still)


def _best(timing: Timing) -> float:
    return timing.best
