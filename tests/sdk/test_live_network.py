"""Live sources against real servers on loopback. What happens when these fail is in `test_live_faults.py`."""

from __future__ import annotations

import gc
import http.server
import itertools
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import psutil
import pytest
from camera_server import USER
from live_tools import (
    PATIENCE,
    QUICK,
    STEADY,
    Taken,
    TestCamera,
    running_camera,
    serve_file,
    shown_number,
    wait_until,
)
from video_tools import flip_bits, textured, write_numbered, write_video

from vsdk.errors import (
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    SourceTimeoutError,
    SourceUnsupportedError,
)
from vsdk.frame import Frame
from vsdk.sources.container_connection import ContainerConnection
from vsdk.sources.live_settings import LiveSettings
from vsdk.sources.network import open_network

SCHEMES = ("tcp", "http", "rtsp")
ONCE = replace(STEADY, reconnect_for=0.0)


@pytest.fixture(scope="module")
def shared_camera() -> Iterator[TestCamera]:
    with running_camera() as camera:
        yield camera


@pytest.fixture
def camera(shared_camera: TestCamera) -> TestCamera:
    shared_camera.recover()
    return shared_camera


@pytest.fixture
def opening() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def taken_from(opening: ExitStack, url: str, settings: LiveSettings = QUICK) -> Taken:
    return Taken(opening.enter_context(open_network(url, settings)))


def check_frames(frames: list[Frame]) -> None:
    """Nothing was made up or came twice, times and numbers rise, and within a generation the times are exact."""
    numbers = [shown_number(frame.image) for frame in frames]
    assert numbers == sorted(set(numbers))
    for earlier, later in itertools.pairwise(frames):
        assert earlier.number < later.number
        assert earlier.time_ns < later.time_ns
        assert earlier.captured_ns <= later.captured_ns
        if earlier.generation == later.generation and earlier.pts is not None and later.pts is not None:
            assert later.time - earlier.time == (later.pts - earlier.pts) * later.time_base


@pytest.mark.parametrize("scheme", SCHEMES)
def test_frames_come_with_their_stamps(camera: TestCamera, opening: ExitStack, scheme: str) -> None:
    taken = taken_from(opening, camera.url(scheme), STEADY)
    taken.frame(20)
    check_frames(taken.frames)
    for earlier, later in itertools.pairwise(taken.frames):
        ticks = shown_number(later.image) - shown_number(earlier.image)
        assert later.time - earlier.time == Fraction(ticks, 25)
        assert later.number - earlier.number <= ticks
    assert [state.state for state in taken.states] == ["connecting", "live"]
    info = taken.source.info
    assert (info.width, info.height, info.live, info.name) == (128, 64, True, camera.url(scheme))


def test_without_stamps_the_machines_clock_counts(camera: TestCamera, opening: ExitStack) -> None:
    taken = taken_from(opening, camera.url("http", "/mjpeg"), STEADY)
    taken.frame(10)
    check_frames(taken.frames)
    assert {frame.pts for frame in taken.frames} == {None}
    first = taken.frames[0]
    for frame in taken.frames[1:]:
        assert abs(float(frame.time) - (frame.captured_ns - first.captured_ns) / 1e9) < 0.001


def test_a_change_of_the_size_is_a_new_generation(camera: TestCamera, opening: ExitStack) -> None:
    taken = taken_from(opening, camera.url("tcp"), STEADY)
    taken.frame(2)
    camera.set("size", [192, 96])
    changed = taken.state("live")
    assert (changed.generation, changed.message) == (1, "the frame size changed from 128x64 to 192x96")
    frame = taken.frame()
    assert frame.image.shape == (96, 192, 3)
    assert frame.generation == 1
    check_frames(taken.frames)
    assert taken.source.info.width == 192
    assert taken.source.reconnects == 0


def test_stamps_that_go_back_or_leap_are_a_new_generation(camera: TestCamera, opening: ExitStack) -> None:
    taken = taken_from(opening, camera.url("tcp"), STEADY)
    taken.frame(2)
    for shift, why in ((-1000, "went back"), (2000, "leapt ahead")):
        camera.set("shift", shift)
        assert why in taken.state("live").message
        taken.frame(3)
    check_frames(taken.frames)
    assert taken.source.generation == 2
    assert float(taken.frames[-1].time) < PATIENCE


def test_damaged_packets_are_counted_and_do_not_end_it(opening: ExitStack, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.ts", textured(60), options={"g": "10"}).read_bytes()
    damaged = tmp_path / "damaged.ts"
    damaged.write_bytes(whole[:20_000] + flip_bits(whole[20_000:], 0.002, seed=1))
    url = f"tcp://127.0.0.1:{serve_file(damaged, http=False)}"
    taken = taken_from(opening, url, replace(ONCE, policy="every"))
    taken.state("ended")
    assert len(taken.frames) > 30
    assert taken.source.decode_errors > 0
    assert {state.state for state in taken.states} == {"connecting", "live", "ended"}


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_password_opens_the_door_and_is_not_seen(camera: TestCamera, opening: ExitStack, scheme: str) -> None:
    taken = taken_from(opening, camera.url(scheme, "/locked", credentials=True), STEADY)
    taken.frame()
    shown = f"{taken.source.info!r} {taken.states!r}"
    assert USER not in shown
    assert "s3cr3t" not in shown


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
@pytest.mark.parametrize(
    ("path", "kind", "why"),
    [("/locked", SourceDeniedError, "401"), ("/nothing", SourceNotFoundError, "404")],
)
def test_a_refusal_is_told_apart_and_shows_no_password(
    camera: TestCamera, opening: ExitStack, scheme: str, path: str, kind: type[SourceError], why: str
) -> None:
    url = camera.url(scheme, path, credentials=True, password="wr0ng/p@ss")
    before = camera.get("accepted")
    taken = taken_from(opening, url, ONCE)
    with pytest.raises(kind, match=why) as caught:
        taken.state("live")
    assert [state.state for state in taken.states] == ["connecting", "ended"]
    assert why in taken.states[-1].message
    shown = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value)) + repr(taken.states)
    for secret in ("wr0ng", "p@ss", "p%40ss", f"{USER}:"):
        assert secret not in shown
    assert 1 <= camera.get("accepted") - before <= 2  # a login is refused once, and not tried again


def test_a_time_out_is_called_one(camera: TestCamera, opening: ExitStack) -> None:
    camera.set("silent", True)
    quick = replace(ONCE, connect_timeout=0.5)
    for scheme in SCHEMES:
        taken = taken_from(opening, camera.url(scheme), quick)
        with pytest.raises(SourceTimeoutError, match=r"nothing arrived within 0\.5 s"):
            taken.state("live")


def test_what_cannot_be_reached(opening: ExitStack) -> None:
    with pytest.raises(SourceError, match="Connection refused"):
        taken_from(opening, "rtsp://127.0.0.1:1/live", ONCE).state("live")
    with pytest.raises(SourceError) as caught:
        taken_from(opening, "http://no-such-host.invalid/live", ONCE).state("live")
    assert "host" in caught.value.hint
    with pytest.raises(SourceUnsupportedError, match="does not speak srt"):
        taken_from(opening, "srt://127.0.0.1:1", QUICK).state("live")


def test_a_playlist_with_an_end_is_a_recording_and_cannot_open_files(opening: ExitStack, tmp_path: Path) -> None:
    playlist = write_numbered(tmp_path / "live.m3u8", 30, container_options={"hls_list_size": "0"})
    inside = playlist.read_text()
    (tmp_path / "outside.m3u8").write_text(inside.replace("live0.ts", f"file://{tmp_path}/live0.ts"))
    handler = partial(Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    opening.callback(server.server_close)
    opening.callback(server.shutdown)
    url = f"http://127.0.0.1:{server.server_port}"
    source = opening.enter_context(open_network(f"{url}/live.m3u8", STEADY))
    assert [frame.number for frame in source] == list(range(30))
    with pytest.raises(SourceError):
        taken_from(opening, f"{url}/outside.m3u8", ONCE).state("live")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


def test_a_source_that_is_lost_does_not_disturb_another(camera: TestCamera, opening: ExitStack) -> None:
    steady = taken_from(opening, camera.url("tcp"), replace(STEADY, policy="every"))
    steady.frame()
    with running_camera() as other:
        failing = taken_from(opening, other.url("tcp"))
        failing.frame()
        for _ in range(2):
            other.die()
            failing.state("reconnecting")
            other.revive()
            failing.state("live")
    steady.frame(25)
    numbers = [shown_number(frame.image) for frame in steady.frames]
    assert len(numbers) == steady.frames[-1].number + 1
    assert steady.source.dropped == 0
    assert steady.source.reconnects == 0


def test_closing_returns_within_a_second_wherever_it_is(camera: TestCamera, opening: ExitStack) -> None:
    camera.set("silent", True)
    for scheme in SCHEMES:
        source = open_network(camera.url(scheme), QUICK)
        assert source.take(0.1) is not None  # it is connecting
        started = time.monotonic()
        source.close()
        assert time.monotonic() - started < 1


def test_nothing_is_left_behind(camera: TestCamera) -> None:
    """Threads and descriptors, after connections that were lost, refused, silent and closed."""

    def once() -> None:
        with ExitStack() as opening:
            taken = taken_from(opening, camera.url("rtsp"))
            taken.frame()
            camera.drop()
            taken.state("reconnecting")
            taken.frame()
        with ExitStack() as opening, pytest.raises(SourceDeniedError):
            taken_from(opening, camera.url("http", "/locked"), STEADY).state("live")

    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("vsdk-")]

    process = psutil.Process()
    once()
    gc.collect()
    wait_until(lambda: not threads())
    before = process.num_fds()
    for _ in range(3):
        once()
    gc.collect()
    wait_until(lambda: not threads() and process.num_fds() <= before)


def test_a_lost_connection_does_not_wait_for_the_garbage_collector(camera: TestCamera) -> None:
    """It has a decoder with threads of its own: in a process that makes little garbage, they would add up."""

    def connections() -> int:
        return sum(isinstance(thing, ContainerConnection) for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        with open_network(camera.url("rtsp"), QUICK) as source:
            taken = Taken(source)
            for fail in (camera.drop, camera.die, lambda: camera.set("paused", True)):
                taken.frame()
                fail()
                taken.state("reconnecting")
                wait_until(lambda: connections() <= 1)  # the next one may be there already
                camera.recover()
                taken.state("live")
        wait_until(lambda: connections() == 0)
    finally:
        gc.enable()
