"""Recordings at their own pace."""

from __future__ import annotations

import threading
import time

import pytest
from video_tools import numbered

from vsdk.errors import InputError
from vsdk.sources.arrays import Arrays
from vsdk.sources.paced import Paced

COUNT = 11


def test_frames_come_when_they_are_due_and_none_is_dropped() -> None:
    with Paced(Arrays([numbered(index) for index in range(COUNT)], frame_rate=20)) as source:
        assert source.info.name == "arrays"
        before = time.monotonic_ns()
        frames = list(source)
    assert [frame.number for frame in frames] == list(range(COUNT))
    for frame in frames:
        assert frame.captured_ns - before >= frame.time_ns


def test_a_late_reader_gets_what_is_overdue_at_once() -> None:
    with Paced(Arrays([numbered(index) for index in range(COUNT)], frame_rate=1000)) as source:
        source.read()
        time.sleep(0.1)
        assert len(list(source)) == COUNT - 1


def test_an_interrupt_ends_the_waiting() -> None:
    with Paced(Arrays([numbered(0), numbered(1)], frame_rate=0.001)) as source:
        assert source.read() is not None
        threading.Timer(0.1, source.interrupt).start()
        assert source.read() is None


@pytest.mark.parametrize("speed", [0.0, -1.0, float("inf"), float("nan")])
def test_a_speed_that_is_none_is_refused(speed: float) -> None:
    with pytest.raises(InputError, match="speed"):
        Paced(Arrays([numbered(0)]), speed=speed)
