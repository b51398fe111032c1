"""Settings of live sources: what is refused, how delays grow, and what is tried again."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsdk.errors import (
    InputError,
    SourceDeniedError,
    SourceEmptyError,
    SourceNotFoundError,
    SourceTimeoutError,
    SourceUnsupportedError,
)
from vsdk.sources.live_settings import LiveSettings
from vsdk.sources.reconnecting import Reconnecting


@pytest.mark.parametrize(
    "wrong",
    [
        {"connect_timeout": 0},
        {"connect_timeout": math.inf},
        {"read_timeout": -1},
        {"read_timeout": math.nan},
        {"stall_after": math.inf},
        {"first_delay": 0},
        {"first_delay": 5, "longest_delay": 4},
        {"jitter": 1},
        {"jitter": -0.1},
        {"reconnect_for": -1},
        {"reconnect_for": math.nan},
        {"policy": "newest"},
        {"transport": "quic"},
        {"max_fps": 0},
        {"max_fps": math.inf},
    ],
    ids=str,
)
def test_what_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        LiveSettings(**wrong)


def test_all_waiting_is_finite_by_default() -> None:
    settings = LiveSettings()
    for name in ("connect_timeout", "read_timeout", "stall_after", "longest_delay", "reconnect_for"):
        assert getattr(settings, name) < math.inf


@given(first=st.floats(0.01, 10), times=st.floats(1, 100), jitter=st.floats(0, 0.99), failures=st.integers(1, 10**6))
def test_delays_double_up_to_the_longest_and_vary_by_the_jitter(
    first: float, times: float, jitter: float, failures: int
) -> None:
    settings = LiveSettings(first_delay=first, longest_delay=first * times, jitter=jitter)
    middle = min(first * 2.0 ** min(failures - 1, 50), first * times)
    for _ in range(5):
        assert middle * (1 - jitter) * 0.999 <= settings.delay(failures) <= middle * (1 + jitter) * 1.001


STEADY = LiveSettings(first_delay=1, longest_delay=8, jitter=0, reconnect_for=100)


def wait_after(reconnecting: Reconnecting, failure: BaseException | None, **how: Any) -> float | None:
    usual = {"frames": False, "ever_frames": False, "finite": False, "silent": 0.0}
    assert failure is None or isinstance(failure, Exception)
    return reconnecting.wait_after(failure, **{**usual, **how})


@pytest.mark.parametrize(
    "failure", [None, SourceTimeoutError("late"), SourceNotFoundError("404"), SourceEmptyError("nothing")]
)
def test_what_may_get_better_is_tried_again_for_a_while(failure: Exception | None) -> None:
    reconnecting = Reconnecting(STEADY)
    assert reconnecting.attempt == 1
    assert wait_after(reconnecting, failure) == 1
    assert reconnecting.attempt == 2
    assert wait_after(reconnecting, failure) == 2
    assert wait_after(reconnecting, failure) == 4
    assert wait_after(reconnecting, failure) == 8
    assert wait_after(reconnecting, failure, silent=91.0) == 8
    assert wait_after(reconnecting, failure, frames=True, ever_frames=True) == 1  # frames came in between
    assert reconnecting.attempt == 1
    assert wait_after(reconnecting, failure, silent=99.0) is None  # would be over before the next try


@pytest.mark.parametrize("failure", [SourceDeniedError("401"), SourceUnsupportedError("no decoder")])
def test_what_cannot_get_better_is_not_tried_before_the_first_frame(failure: Exception) -> None:
    assert wait_after(Reconnecting(STEADY), failure) is None
    assert wait_after(Reconnecting(STEADY), failure, ever_frames=True) == 8


def test_neither_recordings_nor_mistakes_of_ours_are_tried_again() -> None:
    assert wait_after(Reconnecting(STEADY), None, frames=True, ever_frames=True, finite=True) is None
    assert wait_after(Reconnecting(STEADY), ZeroDivisionError("ours"), frames=True, ever_frames=True) is None


def test_without_reconnecting_there_is_no_second_try() -> None:
    once = LiveSettings(reconnect_for=0)
    assert wait_after(Reconnecting(once), None, frames=True, ever_frames=True) is None
    assert wait_after(Reconnecting(once), SourceTimeoutError("late")) is None


def test_for_ever_is_for_ever() -> None:
    endless = LiveSettings(reconnect_for=math.inf)
    assert wait_after(Reconnecting(endless), SourceTimeoutError("late"), silent=1e9) is not None
