"""Times, generations, thinning and the mailbox: what happens between capture and reader, without any thread."""

from __future__ import annotations

import itertools
import threading
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsdk.events import SourceState
from vsdk.sources.connection import Picture
from vsdk.sources.live_clock import LONGEST_LEAP, LiveClock
from vsdk.sources.mailbox import MOST_STATES, MOST_WAITING, MOST_WAITING_BYTES, Mailbox, Numbered
from vsdk.sources.thinning import Thinning

BASE = Fraction(1, 90_000)


def picture(pts: int | None, captured: float = 0.0, size: tuple[int, int] = (4, 2), held: int = 1) -> Picture:
    return Picture(*size, pts, BASE, round(captured * 1e9), lambda: np.zeros((2, 4, 3), np.uint8), held)


@given(st.lists(st.integers(1, 900_000), max_size=30), st.integers(-(2**33), 2**33))
def test_within_a_generation_times_are_exactly_those_of_the_stamps(steps: list[int], first: int) -> None:
    clock, stamp = LiveClock(), first
    assert clock.place(picture(first)) == (Fraction(0), None)
    for step in steps:
        stamp += step
        time, reason = clock.place(picture(stamp, float((stamp - first) * BASE)))
        assert (time, reason) == ((stamp - first) * BASE, None)
    assert clock.generation == 0


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-(2**40), 2**40),
            st.integers(0, 10**12),
            st.sampled_from([(4, 2), (8, 6)]),
            st.booleans(),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_times_rise_whatever_comes(coming: list[tuple[int | None, int, tuple[int, int], bool]]) -> None:
    clock, last, captured, generation = LiveClock(), -1, 0, 0
    for pts, step, size, reconnected in coming:
        captured += step
        if reconnected:
            clock.reconnect()
        time, reason = clock.place(picture(pts, captured / 1e9, size))
        assert round(time * 1_000_000_000) > last
        last = round(time * 1_000_000_000)
        generation += reason is not None
        assert clock.generation == generation


def test_a_new_generation_and_why() -> None:
    clock = LiveClock()
    clock.reconnect()  # before the first picture there is nothing to come back to
    assert clock.place(picture(900_000, 5.0)) == (Fraction(0), None)
    assert clock.place(picture(903_600, 5.04)) == (Fraction(4, 100), None)
    assert clock.place(picture(903_600, 5.04)) == (Fraction(4, 100) + Fraction(1, 10**6), None)
    assert clock.place(picture(907_200, 5.05)) == (Fraction(8, 100), None)
    time, reason = clock.place(picture(907_199, 5.15))
    assert time == Fraction(18, 100)
    assert reason == "time stamps went back by 0.000 s"
    time, reason = clock.place(picture(3, 5.25, (8, 6)))
    assert time == Fraction(28, 100)
    assert reason == "the frame size changed from 4x2 to 8x6"
    time, reason = clock.place(picture(3 + 90_000 * 100, 5.35, (8, 6)))
    assert time == Fraction(38, 100)
    assert reason == "time stamps leapt ahead by 100 s"
    clock.reconnect()
    time, reason = clock.place(picture(7, 35.35))
    assert time == Fraction(3038, 100)
    assert reason == ""
    assert clock.place(picture(7 + 3600, 35.4)) == (Fraction(3042, 100), None)
    assert clock.generation == 4


def test_a_burst_is_no_leap() -> None:
    clock = LiveClock()
    clock.place(picture(0))
    for second in range(1, int(LONGEST_LEAP)):
        assert clock.place(picture(90_000 * second, 0.001)) == (Fraction(second), None)


def test_without_stamps_the_machines_clock_counts() -> None:
    clock = LiveClock()
    assert [clock.place(picture(None, seconds)) for seconds in (3.0, 3.25, 3.25, 4.0)] == [
        (0, None),
        (Fraction(1, 4), None),
        (Fraction(1, 4) + Fraction(1, 10**6), None),
        (1 + Fraction(1, 10**6), None),
    ]


# Thinning


@given(rate=st.integers(2, 240), most=st.integers(1, 60), burst=st.integers(1, 12))
def test_thinning_is_even_whatever_the_rhythm(rate: int, most: int, burst: int) -> None:
    thinning = Thinning(most)
    taken = [index for index in range(rate * 4) if thinning.takes(Fraction(index, rate))]
    assert abs(len(taken) - 4 * min(rate, most)) <= 1
    gaps = {later - earlier for earlier, later in itertools.pairwise(taken)}
    assert len(gaps) <= 2


def test_after_a_pause_there_is_no_catching_up() -> None:
    thinning = Thinning(10)
    before = [thinning.takes(Fraction(index, 100)) for index in range(21)]
    assert [index for index, taken in enumerate(before) if taken] == [0, 10, 20]
    after = [thinning.takes(60 + Fraction(index, 100)) for index in range(21)]
    assert [index for index, taken in enumerate(after) if taken] == [0, 10, 20]


def test_without_a_limit_all_are_taken() -> None:
    thinning = Thinning(None)
    assert all(thinning.takes(Fraction(index, 1000)) for index in range(100))


# The mailbox


def numbered(number: int, held: int = 1) -> Numbered:
    return Numbered(picture(number, held=held), number, Fraction(number), 0)


def state(frame: int) -> SourceState:
    return SourceState("camera", "live", frame=frame)


@given(st.lists(st.sampled_from(["picture", "state", "take"]), max_size=60))
def test_only_the_newest_picture_waits_and_everything_else_keeps_its_order(coming: list[str]) -> None:
    changed = threading.Condition()
    with changed:
        mailbox = Mailbox(changed, every=False)
        taken: list[tuple[str, int] | None] = []
        waiting: list[tuple[str, int]] = []
        for put, what in enumerate(coming):
            if what == "picture":
                waiting = [item for item in waiting if item[0] == "state"] + [("picture", put)]
                mailbox.put(numbered(put))
            elif what == "state":
                waiting.append(("state", put))
                mailbox.put(state(put))
            else:
                item = mailbox.take()
                expected = waiting.pop(0) if waiting else None
                number = None if item is None else item.frame if isinstance(item, SourceState) else item.number
                assert number == (None if expected is None else expected[1])
                taken.append(expected)
            assert not mailbox.full
        seen = sum(item is not None and item[0] == "picture" for item in [*taken, *waiting])
        assert mailbox.dropped == coming.count("picture") - seen


def test_where_every_picture_counts_the_mailbox_fills_up() -> None:
    changed = threading.Condition()
    with changed:
        mailbox = Mailbox(changed, every=True)
        for number in range(MOST_WAITING):
            assert not mailbox.full
            mailbox.put(numbered(number))
        assert mailbox.full
        mailbox.put(state(0))  # states always find room
        assert mailbox.take() is not None
        assert not mailbox.full
        mailbox.clear()
        assert mailbox.empty
        mailbox.put(numbered(0, held=MOST_WAITING_BYTES))
        assert mailbox.full
        assert mailbox.dropped == 0


@pytest.mark.parametrize("every", [True, False])
def test_states_that_nobody_takes_do_not_pile_up(every: bool) -> None:
    changed = threading.Condition()
    with changed:
        mailbox = Mailbox(changed, every=every)
        mailbox.put(numbered(0))
        for frame in range(MOST_STATES + 10):
            mailbox.put(state(frame))
        first = mailbox.take()
        assert isinstance(first, Numbered)
        oldest = mailbox.take()
        assert isinstance(oldest, SourceState)
        assert oldest.frame == 10
