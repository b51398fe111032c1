"""The soak test in short: what `soak.py` measures, and what it makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import soak
from own_process import in_own_process
from soak_watch import Samples, draw, fitted


def test_a_line_is_fitted_after_the_warm_up() -> None:
    seconds = [float(second) for second in range(0, 3601, 5)]
    samples: Samples = {
        "seconds": seconds,
        "flat": [100.0 if second >= 700 else second / 7 for second in seconds],
        "growing": [50 + second / 360 for second in seconds],
    }
    assert fitted(samples, "flat") == {"per_hour": 0, "rise": 0, "at_the_end": 100, "least": 100, "most": 100}
    growing = fitted(samples, "growing")
    assert growing["per_hour"] == pytest.approx(10)
    assert growing["rise"] == pytest.approx(8)
    assert growing["at_the_end"] == pytest.approx(60)


@pytest.mark.slow
def test_a_short_soak(tmp_path: Path) -> None:
    """Through all there is; that frames, scenes and lines add up is looked at in there."""
    folders = [tmp_path / "frames", tmp_path / "camera"]
    for folder in folders:
        folder.mkdir()
    frames = in_own_process(soak.frames, 1000, 0.05, folders[0])
    assert (frames["frames"], frames["scenes"]) == (1000, 4)
    assert frames["after_closing"]["descriptors"] <= frames["before"]["descriptors"]
    assert set(map(len, frames["samples"].values())) == {len(frames["samples"]["seconds"])}
    camera = in_own_process(soak.camera, 0.1, soak.FAULT_SECONDS + 1, 0.05, folders[1])
    assert camera["faults"] == {"connection cut": 1}
    assert camera["after_closing"]["descriptors"] <= camera["before"]["descriptors"]
    picture = draw(frames, camera)
    assert picture.width > 1000
