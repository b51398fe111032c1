"""J and F: against their definitions, written down again the slow way, and what must hold for every mask."""

from __future__ import annotations

import math
import time

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vsdk.bench.mask_scores import (
    Score,
    boundary,
    boundary_accuracy,
    dilate,
    mean_score,
    region_similarity,
    score,
)
from vsdk.errors import InputError

Mask = npt.NDArray[np.bool_]


@st.composite
def masks(draw: st.DrawFn, count: int, longest: int = 24) -> tuple[Mask, ...]:
    shape = draw(st.tuples(st.integers(1, longest), st.integers(1, longest)))
    return tuple(draw(arrays(np.bool_, shape, elements=st.booleans())) for _ in range(count))


def disc(center: tuple[float, float] = (120, 160), radius: float = 50, shape: tuple[int, int] = (240, 320)) -> Mask:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    inside: Mask = (rows - center[0]) ** 2 + (columns - center[1]) ** 2 <= radius**2
    return inside


def slow_boundary(mask: Mask) -> set[tuple[int, int]]:
    """Pixels unlike the one to the right, below or diagonally below, of those that are in the picture."""
    height, width = mask.shape
    found = set()
    for y in range(height):
        for x in range(width):
            neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            if any(v < height and u < width and mask[v, u] != mask[y, x] for v, u in neighbours):
                found.add((y, x))
    return found


def slow_f(mask: Mask, truth: Mask, tolerance: float) -> float:
    """The F1 score of boundary pixels by the distance of each from the nearest of the other boundary."""
    reach = math.ceil(tolerance * math.hypot(*mask.shape))

    def near(some: set[tuple[int, int]], others: set[tuple[int, int]]) -> int:
        return sum(any(math.hypot(y - v, x - u) <= reach for v, u in others) for y, x in some)

    found, real = slow_boundary(mask), slow_boundary(truth)
    precision = near(found, real) / len(found) if found else 1.0
    recall = near(real, found) / len(real) if real else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@given(masks(2), st.sampled_from([0.008, 0.05, 0.13]))
@settings(max_examples=60, deadline=None)
def test_f_is_as_defined(pair: tuple[Mask, Mask], tolerance: float) -> None:
    mask, truth = pair
    assert {(int(y), int(x)) for y, x in np.argwhere(boundary(mask))} == slow_boundary(mask)
    assert boundary_accuracy(mask, truth, tolerance) == pytest.approx(slow_f(mask, truth, tolerance))


@given(masks(1), st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_a_dilated_mask_is_all_that_is_near(single: tuple[Mask], radius: int) -> None:
    (mask,) = single
    places = np.argwhere(mask)
    grid = np.moveaxis(np.mgrid[: mask.shape[0], : mask.shape[1]], 0, -1)[:, :, None]
    near = (((grid - places) ** 2).sum(-1) <= radius**2).any(-1) if len(places) else np.zeros_like(mask)
    assert np.array_equal(dilate(mask, radius), near)


@given(masks(2))
@settings(deadline=None)
def test_scores_are_bounded_symmetric_and_perfect_for_the_truth(pair: tuple[Mask, Mask]) -> None:
    one, other = pair
    found = score(one, other)
    assert 0 <= found.j <= 1
    assert 0 <= found.f <= 1
    assert found == score(other, one)
    assert score(one, one) == Score(1.0, 1.0)
    assert (found.j == 1) == np.array_equal(one, other)


@given(masks(2), st.integers(0, 5), st.integers(0, 5))
@settings(deadline=None)
def test_scores_do_not_depend_on_where_in_the_picture(pair: tuple[Mask, Mask], down: int, right: int) -> None:
    def placed(mask: Mask, top: int, left: int) -> Mask:
        picture = np.zeros((mask.shape[0] + 12, mask.shape[1] + 12), np.bool_)
        picture[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
        return picture

    one, other = pair
    assert score(placed(one, 3, 3), placed(other, 3, 3)) == score(
        placed(one, 3 + down, 3 + right), placed(other, 3 + down, 3 + right)
    )


def test_j_counts_pixels() -> None:
    one, other = np.zeros((2, 10, 10), np.bool_)
    one[:, :6], other[:, 4:] = True, True
    assert region_similarity(one, other) == pytest.approx(20 / 100)


def test_an_edge_may_be_off_by_the_tolerance_and_no_more() -> None:
    truth = np.zeros((240, 320), np.bool_)
    truth[60:180, 80:240] = True  # the diagonal is 400 pixels, the tolerance 3.2, rounded up to 4
    assert boundary_accuracy(np.roll(truth, 4, axis=1), truth) > 0.99
    assert boundary_accuracy(np.roll(truth, 5, axis=1), truth) < 0.75  # the upright edges are lost
    assert region_similarity(np.roll(truth, 4, axis=1), truth) == pytest.approx(156 / 164)


def test_what_is_rightly_not_found_counts_as_right() -> None:
    nothing, something = np.zeros((240, 320), np.bool_), disc()
    everything = np.ones((240, 320), np.bool_)
    assert score(nothing, nothing) == Score(1.0, 1.0)
    assert score(nothing, something) == score(something, nothing) == Score(0.0, 0.0)
    assert score(nothing, everything) == Score(0.0, 1.0)  # neither has a boundary


def test_void_pixels_do_not_count() -> None:
    truth, found = disc(), disc(center=(120, 190))
    assert score(found, truth, found != truth) == Score(1.0, 1.0)
    assert score(found, truth, np.zeros_like(truth)) == score(found, truth)


def test_means_are_of_j_and_of_f() -> None:
    mean = mean_score([Score(0.2, 0.4), Score(0.6, 1.0)])
    assert [mean.j, mean.f, mean.jf] == pytest.approx([0.4, 0.7, 0.55])
    with pytest.raises(InputError):
        mean_score([])


@pytest.mark.parametrize(
    ("mask", "truth"),
    [
        (np.zeros((4, 5), np.bool_), np.zeros((5, 4), np.bool_)),
        (np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.bool_)),
        (np.zeros((1, 4, 5), np.bool_), np.zeros((1, 4, 5), np.bool_)),
    ],
)
def test_what_is_no_pair_of_masks_is_refused(mask: Mask, truth: Mask) -> None:
    with pytest.raises(InputError, match="same size"):
        score(mask, truth)


@pytest.mark.parametrize(("shape", "most"), [((240, 320), 0.005), ((480, 854), 0.05)])
def test_scoring_takes_little_of_a_frames_time(shape: tuple[int, int], most: float) -> None:
    truth = disc((shape[0] / 2, shape[1] / 2), 0.4 * shape[0], shape)
    found = np.roll(truth, 3, axis=1)
    taken = []
    for _ in range(20):
        start = time.process_time()
        score(found, truth)
        taken.append(time.process_time() - start)
    assert min(taken) < most
