"""The needle-in-a-video-haystack test (NIAVH of VideoLLaMB), synthetic and without a judge model.

A needle is shown once, for one second, somewhere in a video of 1 to 320 seconds at one frame a second; at the end the
memory is asked which of the classes it was. Lengths and depths are those of the published test; a needle at a depth of
100 % is the last second (there, the clip is made longer). Fixed segments of eight frames are read, so exactly one frame
of one segment shows the needle.

Haystacks are drawn and encoded once and shared between trials, and what lies before a needle is run once for all
needles behind it: the answers are those of separate runs, in a small part of the time. Needles are drawn over the
picture that the encoder sees, after it has been brought to that size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vsdk_runtimes import Bundle, Precision
from vsdk_runtimes.errors import BundleSchemaError, InputError

from ..encoder import Encoder
from ..frame import Image
from .haystacks import drawn_haystack, real_haystack
from .needles import KINDS, WAYS, Kind, Needle, Way
from .niavh_contenders import Contender, LastFrames, Means, Recurrent, Task, read_task
from .niavh_report import NiavhReport, Outcome

LONGEST = 320
"""Seconds of the longest video."""
GRID = (40, 12)
HAYSTACKS = 8
"""How many videos are drawn for the trials; half of them are taken from the file, where one is given."""
SIDE = 128
"""Side of the pictures that are drawn, before the encoder's own resizing."""
BATCH = 8

Vectors = npt.NDArray[np.float32]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Trial:
    """One needle in one haystack.

    Attributes:
        cell: Column (length) and row (depth) of the grid.
        length: Seconds of the video.
        second: The second that shows the needle.
        haystack: Which haystack.
        label, way, kind, seed, moment: The needle's, see `Needle`.
    """

    cell: tuple[int, int]
    length: int
    second: int
    haystack: int
    label: int
    way: Way
    kind: Kind
    seed: int
    moment: float


def lengths_of(columns: int) -> list[int]:
    """Seconds of the videos of each column: evenly from 1 to `LONGEST`."""
    return [int(value) for value in np.round(np.linspace(1, LONGEST, columns))]


def depths_of(rows: int) -> list[int]:
    """Depths of each row, percent: evenly from 0 to 100."""
    return [int(value) for value in np.round(np.linspace(0, 100, rows))]


def plan_trials(grid: tuple[int, int], trials: int, classes: int, seed: int) -> list[Trial]:
    """All trials: so many in each cell, with haystacks, ways and kinds of needle dealt evenly."""
    rng = np.random.default_rng((seed, 2))
    planned: list[Trial] = []
    for column, length in enumerate(lengths_of(grid[0])):
        for row, depth in enumerate(depths_of(grid[1])):
            for repeat in range(trials):
                number = len(planned)
                planned.append(
                    Trial(
                        cell=(column, row),
                        length=length,
                        second=min(length * depth // 100, length - 1),
                        haystack=(column + row + repeat) % HAYSTACKS,
                        label=int(rng.integers(classes)),
                        way=WAYS[int(rng.integers(len(WAYS)))],
                        kind=KINDS[int(rng.integers(len(KINDS)))],
                        seed=seed * 1_000_003 + number,
                        moment=float(rng.random()),
                    )
                )
    return planned


def measure_niavh(
    bundle: Bundle,
    *,
    grid: tuple[int, int] = GRID,
    trials: int = 1,
    seed: int = 0,
    haystack: Path | None = None,
    threads: int | None = None,
    precision: Precision | None = None,
    encoder_precision: Precision | None = None,
    progress: Progress = lambda says, fraction: None,
) -> NiavhReport:
    """Run the test on a bundle with a bridge and readouts, on the CPU.

    Args:
        bundle: `nano`, or one with the same components.
        grid: How many lengths and how many depths.
        trials: How many needles in each cell.
        seed: Other seeds give other needles and other haystacks.
        haystack: A video file from which every other haystack is taken.
        threads: Most threads of the engine.
        precision: Of the memory's bridge; None takes the bundle's default. All else runs at that.
        encoder_precision: Of the encoder, which all read; None takes the bundle's default.
        progress: Called with what is being done and the fraction that is done.

    Raises:
        InputError: A grid of less than 1 x 1, no trials, or a negative seed.
        BundleSchemaError: The bundle has no memory or no readouts, or the readouts do not belong to its memory.
        SourceError: The file cannot be read.
    """
    if min(grid) < 1 or trials < 1 or seed < 0:
        raise InputError(f"a grid of {grid[0]}x{grid[1]} with {trials} trials (seed {seed}) is no test")
    progress("loading", 0.0)
    task = _checked_task(bundle)
    planned = plan_trials(grid, trials, task.classes, seed)
    with _Bench(bundle, seed, haystack, threads, precision, encoder_precision) as bench:
        outcomes, without = bench.run(planned, progress)
        return NiavhReport(
            bundle=bundle.manifest.name,
            digest=bundle.digest,
            engine=bench.engine,
            haystack=f"drawn, and {haystack.name}" if haystack is not None else "drawn",
            seed=seed,
            classes=task.classes,
            trained_length=task.trained_length,
            lengths=lengths_of(grid[0]),
            depths=depths_of(grid[1]),
            trials=trials,
            window=bench.last_n.window,
            floats={name: contender.floats for name, contender in bench.contenders.items()},
            outcomes=tuple(sorted(outcomes, key=lambda outcome: outcome.cell)),
            without=tuple(without),
        )


class _Bench:
    """Encoder, contenders and haystacks of one test."""

    def __init__(
        self,
        bundle: Bundle,
        seed: int,
        file: Path | None,
        threads: int | None,
        precision: Precision | None,
        encoder_precision: Precision | None,
    ) -> None:
        self.seed, self.file = seed, file
        self.encoder = Encoder(bundle, precision=encoder_precision, threads=threads, patches=True)
        self.memory = Recurrent(bundle, "bridge", "readout", threads, precision)
        self.last_n = LastFrames(bundle, self.memory.floats, threads)
        self.contenders: dict[str, Contender] = {
            "memory": self.memory,
            "last_n": self.last_n,
            "mean": Means(bundle, self.memory.floats, threads),
            "no_retrieval": Recurrent(bundle, "bridge.no_retrieval", "readout.no_retrieval", threads),
        }
        info = self.memory.bridge.session.info
        self.engine = f"{info.engine} {info.engine_version} on {info.device}, {info.precision}"

    def __enter__(self) -> _Bench:
        return self

    def __exit__(self, *error: object) -> None:
        self.encoder.close()
        for contender in self.contenders.values():
            contender.close()

    def run(self, planned: list[Trial], progress: Progress) -> tuple[list[Outcome], list[float]]:
        """All trials, and the memory's `presence` for each length of each haystack without a needle."""
        outcomes: list[Outcome] = []
        without: list[float] = []
        for number in sorted({trial.haystack for trial in planned}):
            progress(f"haystack {number + 1}", len(outcomes) / len(planned))
            pictures = self._haystack(number)
            patches = encode(self.encoder, pictures)
            for contender in self.contenders.values():
                contender.watch(patches)
            mine = [trial for trial in planned if trial.haystack == number]
            without += [_presence(self.memory.answer(length)) for length in sorted({trial.length for trial in mine})]
            for trial in mine:
                outcomes.append(self._outcome(trial, pictures))
                progress(f"{len(outcomes)} of {len(planned)} needles", len(outcomes) / len(planned))
        return outcomes, without

    def _outcome(self, trial: Trial, pictures: list[Image]) -> Outcome:
        needle = Needle(trial.label, trial.way, trial.kind, "test", trial.seed)
        picture = needle.show(pictures[trial.second], trial.moment)
        shown = trial.second, _patches(self.encoder, [picture])[0]
        scores = {name: contender.answer(trial.length, shown) for name, contender in self.contenders.items()}
        first, last = self.memory.seconds_of_needle()
        return Outcome(
            cell=trial.cell,
            length=trial.length,
            second=trial.second,
            way=trial.way,
            kind=trial.kind,
            real=self._is_real(trial.haystack),
            right={name: int(values[:-1].argmax()) == trial.label for name, values in scores.items()},
            presence=_presence(scores["memory"]),
            named=(first, min(last, trial.length - 1)),
        )

    def _is_real(self, number: int) -> bool:
        return self.file is not None and number % 2 == 1

    def _haystack(self, number: int) -> list[Image]:
        resize = self.encoder.preprocessor.resize
        if self.file is not None and self._is_real(number):
            return real_haystack(self.file, LONGEST, resize, offset=0.1 * (number + self.seed % 7))
        return [resize(picture) for picture in drawn_haystack(self.seed * HAYSTACKS + number, LONGEST, SIDE)]


def encode(encoder: Encoder, pictures: list[Image]) -> Vectors:
    """Patch tokens of pictures of the encoder's size, float32 `[pictures, patches, width]`."""
    batches = (pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH))
    return np.concatenate([_patches(encoder, batch) for batch in batches])


def _patches(encoder: Encoder, pictures: list[Image]) -> Vectors:
    patches = encoder.encode(pictures).patches
    assert patches is not None, "checked when the bundle was loaded"
    return patches


def _checked_task(bundle: Bundle) -> Task:
    for role in ("bridge", "readout", "readout.last_n", "readout.mean", "bridge.no_retrieval", "readout.no_retrieval"):
        if not bundle.has(role):
            raise BundleSchemaError(
                f"bundle {bundle.folder} has no component with the role {role!r}, which this test needs",
                hint="Run it on the bundle that comes with vsdk: leave --bundle out.",
            )
    return read_task(bundle)


def _presence(scores: Vectors) -> float:
    """How sure it is that there was a needle: the logarithm of the odds."""
    high = float(scores[:-1].max())
    return high + float(np.log(np.exp(scores[:-1].astype(np.float64) - high).sum())) - float(scores[-1])
