"""Two plain scene detectors to compare with: a grey difference, and PySceneDetect's ContentDetector.

Each has a score for every frame and a rule that turns scores into cuts. Their settings were chosen on the same tuning
split as vsdk's (`python -m vsdk_models.nano.evaluate_scenes --split tuning` prints the best ones).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from .clips import Frame, Transition
from .detection_scores import Interval, Score, score

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """How scores become cuts.

    Attributes:
        threshold: A frame whose score is at least this starts a scene.
        min_length: Fewest frames between two cuts.
    """

    threshold: float
    min_length: int


def grey_differences(frames: Iterable[Frame]) -> Scores:
    """Mean absolute difference to the frame before, of 32x32 grey pictures, in 8-bit steps; 0 for the first frame."""
    scores, before = [], None
    for frame in frames:
        grey = np.asarray(Image.fromarray(frame).convert("L").resize((32, 32), Image.Resampling.BOX), np.float32)
        scores.append(0.0 if before is None else float(np.abs(grey - before).mean()))
        before = grey
    return np.array(scores)


def grey_cuts(scores: Scores, rule: Rule) -> list[int]:
    """Frames whose difference reaches the threshold; of several within the least length the first stands."""
    cuts: list[int] = []
    for number in np.flatnonzero(scores >= rule.threshold):
        if not cuts or number - cuts[-1] >= rule.min_length:
            cuts.append(int(number))
    return cuts


def content_values(frames: Iterable[Frame]) -> Scores:
    """PySceneDetect's `content_val`: mean change of hue, saturation and brightness.

    Raises:
        ImportError: PySceneDetect is not installed (it comes with `vsdk[dev]`).
    """
    from scenedetect import ContentDetector, FrameTimecode, StatsManager

    detector, statistics = ContentDetector(), StatsManager()
    detector.stats_manager = statistics
    scores, key = [], ContentDetector.FRAME_SCORE_KEY
    for number, frame in enumerate(frames):
        time = FrameTimecode(number, 25.0)
        detector.process_frame(time, np.ascontiguousarray(frame[..., ::-1]))
        scores.append(statistics.get_metrics(time, [key])[0] or 0.0 if number else 0.0)
    return np.array(scores, dtype=np.float64)


def content_cuts(scores: Scores, rule: Rule) -> list[int]:
    """What ContentDetector reports for these values; its own filter merges cuts nearer than the least length."""
    from scenedetect import FrameTimecode
    from scenedetect.detector import FlashFilter

    keeper = FlashFilter(FlashFilter.Mode.MERGE, rule.min_length)
    cuts: list[int] = []
    for number, value in enumerate(scores):
        cuts += [cut.frame_num for cut in keeper.filter(FrameTimecode(number, 25.0), bool(value >= rule.threshold))]
    return cuts


GREY_RULE = Rule(threshold=34.0, min_length=15)
CONTENT_DEFAULT = Rule(threshold=27.0, min_length=15)
CONTENT_TUNED = Rule(threshold=46.0, min_length=8)

LENGTHS = (1, 4, 8, 15)


@dataclass(frozen=True)
class Scored:
    """A clip as a baseline sees it, with its truth."""

    scores: Scores
    transitions: Sequence[Transition]
    ignored: Sequence[Interval]


def best_rule(clips: Sequence[Scored], content: bool) -> tuple[Rule, float]:
    """The rule with the best micro-averaged F1 on these clips, and that F1."""
    find = content_cuts if content else grey_cuts
    best, best_f1 = CONTENT_DEFAULT, -1.0
    for length in LENGTHS:
        for threshold in np.arange(4.0, 64.0, 2.0):
            rule, total = Rule(float(threshold), length), Score()
            for clip in clips:
                total += score(find(clip.scores, rule), clip.transitions, ignored=clip.ignored)
            if total.f1 > best_f1:
                best, best_f1 = rule, total.f1
    return best, best_f1
