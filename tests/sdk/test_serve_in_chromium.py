"""The live page in a real browser, where one is installed; elsewhere this says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from chromium import find_chromium
from page_in_chromium import check_all
from test_stream import pictures
from video_tools import write_video

PROGRAM = find_chromium()


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed; on Debian: apt-get install chromium")
def test_the_page_shows_finds_and_refuses_what_it_should(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", pictures((40, 30, 35)), rate=25, options={"g": "10"})
    assert PROGRAM is not None
    check_all(PROGRAM, clip, at=2.0)
