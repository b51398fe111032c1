"""Nothing grows: thousands of frames, three objects, and the tracker holds what it held at the start."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import color_tracker
import psutil
import pytest
from color_tracker import red_box
from own_process import in_own_process

import vsdk

FRAMES = 2000


def measured(folder: Path) -> list[tuple[int, int, int]]:
    """Traced memory, resident memory and size of the bank at three frames that show the same picture."""
    bundle = color_tracker.write_color_tracker(folder / "bundle")
    pictures = [color_tracker.picture(number) for number in range(24)]
    process = psutil.Process()
    marks = []
    tracemalloc.start()  # from the beginning: what is recycled later is then known from the start
    with vsdk.Tracker(bundle, threads=1) as tracker:
        tracker.prompt(pictures[0], 1, box=red_box(0))
        tracker.prompt(pictures[0], 2, points=[(150, 100)])
        tracker.prompt(pictures[0], 3, points=[(20, 20)])
        for number in range(FRAMES):
            assert len(tracker.track(pictures[number % 24])) == 3
            if number in (480, 1200, 1992):
                gc.collect()
                traced, resident = tracemalloc.get_traced_memory()[0], process.memory_info().rss
                marks.append((traced, resident, tracker._bank.nbytes))
    return marks


@pytest.mark.slow
def test_two_thousand_frames_take_no_more_memory_than_five_hundred(tmp_path: Path) -> None:
    first, _, last = in_own_process(measured, tmp_path)
    assert last[2] == first[2]
    assert abs(last[0] - first[0]) < 20_000  # bytes; Python's free lists and NumPy's caches breathe a little
    assert last[1] - first[1] < 3_000_000
