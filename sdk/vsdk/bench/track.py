"""How well and how fast a tracker follows objects: J, F and J&F on sequences with masks, and frames a second.

Every object of a sequence's first frame is prompted with its mask, then the tracker sees one frame after the other. Two
simple trackers see the same. Frames are decoded (or rendered) a few at a time before the tracker gets them, and scored
after it: its time is that of its `prompt` and `track` calls and nothing else.

Between sequences each of the four networks is timed alone, on what it got on a frame with a full memory. What the
tracker takes beyond that is its own: preparing frames, keeping the memory, choosing and enlarging masks.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

from vsdk_runtimes import Bundle
from vsdk_runtimes.errors import InputError
from vsdk_runtimes.onnxruntime_engine import available_threads

from ..frame import Image
from ..tracking.tracked import TrackedObject
from .mask_scores import Mask, Score, score
from .track_baselines import FrozenMask, TemplateTracker
from .track_components import ComponentTimes, Networks
from .track_report import ObjectResult, SequenceResult, TrackReport
from .track_sequence import VOID, Labels, TrackSequence, objects_of

CHUNK = 25
"""Frames that are held at a time."""
WARM_UP = 20
"""Frames after which every slot of a tracker's memory is filled."""
SETTLED_FRAMES = 100
"""Frames after which memory is looked at for the first time."""
ROUNDS = 30
"""How often each network is timed alone, at least."""

Progress = Callable[[str, float], None]


class Follows(Protocol):
    """What a tracker must be able to do to be scored."""

    def prompt(self, image: Image, object_id: int, /, *, mask: Mask) -> TrackedObject:
        """Say where an object is."""
        ...

    def track(self, image: Image, /) -> Sequence[TrackedObject]:
        """Where every object is; the prompted frame comes first."""
        ...

    def reset(self) -> None:
        """Forget every object."""
        ...


class MeasuredTracker(Follows, Protocol):
    """What a tracker must have besides to be measured: `vsdk.Tracker` has it."""

    @property
    def bundle(self) -> Bundle:
        """What runs."""
        ...

    @property
    def networks(self) -> Networks:
        """Its four sessions."""
        ...


def measure_track(
    tracker: MeasuredTracker,
    sequences: Sequence[TrackSequence],
    *,
    source: str = "",
    progress: Progress = lambda says, fraction: None,
) -> TrackReport:
    """Score and time a tracker, and score the two baselines.

    Args:
        tracker: Is reset before and after.
        sequences: What it is tested on.
        source: What these are, for the report.
        progress: Called with what is being done and the fraction that is done.

    Raises:
        InputError: There are no sequences, or no frame of one counts.
        SourceError: A frame cannot be read.
        EngineRunError: A network failed.
    """
    if not sequences:
        raise InputError("a tracker needs at least one sequence to be measured on")
    for sequence in sequences:
        if not sequence.scored:
            raise InputError(f"sequence {sequence.name} has {len(sequence)} frames, none of which counts")
    load = os.getloadavg()[0]
    progress("warming up", 0.0)
    components = _warmed_up(tracker, sequences[0])
    contenders: dict[str, Follows] = {"tracker": tracker, "frozen": FrozenMask(), "template": TemplateTracker()}
    total, frames, start = sum(map(len, sequences)), 0, None
    results = []
    for sequence in sequences:
        run = _Run(sequence, contenders)
        for chunk in _chunks(sequence.frames(), CHUNK):
            progress(sequence.name, frames / total)
            run.follow(chunk)
            frames += len(chunk)
            if start is None and frames >= SETTLED_FRAMES:
                start = resident_mb()
        results.append(run.result())
        components.measure(math.ceil(ROUNDS / len(sequences)))
    progress("done", 1.0)
    tracker.reset()
    info = tracker.networks.encoder.info
    return TrackReport(
        bundle=tracker.bundle.manifest.name,
        digest=tracker.bundle.digest,
        engine=f"{info.engine} {info.engine_version} on {info.device}, {info.precision}, {_threads(info.threads)}",
        source=source,
        load=load,
        cores=available_threads(),
        sequences=tuple(results),
        components=components.times(),
        rss_mb_start=start,
        rss_mb_end=resident_mb(),
    )


def resident_mb() -> float | None:
    """Memory of this process that is in RAM, megabytes; None where the system has no `/proc`.

    What the allocator only keeps for later is given back before, where there is a way to (glibc): how much that is
    depends on chance, and hides whether anything grows.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _warmed_up(tracker: MeasuredTracker, sequence: TrackSequence) -> ComponentTimes:
    """Run the tracker until its memory is full, and take down what its networks get then."""
    chunk = list(islice(sequence.frames(), WARM_UP + 1))
    tracker.reset()
    _prompt(tracker, *chunk[0])
    for image, _ in chunk[:-1]:
        tracker.track(image)
    components = ComponentTimes(tracker.networks)
    with components.recording():
        tracker.track(chunk[-1][0])
    components.measure(1)
    components.forget()  # the first round is not counted
    return components


def _prompt(tracker: Follows, image: Image, labels: Labels) -> float:
    """Prompt every object with its mask; gives the seconds that it took."""
    seconds = 0.0
    for number in objects_of(labels):
        mask = labels == number
        start = time.perf_counter()
        tracker.prompt(image, number, mask=mask)
        seconds += time.perf_counter() - start
    return seconds


class _Run:
    """All contenders on one sequence."""

    def __init__(self, sequence: TrackSequence, contenders: dict[str, Follows]) -> None:
        self._sequence, self._contenders = sequence, contenders
        self._seconds: list[float] = []
        self._scores: dict[int, dict[str, list[Score]]] = {}
        self._hidden: dict[int, int] = {}

    def follow(self, chunk: list[tuple[Image, Labels]]) -> None:
        """Track and score the next frames."""
        start = len(self._seconds)
        if start == 0:
            for item in objects_of(chunk[0][1]):
                self._scores[item] = {name: [] for name in self._contenders}
                self._hidden[item] = 0
        found: dict[str, list[dict[int, Mask]]] = {}
        for name, contender in self._contenders.items():
            found[name], seconds = _follow(contender, chunk, prompting=start == 0)
            if name == "tracker":
                self._seconds += seconds
        for offset, (_, labels) in enumerate(chunk):
            if start + offset in self._sequence.scored:
                self._score(labels, {name: masks[offset] for name, masks in found.items()})

    def result(self) -> SequenceResult:
        """What was found out."""
        return SequenceResult(
            name=self._sequence.name,
            first_scored=self._sequence.scored.start,
            seconds=tuple(self._seconds),
            objects=tuple(
                ObjectResult(item, self._hidden[item], {name: tuple(scores) for name, scores in by_name.items()})
                for item, by_name in self._scores.items()
            ),
        )

    def _score(self, labels: Labels, found: dict[str, dict[int, Mask]]) -> None:
        void = labels == VOID
        for item, scores in self._scores.items():
            truth = labels == item
            self._hidden[item] += not truth.any()
            for name, masks in found.items():
                scores[name].append(score(masks[item], truth, void if void.any() else None))


def _follow(
    tracker: Follows, chunk: list[tuple[Image, Labels]], *, prompting: bool
) -> tuple[list[dict[int, Mask]], list[float]]:
    """Track some frames, after prompting the objects of the first if it begins a sequence.

    Returns:
        For each frame the mask of every object, and the seconds that the tracker took.
    """
    found, taken = [], []
    for image, labels in chunk:
        seconds = 0.0
        if prompting:
            tracker.reset()
            seconds, prompting = _prompt(tracker, image, labels), False
        start = time.perf_counter()
        objects = tracker.track(image)
        taken.append(seconds + time.perf_counter() - start)
        found.append({item.object_id: item.mask for item in objects})
    return found, taken


def _chunks(frames: Iterable[tuple[Image, Labels]], size: int) -> Iterator[list[tuple[Image, Labels]]]:
    rest = iter(frames)
    while chunk := list(islice(rest, size)):
        yield chunk


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"
