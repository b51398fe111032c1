"""What a step of the memory costs after ten segments, after a thousand, and later; next to a cache that grows.

Every step up to the last is really run, on one thread, with random patch tokens, and the memory of a few moments on
the way is kept. Then rounds are interleaved: the next step of each moment once, then each again, so that a machine that
slows down for a while slows them all.

The published model keeps every memory, and at every step projects all of them to keys and values again before it reads
them. That part of its step is timed in the same rounds, in NumPy, with random weights of the same sizes. Its bridge
pass, which does not grow, is left out, so what is shown for it is a lower bound.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from vsdk_runtimes import Bundle, Precision
from vsdk_runtimes.errors import InputError
from vsdk_runtimes.onnxruntime_engine import available_threads

from ..memory.bridge import MemoryBridge, memory_bytes
from .chart import Axis, Curve, line_chart
from .speed import BUSY, MIN_ROUNDS

MOST_GROWING_BYTES = 1_000_000_000
"""The growing cache is measured as long as it stays below this."""
MIN_SEGMENTS = 100
HEADS = 8

Progress = Callable[[str, float], None]
Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Moment:
    """What a step costs at one segment.

    Attributes:
        segment: How many segments were read before.
        step: Seconds of the next step, one figure a round.
        step_bytes: What the recurrent state takes.
        growing: Seconds that the published, growing cache then takes to be projected and read; empty when it is too
            large to be measured.
        growing_bytes: What the growing cache takes.
    """

    segment: int
    step: tuple[float, ...]
    step_bytes: int
    growing: tuple[float, ...]
    growing_bytes: int


@dataclass(frozen=True)
class MemoryReport:
    """All figures of one measurement.

    Attributes:
        bundle, digest, engine: What ran.
        load, cores: Of this machine, before the start (1-minute load average).
        capacity: Slots of the cache.
        moments: What a step cost, earliest first.
    """

    bundle: str
    digest: str
    engine: str
    load: float
    cores: int
    capacity: int
    moments: tuple[Moment, ...]

    @property
    def busy(self) -> bool:
        """Whether the machine had too much other work for the figures to be trusted."""
        return self.load > BUSY * self.cores

    @property
    def spread(self) -> float:
        """How far the moments' fastest steps are apart: the slowest over the fastest, minus 1."""
        steps = [min(moment.step) for moment in self.moments]
        return max(steps) / min(steps) - 1

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {**asdict(self), "busy": self.busy, "spread": self.spread}

    def chart(self) -> Any:
        """A picture (`PIL.Image.Image`): seconds over segments, both logarithmic."""
        step = {moment.segment: min(moment.step) for moment in self.moments}
        growing = {moment.segment: min(moment.growing) for moment in self.moments if moment.growing}
        curves = [
            Curve(name, list(figures), [1e3 * seconds for seconds in figures.values()])
            for name, figures in (
                ("vsdk: the whole step", step),
                ("a growing cache: projecting and reading it", growing),
            )
            if figures
        ]
        rounds = len(self.moments[0].step)
        return line_chart(
            f"One step of the memory of {self.bundle}",
            f"{self.capacity} slots, {self.engine}, one thread, fastest of {rounds} rounds; the growing cache in NumPy",
            curves,
            Axis("segments read before", log=True),
            Axis("ms", log=True),
        )


def measure_memory(
    bundle: Bundle,
    *,
    segments: int = 1000,
    rounds: int = 20,
    precision: Precision | None = None,
    seed: int = 0,
    progress: Progress = lambda says, fraction: None,
) -> MemoryReport:
    """Measure the memory of a bundle on the CPU.

    Args:
        bundle: What to run.
        segments: How many segments to read, at least 100.
        rounds: How often to measure everything, at least 5.
        precision: Of the bridge; None takes the bundle's default.
        seed: Of the random patch tokens.
        progress: Called with what is being done and the fraction that is done.

    Raises:
        InputError: Too few segments or rounds.
        BundleSchemaError, EngineError: The bundle has no bridge, or it cannot be run.
    """
    if segments < MIN_SEGMENTS or rounds < MIN_ROUNDS:
        raise InputError(f"a measurement needs at least {MIN_SEGMENTS} segments and {MIN_ROUNDS} rounds")
    load = os.getloadavg()[0]
    bridge = MemoryBridge(bundle, precision=precision, threads=1)
    rng = np.random.default_rng(seed)
    shape = (bridge.frames, bridge.patches, bridge.width)
    pool = [rng.standard_normal(shape, np.float32) for _ in range(4)]
    growing = _GrowingCache(bridge, rng, segments)
    kept: dict[int, _Kept] = {}
    for segment in chosen_segments(segments):
        while bridge.segments < segment:
            progress(f"segment {bridge.segments}", 0.8 * bridge.segments / segments)
            bridge.step(pool[bridge.segments % len(pool)])
        kept[segment] = _Kept(bridge)
    steps: dict[int, list[float]] = {segment: [] for segment in kept}
    grown: dict[int, list[float]] = {segment: [] for segment in kept if growing.fits(segment)}
    for number in range(rounds):
        progress(f"round {number + 1}", 0.8 + 0.2 * number / rounds)
        for segment, moment in kept.items():
            for _ in range(2):  # the first is not counted: the processor's caches may be full of other things
                moment.restore()
                seconds = _timed(lambda: bridge.step(pool[0]))
            steps[segment].append(seconds)
        for segment, figures in grown.items():  # apart from the steps, which its large arrays would slow down
            figures.append(_timed(partial(growing.read, segment)))
    progress("done", 1.0)
    taken = memory_bytes(bundle.component("bridge")).state
    info = bridge.session.info
    bridge.close()
    return MemoryReport(
        bundle=bundle.manifest.name,
        digest=bundle.digest,
        engine=f"{info.engine} {info.engine_version} on {info.device}, {info.precision}",
        load=load,
        cores=available_threads(),
        capacity=0 if bridge.cache is None else bridge.cache.capacity,
        moments=tuple(
            Moment(segment, tuple(steps[segment]), taken, tuple(grown.get(segment, ())), growing.bytes(segment))
            for segment in kept
        ),
    )


def chosen_segments(last: int) -> list[int]:
    """10, 30, 100, 300 and so on, up to `last`, which is among them."""
    chosen = [first * 10**power for power in range(1, 10) for first in (1, 3)]
    return [*[segment for segment in chosen if segment < last], last]


class _Kept:
    """A bridge as it was at one moment."""

    def __init__(self, bridge: MemoryBridge) -> None:
        self._bridge = bridge
        self._segments, self._entries, self._state = bridge.segments, bridge.entries, bridge.state.snapshot()

    def restore(self) -> None:
        self._bridge.restore(self._segments, self._entries, self._state)


class _GrowingCache:
    """The published model's cache: all memories of all segments, projected and read as a whole at every step."""

    def __init__(self, bridge: MemoryBridge, rng: np.random.Generator, segments: int) -> None:
        spec, self._width = bridge.spec, bridge.width
        self._tokens = spec.tokens if spec.variant == "memories" else spec.frames * spec.grid**2
        self._heads = HEADS if self._width % HEADS == 0 else 1
        scale = np.float32(self._width**-0.5)
        self._key, self._value, self._out = (
            rng.standard_normal((self._width, self._width), np.float32) * scale for _ in range(3)
        )
        self._query = rng.standard_normal((spec.tokens, self._width), np.float32)
        most = max(segment for segment in [0, *chosen_segments(segments)] if self.fits(segment))
        self._cache = rng.standard_normal((most * self._tokens, self._width), np.float32)

    def bytes(self, segments: int) -> int:
        return segments * self._tokens * self._width * 4

    def fits(self, segments: int) -> bool:
        return self.bytes(segments) <= MOST_GROWING_BYTES

    def read(self, segments: int) -> Values:
        """What the published step does with a cache of so many segments."""
        cache = self._cache[: segments * self._tokens]
        keys, values = (self._split(cache @ weight) for weight in (self._key, self._value))
        scores = self._split(self._query) @ keys.transpose(0, 2, 1) * np.float32((self._width / self._heads) ** -0.5)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        read = (scores @ values).transpose(1, 0, 2).reshape(-1, self._width)
        result: Values = read @ self._out + self._query
        return result

    def _split(self, tokens: Values) -> Values:
        """`[tokens, width]` as `[heads, tokens, width / heads]`."""
        return tokens.reshape(len(tokens), self._heads, -1).transpose(1, 0, 2)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
