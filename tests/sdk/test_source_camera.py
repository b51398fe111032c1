"""Cameras: addresses, what is said of files that are none, and FFmpeg's V4L2 reader on a driver of our own.

No machine that runs these tests needs a camera. `fake_camera.c` stands in for the kernel's part: it is preloaded into a
process of its own, in which everything else is real. It shows what happens when a driver chooses another mode, is busy,
is unplugged or hangs; it cannot show what a particular camera does.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_tools import QUICK, Taken
from own_process import in_own_process
from video_tools import number_of

from vsdk.errors import (
    Error,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    SourceUnreadableError,
    SourceUnsupportedError,
)
from vsdk.events import SourceState
from vsdk.frame import Frame
from vsdk.sources import camera_device
from vsdk.sources.camera import open_camera
from vsdk.sources.camera_address import parse_camera_address
from vsdk.sources.live_settings import LiveSettings
from vsdk.sources.opening import open_source

ONCE = LiveSettings(connect_timeout=30.0, read_timeout=30.0, reconnect_for=0, policy="every")

# Addresses


@pytest.mark.parametrize(
    ("text", "device", "size", "rate", "name"),
    [
        ("camera://0", "/dev/video0", None, None, None),
        ("CAMERA://12", "/dev/video12", None, None, None),
        ("camera:///dev/video2?size=1280x720&rate=30&format=mjpeg", "/dev/video2", (1280, 720), Fraction(30), "mjpeg"),
        ("camera://1?rate=30000/1001", "/dev/video1", None, Fraction(30000, 1001), None),
        ("camera:///dev/v4l/by-id/usb-A_B%20C-video-index0", "/dev/v4l/by-id/usb-A_B C-video-index0", None, None, None),
    ],
)
def test_what_an_address_says(
    text: str, device: str, size: tuple[int, int] | None, rate: Fraction | None, name: str | None
) -> None:
    address = parse_camera_address(text)
    assert (address.device, address.size, address.rate, address.format) == (Path(device), size, rate, name)
    assert address.name == device


@pytest.mark.parametrize(
    "text",
    [
        "camera://",
        "camera://front",
        "camera://-1",
        "camera://123456",
        "camera://admin:s3cr3t@0",
        "camera:///dev/admin:s3cr3t@video0",
        "camera://0?size=1280",
        "camera://0?size=0x720",
        "camera://0?rate=0",
        "camera://0?rate=1/0",
        "camera://0?rate=fast",
        "camera://0?format=s3cr3t/",
        "camera://0?password=s3cr3t",
        "camera://0?rate=30&rate=25",
        "camera:///dev/video0\0",
    ],
)
def test_addresses_that_cannot_be(text: str) -> None:
    with pytest.raises(SourceError, match="camera") as caught:
        open_source(text)
    assert "camera:///dev/video2?size=1280x720" in caught.value.hint
    assert "s3cr3t" not in f"{caught.value}"


@given(
    before=st.text(max_size=20) | st.from_regex(r"[/\w.%]{0,12}\?(size|rate|format|x)=[\w./]{0,8}&?", fullmatch=True),
    secret=st.sampled_from(["", "s3cr3t", ":s3cr3t@", "&key=s3cr3t"]),
    after=st.text(max_size=8) | st.from_regex(r"&?(size|rate|format)=[\w./]{0,8}", fullmatch=True),
)
def test_any_text_is_an_address_or_an_error_of_ours(before: str, secret: str, after: str) -> None:
    try:
        assert parse_camera_address(f"camera://{before}{secret}{after}").device.is_absolute()
    except Error as error:
        assert "s3cr3t" not in str(error)  # noqa: PT017


# What is no camera


def test_a_number_that_no_camera_has() -> None:
    for spec in (65535, "camera://65535", "/dev/video65535", Path("/dev/video65535")):
        with pytest.raises(SourceNotFoundError, match="there is no camera /dev/video65535") as caught:
            open_source(spec)
        assert "/dev/video" in caught.value.hint.replace("/dev/video65535", "")
    for spec in (-1, 65536):
        with pytest.raises(SourceError, match="no number of a camera"):
            open_source(spec)


def test_the_cameras_that_there_are_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_device, "cameras", lambda: ["/dev/video0 (Webcam)", "/dev/video2"])
    with pytest.raises(SourceNotFoundError) as caught:
        open_source("camera://9")
    assert "/dev/video0 (Webcam), /dev/video2" in caught.value.hint


def test_files_of_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    os.mkfifo(tmp_path / "pipe")  # which nobody may wait for
    for name, said in (("clip.mp4", "a file"), ("pipe", "a pipe"), (".", "a folder")):
        with pytest.raises(SourceUnreadableError, match=f"is not a camera but {said}") as caught:
            open_source(f"camera://{tmp_path / name}")
        assert caught.value.hint
    with pytest.raises(SourceNotFoundError):
        open_source(f"camera://{tmp_path / 'clip.mp4' / 'video0'}")
    with pytest.raises(SourceError, match="too long"):
        open_source(f"camera://{tmp_path}/{'x' * 300}")


@pytest.mark.parametrize("spec", ["/dev/null", "camera:///dev/null", Path("/dev/zero")])
def test_a_device_that_is_no_camera_ends_at_once(spec: Any) -> None:
    with (
        open_source(spec, live=LiveSettings()) as source,
        pytest.raises(SourceUnsupportedError, match=r"/dev/(null|zero) is a device, but not a camera"),
    ):
        source.read()


def test_without_permission_the_group_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(camera_device, "_group", lambda _: "video")
    with pytest.raises(SourceDeniedError, match="/dev/null: this user may not use the camera") as caught:
        open_source("camera:///dev/null")
    assert "sudo usermod -aG video $USER" in caught.value.hint
    monkeypatch.setattr(camera_device, "_group", lambda _: None)
    with pytest.raises(SourceDeniedError) as caught:
        open_source("camera:///dev/null")
    assert "Only root" in caught.value.hint


# A driver of our own


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("the driver needs Linux and a C compiler: apt install gcc libc6-dev")
    library = tmp_path_factory.mktemp("driver") / "fake_camera.so"
    code = Path(__file__).with_name("fake_camera.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, code, "-ldl"], check=True)
    return library


@pytest.fixture
def camera(driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """The address of a camera with these faults, for processes that are started from now on."""
    monkeypatch.setenv("LD_PRELOAD", str(driver))

    def address(faults: str) -> str:
        device = tmp_path / f"fake-camera-{faults}"
        device.symlink_to("/dev/null")
        return f"camera://{device}"

    return address


def frames_of(address: str, count: int) -> tuple[Any, list[tuple[int, int, int, int]], list[str]]:
    """What the source says of itself; of each frame its number, stamp, age in ms and generation; what is logged."""
    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("vsdk").addHandler(handler)
    logging.getLogger("vsdk").setLevel(logging.WARNING)
    with open_source(address, live=ONCE) as source:
        frames = [frame for _, frame in zip(range(count), source, strict=False)]  # held until all are there
        info = source.info
    shown = []
    for frame in frames:
        assert frame.pts is not None
        age = (frame.captured_ns - frame.pts * 1000) // 1_000_000
        shown.append((number_of(frame.image), frame.pts, age, frame.generation))
    return (info.width, info.height, info.frame_rate, info.live, frames[0].time_base), shown, logged


def errors_of(*addresses: str) -> list[SourceError]:
    """What reading each of these cameras ends with."""
    errors = []
    for address in addresses:
        with pytest.raises(SourceError) as caught, open_source(address, live=ONCE) as source:
            list(source)
        errors.append(caught.value)
    return errors


def states_until_again(
    address: str, settings: LiveSettings
) -> tuple[list[tuple[str, str]], list[tuple[int, int, int]]]:
    """States, and (frame number, generation, number shown) of frames, until the camera gives frames again."""
    source = open_camera(address, settings)
    with source:
        taken = Taken(source)
        taken.frame()
        taken.state("reconnecting")
        taken.until(lambda item: isinstance(item, Frame) and item.generation == 1)
        frames = [(frame.number, frame.generation, number_of(frame.image)) for frame in taken.frames]
        return [(state.state, state.message) for state in taken.items if isinstance(state, SourceState)], frames


def test_every_frame_with_the_stamp_of_the_driver(camera: Callable[[str], str]) -> None:
    info, frames, logged = in_own_process(frames_of, camera("fine") + "?size=96x64&rate=25&format=yuyv422", 40)
    assert info == (96, 64, 25, True, Fraction(1, 1_000_000))
    assert [number for number, *_ in frames] == list(range(40))  # more than the driver has buffers
    stamps = [stamp for _, stamp, *_ in frames]
    assert all(later - earlier == 40_000 for earlier, later in pairwise(stamps))
    assert all(0 <= age < 5000 for *_, age, _ in frames)  # the clock of the driver is the monotonic one
    assert logged == []


def test_a_size_that_the_driver_changes_is_an_error(camera: Callable[[str], str]) -> None:
    (error,) = in_own_process(errors_of, camera("small") + "?size=96x64")
    assert isinstance(error, SourceUnsupportedError)
    assert "the camera has 64x48 instead of video_size=96x64" in str(error)
    assert "v4l2-ctl --list-formats-ext -d " in error.hint


def test_a_size_that_nobody_asked_for_is_the_drivers(camera: Callable[[str], str]) -> None:
    info, frames, _ = in_own_process(frames_of, camera("small"), 3)
    assert info[:2] == (64, 48)
    assert [number for number, *_ in frames] == [0, 1, 2]


def test_a_rate_that_the_driver_changes_is_told(camera: Callable[[str], str]) -> None:
    info, frames, logged = in_own_process(frames_of, camera("dark") + "?rate=50", 3)
    assert info[2] == 10
    assert frames[1][1] - frames[0][1] == 100_000
    assert any("50 frames/s were asked for, the driver gives 10" in line for line in logged)


def test_cameras_that_cannot_be_used(camera: Callable[[str], str]) -> None:
    fine = camera("fine")
    cases = (
        (f"{fine}?format=mjpeg", SourceUnsupportedError, "the camera refuses input_format=mjpeg"),
        (f"{fine}?format=nosuch&rate=5", SourceUnsupportedError, "the camera refuses framerate=5, input_format=nosuch"),
        (camera("busy"), SourceError, "is in use by another program"),
        (camera("metadata"), SourceUnsupportedError, "gives no pictures"),
        (camera("planes"), SourceUnsupportedError, "several planes"),
    )
    errors = in_own_process(errors_of, *(address for address, *_ in cases))
    for error, (_, kind, said) in zip(errors, cases, strict=True):
        assert type(error) is kind
        assert said in str(error)
        assert error.hint


def test_a_camera_that_is_unplugged_and_comes_back(camera: Callable[[str], str]) -> None:
    states, frames = in_own_process(states_until_again, camera("unplugged"), QUICK)
    states = [(state, message) for state, message in states if state != "stalled"]  # as a busy machine may seem to be
    assert [state for state, _ in states] == ["connecting", "live", "reconnecting", "live"]
    assert "disconnected" in states[2][1]
    assert all(shown < 5 for _, generation, shown in frames if generation == 0)
    assert frames[-1][1] == 1
    assert frames[-1][0] > frames[-2][0]


def test_a_driver_that_hangs_is_replaced(camera: Callable[[str], str]) -> None:
    """FFmpeg waits in the driver, where nothing reaches it: not the time-out, and not a signal."""
    states, frames = in_own_process(states_until_again, camera("stalls"), QUICK)
    assert [state for state, _ in states][-3:] == ["stalled", "reconnecting", "live"]
    assert "no frame for" in states[-2][1]
    assert frames[-1][1] == 1
