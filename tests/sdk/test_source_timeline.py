from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsdk.errors import InputError
from vsdk.sources.timeline import Timeline, checked_frame_rate

TIME_BASES = st.sampled_from(
    [Fraction(1, 25), Fraction(1, 1000), Fraction(1, 90_000), Fraction(1001, 30_000), Fraction(1)]
)
RATES = st.sampled_from([Fraction(1, 10), Fraction(25), Fraction(30_000, 1001), Fraction(240)])
MS = Fraction(1, 1000)


def _times(stamps: list[int | None], time_base: Fraction = MS, rate: Fraction = Fraction(25)) -> list[Fraction]:
    timeline = Timeline(time_base, rate)
    return [timeline.place(stamp, following) for stamp, following in itertools.zip_longest(stamps, stamps[1:])]


@settings(deadline=None)
@given(st.lists(st.none() | st.integers(-(2**40), 2**40) | st.integers(0, 20), max_size=40), TIME_BASES, RATES)
def test_time_starts_at_0_and_its_nanoseconds_rise_whatever_the_stamps(
    stamps: list[int | None], time_base: Fraction, rate: Fraction
) -> None:
    times = _times(stamps, time_base, rate)
    assert times[:1] in ([], [0])
    assert all(later - earlier >= Fraction(1, 1_000_000) for earlier, later in itertools.pairwise(times))


@settings(deadline=None)
@given(st.sets(st.integers(-(2**40), 2**40), min_size=1, max_size=40), TIME_BASES, RATES)
def test_rising_stamps_are_kept_exactly(stamps: set[int], time_base: Fraction, rate: Fraction) -> None:
    rising = sorted(stamps)
    assert _times([*rising], time_base, rate) == [(stamp - rising[0]) * time_base for stamp in rising]


def test_frames_without_stamps_follow_at_the_frame_rate() -> None:
    assert _times([None, None, None]) == [0, 40 * MS, 80 * MS]
    assert _times([1000, None, None, 1120]) == [0, 40 * MS, 80 * MS, 120 * MS]
    assert _times([None, 5000, 5100]) == [0, 40 * MS, 140 * MS]


def test_frames_out_of_order_do_not_displace_those_after_them() -> None:
    assert _times([0, 40, 120, 80, 160]) == [0, 40 * MS, 120 * MS, 121 * MS, 160 * MS]
    assert _times([0, 40, 40, 80]) == [0, 40 * MS, 41 * MS, 80 * MS]


def test_a_clock_that_starts_anew_goes_on_from_where_the_time_was() -> None:
    assert _times([7000, 8000, 9000, 0, 40, 1040]) == [0, 1, 2, 2 + 40 * MS, 2 + 80 * MS, 3 + 80 * MS]


@pytest.mark.parametrize("leaping", [9_000_000, -9_000_000])
def test_one_leaping_stamp_does_not_displace_those_after_it(leaping: int) -> None:
    assert _times([0, 40, leaping, 120, 160]) == [0, 40 * MS, 80 * MS, 120 * MS, 160 * MS]


def test_a_real_gap_is_kept() -> None:
    assert _times([0, 40, 9_000_000, 9_000_040]) == [0, 40 * MS, 9000, 9000 + 40 * MS]


@pytest.mark.parametrize(
    ("value", "rate"),
    [(25, 25), (29.97, Fraction(2997, 100)), (Fraction(30_000, 1001), Fraction(30_000, 1001)), (0.1, Fraction(1, 10))],
)
def test_frame_rates(value: float | Fraction, rate: Fraction) -> None:
    assert checked_frame_rate(value) == rate


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "25", None, True, 1e-12])
def test_frame_rates_that_are_none(value: float) -> None:
    with pytest.raises(InputError, match="frame rate"):
        checked_frame_rate(value)
