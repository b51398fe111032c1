"""How far a tracker of lower precision strays from fp32 when both follow the same object.

A tracker reads what it remembered itself, so an error may add up, and once the two follow different things they never
meet again. Both are prompted with the same mask on the first frame, and never see each other's state. Sequences are
rendered, and played to the end and back again until there are frames enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np

from vsdk_runtimes import Bundle, Precision
from vsdk_runtimes.errors import InputError

from ..frame import Image
from ..tracking.tracker import Tracker
from .chart import Axis, Curve, line_chart
from .mask_scores import region_similarity
from .rendered_sequences import rendered_sequences
from .track_sequence import Labels

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class TrackerDriftReport:
    """How near two trackers stayed.

    Attributes:
        bundle, digest: What ran.
        precision: What was compared with fp32.
        agreement: For each frame the mean intersection over union of the two trackers' masks, over all sequences.
        true: For each frame that of the fp32 masks with the truth.
        true_lower: For each frame that of the other precision's.
    """

    bundle: str
    digest: str
    precision: Precision
    agreement: tuple[float, ...]
    true: tuple[float, ...]
    true_lower: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return asdict(self)

    def chart(self) -> Any:
        """A picture (`PIL.Image.Image`): overlap over frames."""
        frames = list(range(1, len(self.agreement) + 1))
        curves = [
            Curve(f"{self.precision} and fp32", frames, list(self.agreement)),
            Curve("fp32 and the truth", frames, list(self.true)),
            Curve(f"{self.precision} and the truth", frames, list(self.true_lower)),
        ]
        return line_chart(
            f"Tracker of {self.bundle} at {self.precision}: overlap of masks",
            "intersection over union on each frame; both trackers run on their own state, prompted once",
            curves,
            Axis("frames tracked"),
            Axis("intersection over union"),
        )


def measure_tracker_drift(
    bundle: Bundle,
    *,
    precision: Precision = "int8",
    frames: int = 200,
    sequences: int = 5,
    seed: int = 0,
    progress: Progress = lambda says, fraction: None,
) -> TrackerDriftReport:
    """Run the tracker of a bundle at fp32 and at another precision over the same frames, on the CPU.

    Args:
        bundle: What to run.
        precision: Of the tracker that is compared.
        frames: Of each sequence, without the one that is prompted.
        sequences: How many are rendered.
        seed: Of the sequences.
        progress: Called with what is being done and the fraction that is done.

    Raises:
        InputError: No frames or no sequences.
        BundleSchemaError, EngineError: The bundle has no tracker, or it cannot be run as asked.
    """
    if frames < 1:
        raise InputError(f"a drift needs at least one frame, not {frames}")
    overlaps = np.zeros((3, sequences, frames))
    with (
        Tracker(bundle, precision="fp32", threads=1) as plain,
        Tracker(bundle, precision=precision, threads=1) as lower,
    ):
        for number, sequence in enumerate(rendered_sequences(sequences, seed)):
            played = _there_and_back(list(islice(sequence.frames(), frames + 1)))
            image, labels = next(played)
            for tracker in (plain, lower):
                tracker.reset()
                tracker.prompt(image, 1, mask=labels == 1)
                tracker.track(image)
            for index, (image, labels) in enumerate(islice(played, frames)):
                progress(f"{sequence.name}, frame {index}", (number + index / frames) / sequences)
                one, other, truth = plain.track(image)[0].mask, lower.track(image)[0].mask, labels == 1
                pairs = (one, other), (one, truth), (other, truth)
                overlaps[:, number, index] = [region_similarity(*pair) for pair in pairs]
    progress("done", 1.0)
    agreement, true, true_lower = (tuple(row.tolist()) for row in overlaps.mean(axis=1))
    return TrackerDriftReport(bundle.manifest.name, bundle.digest, precision, agreement, true, true_lower)


def _there_and_back(frames: list[tuple[Image, Labels]]) -> Iterator[tuple[Image, Labels]]:
    return cycle([*frames, *frames[-2:0:-1]])
