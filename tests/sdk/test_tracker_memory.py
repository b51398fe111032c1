"""Nothing grows: thousands of frames, three objects, and the tracker holds what it held at the start."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import color_tracker
import psutil
import pytest
from color_tracker import red_box

import vsdk

FRAMES = 2000


@pytest.mark.slow
def test_two_thousand_frames_take_no_more_memory_than_two_hundred(tmp_path: Path) -> None:
    bundle = color_tracker.write_color_tracker(tmp_path / "bundle")
    pictures = [color_tracker.picture(number) for number in range(24)]
    process = psutil.Process()
    marks: dict[int, tuple[int, int, int]] = {}
    tracemalloc.start()  # from the beginning: what is recycled later is then known from the start
    with vsdk.Tracker(bundle, threads=1) as tracker:
        tracker.prompt(pictures[0], 1, box=red_box(0))
        tracker.prompt(pictures[0], 2, points=[(150, 100)])
        tracker.prompt(pictures[0], 3, points=[(20, 20)])
        for number in range(FRAMES):
            assert len(tracker.track(pictures[number % 24])) == 3
            if number in (480, 1200, 1992):  # the same picture of the clip, so that as much is visible
                gc.collect()
                marks[number] = tracemalloc.get_traced_memory()[0], process.memory_info().rss, tracker._bank.nbytes
                tracemalloc.reset_peak()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    (first, first_rss, size), (_, _, _), (last, last_rss, last_size) = marks.values()
    assert size == last_size
    assert abs(last - first) < 20_000  # bytes; Python's free lists and NumPy's caches breathe a little
    assert last_rss - first_rss < 3_000_000
    assert peak < 50_000_000
