"""Two simple trackers to compare with: the first mask, left where it was, and a template that is looked for.

Both work as `vsdk.Tracker` does: prompted with a mask, then one frame at a time, never looking ahead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image as pillow

from vsdk_runtimes.errors import InputError

from ..frame import Image
from ..tracking.tracked import TrackedObject
from .mask_scores import Mask

WORKING_SIDE = 32
"""A template that is larger is searched in a smaller picture, in which it is so long."""
SCALE_STEP, TURN_STEP = 1.04, 4.0
"""Each frame, the template is tried as before, a step smaller or larger, and turned by these degrees either way."""
MOST_STEPS = 24
"""Of the size."""
CHANGE_PENALTY = 0.01
"""By how much another size or turn must match better."""
MARGIN, MARGIN_WEIGHT = 0.12, 0.2
"""How far around the mask's box a template reaches, in sides of the box, and what pixels outside of the mask weigh."""
LOST = 0.35
"""Correlation below which the object counts as hidden."""
SEARCH = 0.4
"""How far around the last position is searched, in sides of the template."""
WIDER = 1.08, 4.0
"""By how much farther on each frame on which the object is hidden, and at most."""

FLAT = 0.02
"""Contrast, as a share of the template's, below which a place counts as flat and matches nothing."""

Values = npt.NDArray[np.float32]
Pose = tuple[int, int]


class FrozenMask:
    """Says of every object what its prompt said."""

    def __init__(self) -> None:
        self._objects: dict[int, TrackedObject] = {}

    def prompt(self, image: Image, object_id: int, *, mask: Mask) -> TrackedObject:
        """Keep the mask, bool `[height, width]`."""
        self._objects[object_id] = TrackedObject(object_id, mask.copy(), 1.0, 1.0, True)
        return self._objects[object_id]

    def track(self, image: Image) -> tuple[TrackedObject, ...]:
        """Every object, as it was."""
        return tuple(self._objects.values())

    def reset(self) -> None:
        """Forget every object."""
        self._objects.clear()


class TemplateTracker:
    """Looks for what was under the first mask, by normalised cross-correlation, and moves the mask along.

    The template are the pixels under the mask, in colour; those around it count little, but enough for an object
    without a pattern. It is searched around its last position, also a little larger, smaller and turned, and never
    renewed. Where nothing matches, the object counts as hidden, and the search widens from frame to frame.
    """

    def __init__(self) -> None:
        self._templates: dict[int, _Template] = {}

    def prompt(self, image: Image, object_id: int, *, mask: Mask) -> TrackedObject:
        """Take the template from under the mask, bool `[height, width]`.

        Raises:
            InputError: The mask is empty, or not as large as the picture.
        """
        if mask.shape != image.shape[:2] or not mask.any():
            raise InputError(f"the mask of object {object_id} is empty, or not as large as the picture")
        self._templates[object_id] = _Template.of(image, mask)
        return TrackedObject(object_id, mask.copy(), 1.0, 1.0, True)

    def track(self, image: Image) -> tuple[TrackedObject, ...]:
        """Where every object is now."""
        found = []
        for object_id, template in self._templates.items():
            likeness = template.follow(image)
            mask, present = template.drawn(image.shape[:2]), likeness >= LOST
            found.append(TrackedObject(object_id, mask & present, likeness, likeness, present))
        return tuple(found)

    def reset(self) -> None:
        """Forget every object."""
        self._templates.clear()


@dataclass(eq=False)
class _Template:
    """A template and where it was seen last.

    Attributes:
        patch: The first picture in a box around the mask.
        shape: The mask in that box.
        weights: What its pixels weigh, 255 for one.
        factor: Pixels of the picture for one of the working picture.
        centre: Of the box, `(x, y)` in pixels of the picture.
        pose: In steps of size and of turn, how it differs from the first picture.
        reach: How far around it is searched, in its sides.
        posed: The template in poses that were tried: colours `[3, height, width]`, weights `[height, width]`.
    """

    patch: pillow.Image
    shape: pillow.Image
    weights: pillow.Image
    factor: float
    centre: npt.NDArray[np.float64]
    pose: Pose = (0, 0)
    reach: float = SEARCH
    posed: dict[Pose, tuple[Values, Values]] = field(default_factory=dict)

    @classmethod
    def of(cls, image: Image, mask: Mask) -> _Template:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        side = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
        margin = max(2, round(MARGIN * int(side)))
        top, bottom = max(int(rows[0]) - margin, 0), min(int(rows[-1]) + 1 + margin, mask.shape[0])
        left, right = max(int(columns[0]) - margin, 0), min(int(columns[-1]) + 1 + margin, mask.shape[1])
        box = np.s_[top:bottom, left:right]
        shape = mask[box].astype(np.uint8) * 255
        return cls(
            patch=pillow.fromarray(np.ascontiguousarray(image[box])),
            shape=pillow.fromarray(shape),
            weights=pillow.fromarray(np.maximum(shape, np.uint8(255 * MARGIN_WEIGHT))),
            factor=max(1.0, max(bottom - top, right - left) / WORKING_SIDE),
            centre=np.array([(left + right) / 2, (top + bottom) / 2]),
        )

    def follow(self, image: Image) -> float:
        """Move to the best place of the picture nearby; gives the correlation there, and stays if it is low."""
        side = max(self.patch.size) * SCALE_STEP ** self.pose[0]
        reach = side / 2 + max(self.reach * side, 8 * self.factor)
        low = np.maximum(np.floor(self.centre - reach), 0)
        high = np.minimum(np.ceil(self.centre + reach), image.shape[1::-1])
        size = np.maximum(np.round((high - low) / self.factor), 1).astype(int)
        window = pillow.fromarray(image).resize(size.tolist(), pillow.Resampling.BILINEAR, box=(*low, *high))
        search = _Search(_planes(window))
        best, centre, pose = 0.0, self.centre, self.pose
        for tried in _poses(self.pose):
            likeness, at = search.best(*self._in_pose(tried))
            likeness -= CHANGE_PENALTY * (tried != self.pose)
            if likeness > best:
                best, centre, pose = likeness, low + at * (high - low) / size, tried
        if best < LOST:
            self.reach = min(self.reach * WIDER[0], SEARCH * WIDER[1])
        else:
            self.centre, self.pose, self.reach = centre, pose, SEARCH
        return min(best, 1.0)

    def drawn(self, size: tuple[int, int]) -> Mask:
        """The mask where the template is, as large as the picture: `(height, width)`."""
        shape = _posed(self.shape, self.pose, 1.0)
        left, top = (round(float(at) - length / 2) for at, length in zip(self.centre, shape.size, strict=True))
        picture = pillow.new("L", size[::-1])
        picture.paste(shape, (left, top))
        return np.asarray(picture) >= 128

    def _in_pose(self, pose: Pose) -> tuple[Values, Values]:
        if pose not in self.posed:
            weights = np.asarray(_posed(self.weights, pose, self.factor), np.float32) / np.float32(255)
            self.posed[pose] = _planes(_posed(self.patch, pose, self.factor)), weights
        return self.posed[pose]


class _Search:
    """A window of a picture, in which templates are looked for.

    Args:
        window: Float32 `[3, height, width]`.
    """

    def __init__(self, window: Values) -> None:
        self._height, self._width = window.shape[1:]
        window = window - window.mean(axis=(1, 2), keepdims=True)  # smaller numbers: single precision suffices
        self._planes = np.concatenate([window, (window**2).sum(axis=0, keepdims=True)])
        self._spectra: dict[tuple[int, int], npt.NDArray[np.complexfloating]] = {}

    def best(self, pixels: Values, weights: Values) -> tuple[float, npt.NDArray[np.float64]]:
        """The highest correlation, and where the template's middle is then, `(x, y)`; -1 if it has no contrast.

        The template may reach over the window's edge, by up to half of its size; what is outside has the window's mean
        colour.
        """
        height, width = weights.shape
        rows = np.arange(-(height // 2), self._height - height + height // 2 + 1)
        columns = np.arange(-(width // 2), self._width - width + width // 2 + 1)
        total = float(weights.sum())
        difference = pixels - ((pixels * weights).sum(axis=(1, 2)) / total)[:, None, None]
        weighted = difference * weights
        energy = float((weighted * difference).sum())
        if energy < 1.0 or not len(rows) or not len(columns):
            return -1.0, np.zeros(2)
        size = _fast(self._height + height // 2 + 1), _fast(self._width + width // 2 + 1)
        planes = self._spectrum(size)
        kernels = np.fft.rfft2(np.concatenate([weighted, weights[None]]), s=size).conj()
        products = [(planes[:3] * kernels[:3]).sum(axis=0), *(planes * kernels[3])]
        match, red, green, blue, squares = (
            np.fft.irfft2(product, s=size)[np.ix_(rows, columns)] for product in products
        )
        spread = squares - (red**2 + green**2 + blue**2) / total
        likeness = match / np.sqrt(energy * np.maximum(spread, FLAT * energy))
        row, column = (int(at) for at in np.unravel_index(int(likeness.argmax()), likeness.shape))
        x = columns[column] + _between(likeness[row], column) + width / 2
        y = rows[row] + _between(likeness[:, column], row) + height / 2
        return float(likeness[row, column]), np.array([x, y])

    def _spectrum(self, size: tuple[int, int]) -> npt.NDArray[np.complexfloating]:
        """Of the three channels and the sum of their squares, `[4, rows, frequencies]`."""
        if size not in self._spectra:
            self._spectra[size] = np.fft.rfft2(self._planes, s=size)
        return self._spectra[size]


def _between(values: npt.NDArray[np.floating], at: int) -> float:
    """Where between its neighbours a peak is, by a parabola: -0.5..0.5."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, peak, after = (float(value) for value in values[at - 1 : at + 2])
    bend = before - 2 * peak + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0


@lru_cache(maxsize=256)
def _fast(length: int) -> int:
    """The next length with no prime factor above 5, for which the Fourier transform is fast."""
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1


def _poses(pose: Pose) -> Iterator[Pose]:
    """A pose and its neighbours."""
    size, turn = pose
    yield pose
    for other in (size - 1, size + 1):
        if abs(other) <= MOST_STEPS:
            yield other, turn
    yield size, turn - 1
    yield size, turn + 1


def _posed(picture: pillow.Image, pose: Pose, factor: float) -> pillow.Image:
    """A picture resized and turned about its middle, in pixels that are so many of its own."""
    scale = SCALE_STEP ** pose[0] / factor
    width, height = (max(1, round(length * scale)) for length in picture.size)
    sized = picture.resize((width, height), pillow.Resampling.BILINEAR)
    return sized.rotate(TURN_STEP * pose[1], pillow.Resampling.BILINEAR, expand=True) if pose[1] else sized


def _planes(picture: pillow.Image) -> Values:
    """Float32 `[3, height, width]`."""
    return np.ascontiguousarray(np.asarray(picture, np.float32).transpose(2, 0, 1))
