"""What `vsdk bench track` found out."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from .chart import Axis, Curve, line_chart
from .mask_scores import Score, mean_score
from .speed import BUSY

CONTENDERS = {"tracker": "tracker", "template": "template, moved along", "frozen": "first mask, left where it was"}
"""Contenders, and their names for people."""


@dataclass(frozen=True)
class ObjectResult:
    """One object of a sequence.

    Attributes:
        number: Its number in the annotation.
        hidden: Scored frames on which nothing of it is visible.
        scores: For each contender, the scores of the frames that count.
    """

    number: int
    hidden: int
    scores: dict[str, tuple[Score, ...]]

    def score(self, contender: str) -> Score:
        """The mean over its frames."""
        return mean_score(list(self.scores[contender]))


@dataclass(frozen=True)
class SequenceResult:
    """One sequence.

    Attributes:
        name: Of the sequence.
        first_scored: Number of the first frame that counts.
        seconds: That the tracker took for each frame; for the first with its prompts.
        objects: Its objects.
    """

    name: str
    first_scored: int
    seconds: tuple[float, ...]
    objects: tuple[ObjectResult, ...]

    def score(self, contender: str) -> Score:
        """The mean over its objects."""
        return mean_score([item.score(contender) for item in self.objects])

    def to_dict(self) -> dict[str, Any]:
        """A row for JSON."""
        tracker = self.score("tracker")
        return {
            "name": self.name,
            "objects": len(self.objects),
            "frames": len(self.seconds),
            "hidden_frames": sum(item.hidden for item in self.objects),
            "j": tracker.j,
            "f": tracker.f,
            "jf": tracker.jf,
            "jf_frozen": self.score("frozen").jf,
            "jf_template": self.score("template").jf,
            "fps": len(self.seconds) / sum(self.seconds),
        }


@dataclass(frozen=True)
class TrackReport:
    """All figures of one measurement.

    Attributes:
        bundle, digest, engine: What ran.
        source: What it ran on.
        load, cores: Of this machine, before the start (1-minute load average).
        sequences: One result each.
        components: Seconds that each network alone takes for a frame, median.
        rss_mb_start, rss_mb_end: Resident memory after 100 frames and at the end; None if there were fewer frames, or
            where it is not known.
    """

    bundle: str
    digest: str
    engine: str
    source: str
    load: float
    cores: int
    sequences: tuple[SequenceResult, ...]
    components: dict[str, float]
    rss_mb_start: float | None
    rss_mb_end: float | None

    @property
    def busy(self) -> bool:
        """Whether the machine had too much other work for the speed to be trusted."""
        return self.load > BUSY * self.cores

    @property
    def frames(self) -> int:
        """How many were tracked."""
        return sum(len(result.seconds) for result in self.sequences)

    @property
    def objects(self) -> int:
        """How many were tracked."""
        return sum(len(result.objects) for result in self.sequences)

    @property
    def fps(self) -> float:
        """Frames a second over all prompts and frames."""
        return self.frames / sum(sum(result.seconds) for result in self.sequences)

    @property
    def median_seconds(self) -> float:
        """Of all frames."""
        return statistics.median(seconds for result in self.sequences for seconds in result.seconds)

    @property
    def fps_of_components(self) -> float:
        """Frames a second if nothing but the networks took time."""
        return 1 / sum(self.components.values())

    def score(self, contender: str) -> Score:
        """The mean over all objects of all sequences."""
        return mean_score([item.score(contender) for result in self.sequences for item in result.objects])

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        tracker = self.score("tracker")
        return {
            "bundle": self.bundle,
            "digest": self.digest,
            "engine": self.engine,
            "source": self.source,
            "j": tracker.j,
            "f": tracker.f,
            "jf": tracker.jf,
            "jf_frozen": self.score("frozen").jf,
            "jf_template": self.score("template").jf,
            "frames": self.frames,
            "objects": self.objects,
            "fps": self.fps,
            "ms_a_frame_median": 1e3 * self.median_seconds,
            "fps_of_components": self.fps_of_components,
            "ms_of_components": {name: 1e3 * seconds for name, seconds in self.components.items()},
            "load": self.load,
            "cores": self.cores,
            "busy": self.busy,
            "rss_mb_start": self.rss_mb_start,
            "rss_mb_end": self.rss_mb_end,
            "sequences": [result.to_dict() for result in self.sequences],
        }

    def curve(self, contender: str) -> Curve:
        """J&F of each frame number, the mean of all objects that have it."""
        scores: dict[int, list[Score]] = {}
        for result in self.sequences:
            for item in result.objects:
                for number, scored in enumerate(item.scores[contender], start=result.first_scored):
                    scores.setdefault(number, []).append(scored)
        numbers = sorted(scores)
        return Curve(CONTENDERS[contender], numbers, [mean_score(scores[number]).jf for number in numbers])

    def chart(self) -> Any:
        """A picture (`PIL.Image.Image`): J&F over frames, of the tracker and the baselines."""
        return line_chart(
            f"J&F of {self.bundle} on {self.source}, frame by frame",
            f"mean of {self.objects} objects, prompted with their masks on the first frame; {self.engine}",
            [self.curve(name) for name in CONTENDERS],
            Axis("frame"),
            Axis("J&F"),
        )
