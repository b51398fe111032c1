"""`vsdk bench streams`: the figures add up, and the cameras send what they should."""

from __future__ import annotations

import io
import time
from itertools import pairwise
from pathlib import Path

import av
import pytest
from test_stream import no_threads_left
from video_tools import write_numbered

import vsdk
from vsdk.bench import streams
from vsdk.bench.cameras import paced, running_cameras
from vsdk.bench.streams import PARTS, measure_streams
from vsdk.errors import InputError
from vsdk.sources.live_settings import LiveSettings


def test_the_figures_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "WINDOW_SECONDS", 0.5)
    monkeypatch.setattr(streams, "CLIP_FRAMES", 12)
    report = measure_streams(vsdk.load(), cameras=2, rate=4, seconds=1.5, threads=1)
    assert no_threads_left()
    assert report.seconds >= 1.5
    assert "1 threads" in report.engine
    assert (report.width, report.height) == (1280, 720)
    assert len(report.cameras) == 2
    for camera in report.cameras:
        assert camera.frames > 0
        assert camera.dropped >= 0
        assert 0 < camera.encoded <= 1
        assert 0 < camera.latency_p50 <= camera.latency_p95
    assert tuple(report.parts) == PARTS
    for part in ("decode", "convert", "resize", "normalise", "encode", "scenes"):
        assert report.parts[part] > 0
    assert sum(report.parts.values()) <= report.cores * 1.05
    assert report.sender > 0
    assert report.to_dict()["parts"] == report.parts


def test_a_measurement_needs_something_to_measure() -> None:
    for asked in ({"cameras": 0}, {"rate": 0.0}, {"seconds": 1.0}):
        with pytest.raises(InputError):
            measure_streams(vsdk.load(), **asked)


def test_pictures_are_sent_when_they_are_due_and_in_order(tmp_path: Path) -> None:
    """The clip ends and begins again; its numbers and the times go on."""
    clip = write_numbered(tmp_path / "clip.mp4", 5, options={"preset": "ultrafast"})
    begun = time.monotonic()
    parts = [part for part, _ in zip(paced(clip, 50.0), range(13), strict=False)]
    assert time.monotonic() - begun >= 12 / 50
    with av.open(io.BytesIO(b"".join(parts)), "r", format="mpegts") as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert len(times) == 13
    distances = [later - earlier for earlier, later in pairwise(times)]
    assert distances == pytest.approx([1 / 50] * 12, abs=1e-4)


def test_every_connection_is_a_camera_of_its_own(tmp_path: Path) -> None:
    clip = write_numbered(tmp_path / "clip.mp4", 5, options={"preset": "ultrafast"})
    live = LiveSettings(policy="every", connect_timeout=30.0, read_timeout=30.0)
    with (
        running_cameras(clip, 50.0) as cameras,
        vsdk.open(cameras.url, live=live) as one,
        vsdk.open(cameras.url, live=live) as other,
    ):
        for source in (one, other):
            assert [frame.number for frame, _ in zip(source, range(8), strict=False)] == list(range(8))
    assert cameras.seconds > 0
