"""J and F: how well a mask covers its object, and how well its edge follows the object's edge.

The measures of DAVIS (Perazzi et al., CVPR 2016) and SA-V: J is intersection over union; F is the F1 score of
boundary pixels, where a pixel is right if one of the other boundary lies within 0.8 % of the picture's diagonal. J&F is
their mean. A mask that is empty where the object is not to be seen is right: both are 1.

Pixels may be *void*: where the annotation leaves open what is there, nothing is counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsdk_runtimes.errors import InputError

TOLERANCE = 0.008
"""How far boundaries may be apart, as a fraction of the picture's diagonal."""

Mask = npt.NDArray[np.bool_]
"""Bool `[height, width]`."""


@dataclass(frozen=True)
class Score:
    """Of one mask, or the mean of many.

    Attributes:
        j: Region similarity, 0..1.
        f: Boundary accuracy, 0..1.
    """

    j: float
    f: float

    @property
    def jf(self) -> float:
        """Their mean."""
        return (self.j + self.f) / 2


def score(mask: Mask, truth: Mask, void: Mask | None = None) -> Score:
    """J and F of one mask.

    Args:
        mask: What was found, bool `[height, width]`.
        truth: What is there, of the same shape.
        void: Pixels that do not count.

    Raises:
        InputError: The shapes differ, or these are no masks.
    """
    mask, truth = _counted(mask, void), _counted(truth, void)
    return Score(region_similarity(mask, truth), boundary_accuracy(mask, truth))


def mean_score(scores: list[Score]) -> Score:
    """The mean of J and of F.

    Raises:
        InputError: There are none.
    """
    if not scores:
        raise InputError("a mean needs at least one score")
    return Score(
        math.fsum(each.j for each in scores) / len(scores),
        math.fsum(each.f for each in scores) / len(scores),
    )


def region_similarity(mask: Mask, truth: Mask) -> float:
    """J: intersection over union; 1 if both are empty.

    Args:
        mask, truth: Bool `[height, width]`.

    Raises:
        InputError: The shapes differ, or these are no masks.
    """
    _check(mask, truth)
    union = int(np.count_nonzero(mask | truth))
    return int(np.count_nonzero(mask & truth)) / union if union else 1.0


def boundary_accuracy(mask: Mask, truth: Mask, tolerance: float = TOLERANCE) -> float:
    """F: the harmonic mean of how much of each boundary lies near the other one.

    If just one of the masks has a boundary it is 0, if none has it is 1 (a mask that fills the picture has none).

    Args:
        mask, truth: Bool `[height, width]`.
        tolerance: How near, as a fraction of the picture's diagonal; in pixels it is rounded up.

    Raises:
        InputError: The shapes differ, or these are no masks.
    """
    _check(mask, truth)
    found, real = boundary(mask), boundary(truth)
    of_found, of_real = int(np.count_nonzero(found)), int(np.count_nonzero(real))
    if not of_found or not of_real:
        return float(of_found == of_real)
    radius = math.ceil(tolerance * math.hypot(*mask.shape))
    window = _window(found | real, radius)  # nothing outside of it can match
    found, real = found[window], real[window]
    precision = int(np.count_nonzero(found & dilate(real, radius))) / of_found
    recall = int(np.count_nonzero(real & dilate(found, radius))) / of_real
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: Mask) -> Mask:
    """Pixels that differ from their neighbour to the right, below, or below to the right.

    The one-pixel boundary map of the Berkeley segmentation benchmark (`seg2bmap`), which DAVIS uses. The picture's own
    edge is no boundary: pixels of the last row are compared with their right neighbour only, those of the last
    column with the one below.
    """
    edge = np.zeros_like(mask)
    edge[:, :-1] = mask[:, :-1] != mask[:, 1:]
    edge[:-1] |= mask[:-1] != mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return edge


def dilate(mask: Mask, radius: int) -> Mask:
    """All pixels whose centre is at most `radius` from the centre of one of the mask's.

    A disc is a stack of horizontal runs. So rows are widened step by step, and each width is laid over the rows whose
    distance from the disc's centre it belongs to.
    """
    height = len(mask)
    out, wide = np.zeros_like(mask), mask.copy()
    widened = 0
    for down in range(radius, -1, -1):  # the disc gets wider towards its centre
        for shift in range(widened + 1, math.isqrt(radius**2 - down**2) + 1):
            wide[:, shift:] |= mask[:, :-shift]
            wide[:, :-shift] |= mask[:, shift:]
            widened = shift
        below = max(height - down, 0)
        out[down:] |= wide[:below]
        out[:below] |= wide[down:]
    return out


def _window(mask: Mask, margin: int) -> tuple[slice, slice]:
    """The rows and columns that hold the mask, which is not empty, and so much around it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(int(rows[0]) - margin, 0), int(rows[-1]) + margin + 1),
        slice(max(int(columns[0]) - margin, 0), int(columns[-1]) + margin + 1),
    )


def _counted(mask: Mask, void: Mask | None) -> Mask:
    if void is None:
        return mask
    _check(mask, void)
    return mask & ~void


def _check(mask: Mask, truth: Mask) -> None:
    if mask.shape != truth.shape or mask.ndim != 2 or mask.dtype != np.bool_ or truth.dtype != np.bool_:
        raise InputError(
            f"cannot compare {mask.dtype} {list(mask.shape)} with {truth.dtype} {list(truth.shape)}",
            hint="Both must be bool masks [height, width] of the same size.",
        )
