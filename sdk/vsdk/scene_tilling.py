"""SceneTilling: cut a sequence of class tokens into scenes where neighbouring frames stop resembling each other.

From VideoLLaMB (Wang et al., arXiv 2409.01071, section 2.1; `multimodal_projector/self_segment.py`), which adapts
TextTiling (Hearst 1997) to video:

* `c_i`, the cosine of frames i and i + 1;
* the *depth* of the valley at i: climb from `c_i` to the left, and to the right, for as long as the similarity does
  not fall; depth = left peak + right peak - 2 c_i;
* frame i ends a scene where its depth exceeds mean + 0.5 standard deviations (unbiased) of all depths.

`offline` is that, to the letter. `DepthScores` is its incremental form: O(1) a frame, with a look-ahead after which the
climb to the right is cut short. `SceneTilling` is the detector that streams use: the same depths at two time scales,
with a confirmation that what follows really differs from what was before (see `confirmation.py`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsdk_runtimes.errors import InputError

from .confirmation import DEFAULT_CONFIRMATION, Confirmation, RecentVectors

Vector = npt.NDArray[np.floating]
Matrix = npt.NDArray[np.floating]

ALPHA = 0.5
MAX_BOUNDARIES = 15
BLOCK = 4
"""Frames that are averaged where gradual transitions are looked for."""


def cosine_similarities(features: Matrix) -> npt.NDArray[np.float64]:
    """`c_i = cos(features[i], features[i + 1])`, float64 `[n - 1]`; a zero vector resembles nothing (0).

    Args:
        features: `[n, width]`.
    """
    vectors = np.asarray(features, dtype=np.float64)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise InputError(f"SceneTilling needs finite features [frames, width], got shape {list(vectors.shape)}")
    norms = [math.sqrt(vector.dot(vector)) for vector in vectors]
    pairs = zip(vectors, norms, vectors[1:], norms[1:], strict=False)
    return np.array([_cosine(*pair) for pair in pairs], dtype=np.float64)


def _cosine(a: npt.NDArray[np.float64], norm_a: float, b: npt.NDArray[np.float64], norm_b: float) -> float:
    """One arithmetic for whole videos and for streams, to the last bit: a climb ends at the smallest drop."""
    scale = norm_a * norm_b
    return float(a.dot(b)) / scale if scale > 0 else 0.0


def depth_scores(similarities: Iterable[float]) -> npt.NDArray[np.float64]:
    """Depth of the valley at each similarity, float64 of the same length."""
    scores = DepthScores(look_ahead=None)
    depths = [depth for value in similarities for depth in scores.push(float(value))]
    return np.array(depths + scores.flush(), dtype=np.float64)


def offline(
    features: Matrix, *, alpha: float = ALPHA, k: int | None = None, max_boundaries: int = MAX_BOUNDARIES
) -> list[int]:
    """The published algorithm on a whole video.

    Args:
        features: Class tokens `[n, width]`.
        alpha: Standard deviations above the mean that make a boundary.
        k: Take the k deepest valleys instead, whatever their depth.
        max_boundaries: Keep only so many of the deepest ones (before the last frame is appended).

    Returns:
        The last frame of each scene, rising; the last entry is always n - 1.

    Raises:
        InputError: No frames, features that are not finite, or `k` larger than the number of valleys.
    """
    if len(features) == 0:
        raise InputError("SceneTilling needs at least one frame")
    depths = depth_scores(cosine_similarities(features))
    if k is not None:
        if not 0 <= k <= len(depths):
            raise InputError(f"k={k} boundaries cannot be found among {len(depths)} frame transitions")
        chosen = _deepest(depths, np.arange(len(depths)), k)
    elif len(depths) < 2:
        chosen = np.array([], dtype=np.int64)  # one value has no unbiased standard deviation
    else:
        candidates = np.flatnonzero(depths > depths.mean() + alpha * depths.std(ddof=1))
        chosen = _deepest(depths, candidates, max_boundaries) if len(candidates) > max_boundaries else candidates
    boundaries = [int(i) for i in np.sort(chosen)]
    last = len(features) - 1
    return boundaries if boundaries and boundaries[-1] == last else [*boundaries, last]


def _deepest(depths: npt.NDArray[np.float64], among: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    return among[np.argsort(-depths[among], kind="stable")[:count]]


class DepthScores:
    """Depths of a stream of similarities, each as soon as it is known.

    Args:
        look_ahead: Most similarities after the valley that the climb to the right may read; 0 is the paper's
            left-only, causal depth (section 3.5), None never cuts a climb.

    `push` and `flush` return the depths in order, one for each similarity, none twice. With climbs no longer than the
    look-ahead they equal `depth_scores` exactly.
    """

    def __init__(self, look_ahead: int | None) -> None:
        if look_ahead is not None and look_ahead < 0:
            raise InputError(f"look_ahead must not be negative, got {look_ahead}")
        self.look_ahead = math.inf if look_ahead is None else look_ahead
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._previous = -math.inf
        self._left_peak = -math.inf
        # Valleys whose climb to the right is still going on: their left peaks, and twice their similarities.
        self._climbing: deque[tuple[float, float]] = deque()

    def push(self, similarity: float) -> list[float]:
        """Take the next similarity; return the depths that it settles."""
        rising = similarity >= self._previous
        settled = [] if rising else self._settle_all()
        # Walking left goes on exactly while the left neighbour is not lower: its own left peak is then ours too.
        self._left_peak = self._left_peak if self._previous >= similarity else similarity
        self._climbing.append((self._left_peak, 2 * similarity))
        self._previous = similarity
        while len(self._climbing) > self.look_ahead:
            left_peak, twice = self._climbing.popleft()
            settled.append(left_peak + similarity - twice)
        return settled

    def flush(self) -> list[float]:
        """The end has come: settle what is still open, and start afresh."""
        settled = self._settle_all()
        self.reset()
        return settled

    def _settle_all(self) -> list[float]:
        peak = self._previous
        settled = [left_peak + peak - twice for left_peak, twice in self._climbing]
        self._climbing.clear()
        return settled


@dataclass(frozen=True)
class Boundary:
    """The end of a scene.

    Attributes:
        frame: The scene's last frame, counted from 0 in the order of `push`; the next scene starts at `frame + 1`.
        depth: Depth of its valley, 0..4.
    """

    frame: int
    depth: float


@dataclass(frozen=True)
class SceneTillingSettings:
    """How a stream is cut. The defaults were set once, on rendered clips, with the features of `nano`
    (`vsdk_models.nano.tune_scenes`).

    Attributes:
        look_ahead: Similarities after a valley that the climb to the right may read.
        threshold: Depth above which a valley is a candidate; None takes mean + `alpha` standard deviations of the
            depths so far, as the paper does for a whole video.
        alpha: See `threshold`.
        floor: Least depth of a boundary, whatever the threshold: a still camera has noise, not scenes.
        min_length: Least frames between boundaries; of two that are nearer the deeper one stays.
        gradual: Also compare what lies `spans` frames apart, which finds dissolves and fades.
        spans: Frames between the two things compared for gradual transitions: from short, so that a scene of a second
            beside another transition still shows, to long, so that a dissolve of two seconds leaves both sides clean.
        gradual_floor: Least depth of a gradual boundary.
        confirmation: How a candidate is confirmed; None takes all.
    """

    look_ahead: int = 8
    threshold: float | None = None
    alpha: float = ALPHA
    floor: float = 0.2
    min_length: int = 8
    gradual: bool = True
    spans: tuple[int, ...] = (16, 28, 48)
    gradual_floor: float = 0.5
    confirmation: Confirmation | None = DEFAULT_CONFIRMATION

    @classmethod
    def published(cls, *, look_ahead: int, threshold: float | None = None) -> SceneTillingSettings:
        """The published algorithm alone: no floor, no suppression, no second time scale, no confirmation."""
        return cls(look_ahead, threshold, floor=0.0, min_length=1, gradual=False, confirmation=None)


@dataclass(frozen=True)
class _Candidate:
    """A valley that may be a boundary: it lies between frames `last` and `first`, which are neighbours for a cut.

    Another boundary within `radius` frames explains it.
    """

    frame: int
    depth: float
    last: int
    first: int
    radius: int


class SceneTilling:
    """Cut a stream of class tokens into scenes.

    Args:
        settings: See `SceneTillingSettings`; `SceneTillingSettings.published(...)` gives the paper's algorithm alone,
            which then agrees with `offline` exactly, given the same threshold and climbs within the look-ahead.

    `push` takes O(1) amortised time, and memory never grows. A boundary is returned as soon as it is certain: at most
    `look_ahead` frames after the scene's last frame.

    Example:
        ```python
        tilling = vsdk.SceneTilling()
        for feature in features:                      # each [width]
            for boundary in tilling.push(feature):
                print("a scene ended with frame", boundary.frame)
        boundaries = tilling.flush()
        ```
    """

    offline = staticmethod(offline)

    def __init__(self, settings: SceneTillingSettings | None = None) -> None:
        self.settings = settings or SceneTillingSettings()
        self._depths = DepthScores(self.settings.look_ahead)
        spans = self.settings.spans if self.settings.gradual else ()
        self._gradual = [_GradualTrack(span, self.settings.gradual_floor) for span in spans]
        reach = max((track.reach for track in self._gradual), default=0)
        confirmation = self.settings.confirmation
        waits = [self.settings.look_ahead + self.settings.min_length, *(track.delay for track in self._gradual)]
        if confirmation is not None:
            waits.append(confirmation.horizon + reach)
        self.look_ahead = max(waits)
        """Frames after a scene's last one that may be needed to know that it was the last."""
        remembered = self.look_ahead + max(spans, default=0) + (confirmation.before if confirmation is not None else 0)
        self._recent = RecentVectors(remembered)
        self.reset()

    def reset(self) -> None:
        """Start anew, with frame 0."""
        self._recent.clear()
        self._depths.reset()
        for track in self._gradual:
            track.reset()
        self._previous: npt.NDArray[np.float64] | None = None
        self._previous_norm = 0.0
        self._settled = 0  # how many depths are known
        self._mean = self._squares = 0.0  # of the depths so far (Welford)
        self._candidates: deque[_Candidate] = deque()
        self._boundary = -1  # the last one returned

    def push(self, feature: Vector) -> list[Boundary]:
        """Take the class token of the next frame.

        Args:
            feature: `[width]`, of any length; only its direction matters.

        Returns:
            Boundaries that have become certain, in order, none twice.

        Raises:
            InputError: Not a vector, not finite, or of another width than before.
        """
        previous = self._previous
        if feature.ndim != 1 or (previous is not None and feature.shape != previous.shape):
            width = "" if previous is None else f" of width {len(previous)}"
            raise InputError(f"SceneTilling needs a vector{width} for each frame, got shape {list(feature.shape)}")
        vector = self._recent.append(feature)
        norm = math.sqrt(vector.dot(vector))
        if not norm < math.inf:
            self._recent.count -= 1
            raise InputError(f"the feature of frame {self._recent.count} is not finite")
        self._recent.set_norm(norm)
        if previous is not None:
            for depth in self._depths.push(_cosine(previous, self._previous_norm, vector, norm)):
                self._consider(depth)
        self._previous, self._previous_norm = vector, norm
        if self._gradual and self._recent.count % BLOCK == 0:
            block = self._recent.block_direction(BLOCK)
            for track in self._gradual:
                for candidate in track.push(block, self._recent):
                    self._insert(candidate)
        return self._decide(self._recent.count - 1 - self.look_ahead) if self._candidates else []

    def flush(self) -> list[Boundary]:
        """The stream is over: return the boundaries that are still open, and start anew.

        Unlike `offline` this does not append the last frame: a stream's end is an event of its own.
        """
        for depth in self._depths.flush():
            self._consider(depth)
        for track in self._gradual:
            for candidate in track.flush(self._recent):
                self._insert(candidate)
        boundaries = self._decide(self._recent.count)
        self.reset()
        return boundaries

    def _consider(self, depth: float) -> None:
        """Note a newly settled depth; make it a candidate if it is deep enough."""
        self._settled += 1
        step = depth - self._mean
        self._mean += step / self._settled
        self._squares += step * (depth - self._mean)
        if depth < self.settings.floor:
            return
        threshold = self.settings.threshold
        if threshold is None:
            spread = math.sqrt(self._squares / (self._settled - 1)) if self._settled > 1 else math.inf
            threshold = self._mean + self.settings.alpha * spread
        if depth > threshold:
            frame = self._settled - 1
            self._insert(_Candidate(frame, depth, frame, frame + 1, self.settings.min_length))

    def _insert(self, candidate: _Candidate) -> None:
        position = len(self._candidates)
        while position and self._candidates[position - 1].frame > candidate.frame:
            position -= 1
        self._candidates.insert(position, candidate)

    def _decide(self, until: int) -> list[Boundary]:
        """Decide on all candidates up to frame `until`, in order."""
        boundaries = []
        while self._candidates and self._candidates[0].frame <= until:
            candidate = self._candidates.popleft()
            if not self._outdone(candidate) and self._confirmed(candidate):
                self._boundary = candidate.frame
                boundaries.append(Boundary(candidate.frame, candidate.depth))
        return boundaries

    def _outdone(self, candidate: _Candidate) -> bool:
        """Whether the boundary before, or a better candidate after it, is too near for both to stand."""
        if candidate.frame + 1 < self.settings.min_length:  # the first scene has a least length, too
            return True
        if self._boundary >= 0 and candidate.frame - self._boundary < candidate.radius:
            return True
        for other in self._candidates:
            if other.frame - candidate.frame >= candidate.radius:
                return False
            if _rank(other) > _rank(candidate) and self._confirmed(other):
                return True
        return False

    def _confirmed(self, candidate: _Candidate) -> bool:
        confirmation = self.settings.confirmation
        return confirmation is None or confirmation.holds(self._recent, candidate.last, candidate.first)


def _rank(candidate: _Candidate) -> tuple[bool, float]:
    """A cut is sharper than the gradual valley that it also makes, so it wins; else the deeper one."""
    return candidate.first == candidate.last + 1, candidate.depth


class _GradualTrack:
    """Valleys between things `span` frames apart, on means of four frames: where dissolves and fades show.

    The climb of the paper stops at the first drop, which noise in a wide valley provides at once; so here the peaks are
    the highest similarities within reach, and the shallower side counts: a slow pan falls but does not rise again.
    """

    CLIMB = 8  # blocks on each side

    def __init__(self, span: int, floor: float) -> None:
        self.lag = max(1, span // BLOCK)
        self.floor = floor
        self._too_shallow = 1 - floor / 2  # no peak is above 1
        self.reach = (self.lag * BLOCK) // 2 + BLOCK
        """Within how many frames a cut would make a valley here too."""
        self.delay = self.reach + (self.CLIMB + 1) * BLOCK
        """Frames after the middle of a valley at which it is known."""
        self.reset()

    def reset(self) -> None:
        self._blocks: deque[npt.NDArray[np.float64]] = deque(maxlen=self.lag + 1)
        self._similarities: deque[float] = deque(maxlen=2 * self.CLIMB + 1)
        self._pushed = 0

    def push(self, block: npt.NDArray[np.float64], recent: RecentVectors) -> list[_Candidate]:
        """Four more frames have been stored; `block` is their direction."""
        if not self._blocks:  # what was before the stream began is taken to have looked like its first frames
            self._blocks.extend([block] * self.lag)
        self._blocks.append(block)
        self._pushed += 1
        similarities = self._similarities
        similarities.append(float(self._blocks[0].dot(block)))
        index = len(similarities) - 1 - self.CLIMB
        if index < 0 or similarities[index] > self._too_shallow:  # this settles nearly all of a still scene
            return []
        return self._examine(recent, index)

    def flush(self, recent: RecentVectors) -> list[_Candidate]:
        """No more frames will come; what would have come is taken to look like the last ones."""
        if not self._blocks:
            return []
        last = self._blocks[-1]
        found = [candidate for _ in range(self.lag) for candidate in self.push(last, recent)]
        pending = range(max(0, len(self._similarities) - self.CLIMB), len(self._similarities))
        return found + [candidate for index in pending for candidate in self._examine(recent, index)]

    def _examine(self, recent: RecentVectors, index: int) -> list[_Candidate]:
        """Is the similarity at this position of the window the bottom of a deep valley?"""
        values = list(self._similarities)
        low = values[index]
        left, right = values[max(0, index - self.CLIMB) : index], values[index + 1 : index + 1 + self.CLIMB]
        if not left or not right or 2 * (min(max(left), max(right)) - low) < self.floor:
            return []
        if min(left) <= low or min(right) < low:  # the first of equal bottoms stands for all
            return []
        newest = (self._pushed - len(values) + index) * BLOCK
        earlier = max(newest - (self.lag - 1) * BLOCK, BLOCK) - 1
        later = max(min(newest, recent.count - BLOCK), earlier + 1)
        depth = 2 * (min(max(left), max(right)) - low)
        return [_Candidate(recent.turning_point(earlier, later), depth, earlier, later, self.reach)]
