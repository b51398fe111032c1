"""Scores of scene detections: what counts as right, and that nothing counts twice."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsdk_models.nano.clips import Transition
from vsdk_models.nano.detection_scores import Score, score, window

cuts = st.lists(st.integers(3, 500), unique=True, max_size=8).map(
    lambda places: [Transition("cut", place, place) for place in sorted(places)]
)


@st.composite
def mixed_truth(draw: st.DrawFn) -> list[Transition]:
    """Up to five transitions that do not touch."""
    truth, position = [], 5
    for _ in range(draw(st.integers(0, 5))):
        position += draw(st.integers(5, 30))
        length = draw(st.integers(0, 20))
        truth.append(Transition("cut" if length == 0 else "dissolve", position, position + max(length - 1, 0)))
        position = truth[-1].last
    return truth


@given(mixed_truth())
def test_perfect_detections_score_one(truth: list[Transition]) -> None:
    result = score([change.first for change in truth], truth)
    assert result == Score(len(truth), 0, 0)
    assert (result.precision, result.recall, result.f1) == (1, 1, 1)


@given(mixed_truth())
def test_no_detection_misses_everything(truth: list[Transition]) -> None:
    result = score([], truth)
    assert result == Score(0, len(truth), 0)
    assert result.f1 == (0 if truth else 1)


@given(mixed_truth(), st.integers(1, 4))
def test_repeated_detections_are_false(truth: list[Transition], times: int) -> None:
    detected = [change.last for change in truth] * times
    assert score(detected, truth) == Score(len(truth), 0, len(truth) * (times - 1))


@given(mixed_truth(), st.lists(st.integers(0, 300), max_size=12))
def test_every_detection_and_transition_is_counted_once_in_any_order(
    truth: list[Transition], detected: list[int]
) -> None:
    result = score(detected, truth)
    assert result.matched + result.false == len(detected)
    assert result.matched + result.missed == len(truth)
    assert score(sorted(detected, reverse=True), list(reversed(truth))) == result


@given(st.lists(st.integers(0, 14), max_size=4), st.lists(st.integers(0, 14), max_size=4))
def test_matching_is_the_largest_there_is(detected: list[int], places: list[int]) -> None:
    truth = [Transition("cut" if place % 2 else "dissolve", place, place + 3 * (place % 2 == 0)) for place in places]

    def right(position: int, change: Transition) -> bool:
        low, high = window(change)
        return low <= position <= high

    best = 0
    width = min(len(detected), len(truth))
    for chosen in itertools.permutations(range(len(detected)), width):
        for changes in itertools.combinations(truth, width):
            best = max(best, sum(right(detected[n], change) for n, change in zip(chosen, changes, strict=True)))
    assert score(detected, truth).matched == best


@pytest.mark.parametrize(("position", "matched"), [(98, 0), (99, 1), (100, 1), (101, 1), (102, 0)])
def test_cut_is_found_within_one_frame(position: int, matched: int) -> None:
    assert score([position], [Transition("cut", 100, 100)]).matched == matched


@pytest.mark.parametrize(("position", "matched"), [(98, 0), (99, 1), (110, 1), (121, 1), (122, 0)])
def test_gradual_change_is_found_from_its_first_frame_to_the_one_after_its_last(position: int, matched: int) -> None:
    assert score([position], [Transition("dissolve", 100, 119)]).matched == matched


def test_tolerance_can_be_set() -> None:
    truth = [Transition("cut", 100, 100)]
    assert score([104], truth, tolerance=4).matched == 1
    assert score([101], truth, tolerance=0).matched == 0


def test_ignored_detections_are_neither_right_nor_wrong_but_may_still_match() -> None:
    truth = [Transition("cut", 30, 30)]
    assert score([10, 30], truth, ignored=[(8, 12)]) == Score(1, 0, 0)
    assert score([30], truth, ignored=[(28, 32)]) == Score(1, 0, 0)
    assert score([13], truth, ignored=[(8, 12)]) == Score(0, 1, 1)


@given(st.lists(st.tuples(*[st.integers(0, 50)] * 3), min_size=1, max_size=5))
def test_sum_is_the_micro_average(counts: list[tuple[int, int, int]]) -> None:
    total = sum((Score(*item) for item in counts), Score())
    matched, missed, false = (sum(column) for column in zip(*counts, strict=True))
    if matched:
        precision, recall = matched / (matched + false), matched / (matched + missed)
        assert total.precision == pytest.approx(precision)
        assert total.recall == pytest.approx(recall)
        assert total.f1 == pytest.approx(2 * precision * recall / (precision + recall))
