"""GStreamer pipelines for real, on a machine that has GStreamer; the tests of every day do without.

sudo apt install python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good
python3 -m venv --system-site-packages .venv-gst && .venv-gst/bin/pip install -e '.[dev]'
.venv-gst/bin/python -m pytest tests/sdk/gstreamer_source.py
"""

from __future__ import annotations

import http.server
import logging
import os
import threading
import time
import traceback
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from live_tools import QUICK, Taken

import vsdk
from vsdk.errors import (
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    SourceTimeoutError,
    SourceUnsupportedError,
)
from vsdk.frame import Frame
from vsdk.sources.gstreamer import FORMATS, open_gstreamer
from vsdk.sources.live_settings import LiveSettings

pytest.importorskip("gi", reason="GStreamer's Python bindings are not installed: apt install python3-gi")

ONCE = LiveSettings(connect_timeout=5, read_timeout=2, reconnect_for=0)
SECRET = "s3cr3t"


def frames_of(pipeline: str, settings: LiveSettings = ONCE) -> list[Frame]:
    with open_gstreamer(f"gst://{pipeline}", settings) as source:
        return list(source)


# Pictures


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("width", "height"), [(96, 64), (95, 63), (638, 2)])
def test_one_colour_in_every_format(name: str, width: int, height: int) -> None:
    if name in ("YUY2", "UYVY") and width % 2:
        pytest.skip("of a pair of pixels that is cut, videotestsrc fills in only one chroma sample")
    caps = f"video/x-raw,format={name},width={width},height={height}"
    (frame,) = frames_of(f"videotestsrc num-buffers=1 pattern=solid-color foreground-color=0xFFC85028 ! {caps}")
    assert frame.image.shape == (height, width, 3)
    colour = np.array([200, 80, 40])
    grey = np.full(3, colour @ (0.299, 0.587, 0.114))
    expected = grey if name == "GRAY8" else colour
    tolerance = 16 if name == "GRAY8" else 4  # videotestsrc writes grey of limited range
    np.testing.assert_allclose(frame.image.astype(float), np.tile(expected, (height, width, 1)), atol=tolerance)


@pytest.mark.parametrize("colorimetry", ["bt601", "bt709", "1:1:0:0", "1:4:0:0"])
@pytest.mark.parametrize("name", ["NV12", "I420"])
def test_matrix_and_range_are_those_of_the_caps(name: str, colorimetry: str) -> None:
    pipeline = (
        "videotestsrc num-buffers=1 pattern=solid-color foreground-color=0xFF00FF00 ! video/x-raw,format=RGB ! "
        f"videoconvert ! video/x-raw,format={name},width=64,height=48,colorimetry={colorimetry}"
    )
    (frame,) = frames_of(pipeline)
    np.testing.assert_allclose(frame.image[24, 32].astype(int), (0, 255, 0), atol=4)


def test_a_picture_that_a_crop_left_in_a_larger_buffer() -> None:
    whole = "videotestsrc num-buffers=1 ! video/x-raw,format=RGB,width=128,height=96"
    (expected,) = frames_of(whole)
    (cropped,) = frames_of(f"{whole} ! videocrop left=5 right=10 top=7 bottom=2")
    np.testing.assert_array_equal(cropped.image, expected.image[7:94, 5:118])


# Time


def test_a_pipeline_that_is_not_live_gives_every_frame_and_ends() -> None:
    frames = frames_of("videotestsrc num-buffers=200 ! video/x-raw,framerate=25/1,width=64,height=48", LiveSettings())
    assert [frame.number for frame in frames] == list(range(200))
    assert [frame.pts for frame in frames] == [number * 40_000_000 for number in range(200)]
    assert frames[-1].time == Fraction(199, 25)
    assert {frame.generation for frame in frames} == {0}


def test_a_live_pipeline_gives_the_newest_frame() -> None:
    source = open_gstreamer("gst://videotestsrc is-live=true ! video/x-raw,framerate=50/1,width=64,height=48", ONCE)
    with source:
        taken = Taken(source)
        first = taken.frame()
        time.sleep(1)
        later = taken.frame()
        assert time.monotonic_ns() - later.captured_ns < 0.5e9
        assert later.number > first.number + 10
        assert source.dropped == later.number - first.number - 1
        assert source.info.frame_rate == 50


def test_a_change_of_size_is_a_new_generation() -> None:
    caps = "video/x-raw,format=RGB,width={},height=48"
    parts = " ".join(f"videotestsrc num-buffers=5 ! {caps.format(width)} ! joined." for width in (64, 96))
    frames = frames_of(f"concat name=joined {parts} joined. ! queue")
    assert [frame.image.shape[1] for frame in frames] == [64] * 5 + [96] * 5
    assert [frame.generation for frame in frames] == [0] * 5 + [1] * 5


def test_a_live_pipeline_that_ends_is_started_again() -> None:
    source = open_gstreamer("gst://videotestsrc is-live=true num-buffers=5 ! video/x-raw,width=64,height=48", QUICK)
    with source:
        taken = Taken(source)
        taken.until(lambda item: isinstance(item, Frame) and item.generation == 2)
        assert "the sender ended the stream" in [state.message for state in taken.states]


def test_an_appsink_of_the_users_own() -> None:
    for ending in ("appsink", "appsink sync=true max-buffers=100", "video/x-raw,format=BGR ! appsink name=mine"):
        frames = frames_of(f"videotestsrc num-buffers=3 pattern=red ! videoconvert ! {ending}")
        assert len(frames) == 3
        np.testing.assert_allclose(frames[0].image[0, 0].astype(int), (255, 0, 0), atol=4)


# Errors


@pytest.fixture
def unauthorized() -> Iterator[int]:
    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401)

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def error_of(pipeline: str, caplog: pytest.LogCaptureFixture) -> SourceError:
    """What comes of a pipeline; neither it nor a log says anything secret."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(SourceError) as caught:
        frames_of(pipeline)
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert SECRET not in shown.replace(pipeline, "")  # the traceback quotes no variable, but this test's own line
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("pipeline", "kind", "said"),
    [
        ("videotestsrc ! nosuchelement", SourceUnsupportedError, "no element 'nosuchelement'"),
        ("videotestsrc nosuch=1", SourceUnsupportedError, "videotestsrc has no property nosuch"),
        (f"videotestsrc pattern=rtsp://u:{SECRET}@h", SourceUnsupportedError, "a property cannot be set"),
        ("audiotestsrc", SourceUnsupportedError, "two elements cannot be linked"),
        ("videotestsrc !", SourceUnsupportedError, "gst-launch-1.0"),
        (f"filesrc location=/u:{SECRET}@h ! decodebin", SourceNotFoundError, "Resource not found"),
        ("v4l2src device=/dev/video99", SourceNotFoundError, "/dev/video99"),
        (f"rtspsrc location=rtsp://u:{SECRET}@127.0.0.1:9/x ! decodebin", SourceError, "***@127.0.0.1:9/x: GStreamer"),
        (
            f"rtspsrc location=rtsp://127.0.0.1:9/x user-id=u user-pw={SECRET} ! decodebin",
            SourceError,
            "GStreamer says",
        ),
        ("videotestsrc is-live=true ! valve drop=true", SourceTimeoutError, "no picture came within 5 s"),
        ("videotestsrc num-buffers=2 ! identity error-after=1", SourceError, "GStreamer says"),
    ],
)
def test_what_goes_wrong_is_said(
    pipeline: str, kind: type[SourceError], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = error_of(pipeline, caplog)
    assert type(error) is kind
    assert said in str(error)


def test_a_wrong_password(unauthorized: int, caplog: pytest.LogCaptureFixture) -> None:
    error = error_of(f"souphttpsrc location=http://u:{SECRET}@127.0.0.1:{unauthorized}/x ! decodebin", caplog)
    assert isinstance(error, (SourceDeniedError, SourceError))
    assert f"gst://souphttpsrc http://***@127.0.0.1:{unauthorized}/x" in str(error)


# Nothing grows


def test_nothing_is_left_of_pipelines_that_were_closed() -> None:
    def once() -> None:
        with open_gstreamer("gst://videotestsrc is-live=true ! video/x-raw,width=64,height=48", ONCE) as source:
            assert source.read() is not None

    process = psutil.Process()
    for _ in range(5):
        once()
    before = process.num_threads(), process.num_fds(), process.memory_info().rss
    for _ in range(40):
        once()
    deadline = time.monotonic() + 10
    while process.num_threads() > before[0] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert process.num_threads() <= before[0]
    assert process.num_fds() <= before[1]
    assert process.memory_info().rss - before[2] < 8 << 20


def test_memory_does_not_grow_with_frames() -> None:
    process = psutil.Process()
    with open_gstreamer("gst://videotestsrc num-buffers=6000 ! video/x-raw,width=96,height=64", ONCE) as source:
        sizes = [process.memory_info().rss for _ in source][1000::1000]
    assert len(sizes) == 5
    assert sizes[-1] - sizes[0] < 4 << 20


def test_through_a_stream(tmp_path: Path) -> None:
    source = vsdk.open("gst://videotestsrc num-buffers=50 ! video/x-raw,width=96,height=64,framerate=25/1")
    with vsdk.Stream(None, source) as stream:
        events = list(stream)
    assert [event.type for event in events if event.type in ("start", "end")] == ["start", "end"]
    assert events[-1].type == "end"
    assert events[-1].frames == 50
    assert "videotestsrc" in str(events[0])


def test_the_machine_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    """For reports: what these tests ran on."""
    from vsdk.sources.gst_bindings import load_bindings

    with capsys.disabled():
        print(f"\n{load_bindings().gst.version_string()}, {os.uname().machine}")
