"""`vsdk run -`: another program writes, vsdk reads, through a pipe of the operating system."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

FRAMES, CUT = 60, 30

WRITE_VIDEO = """
import sys, av
with av.open(sys.argv[1]) as read, av.open(sys.stdout.buffer, "w", format=sys.argv[2]) as write:
    video = write.add_stream(sys.argv[3], rate=25)
    video.width, video.height, video.pix_fmt = read.streams.video[0].width, read.streams.video[0].height, "yuv420p"
    for frame in read.decode(video=0):
        frame.pts = None
        write.mux(video.encode(frame))
    write.mux(video.encode(None))
"""
WRITE_RAW = """
import sys, av
with av.open(sys.argv[1]) as read:
    for frame in read.decode(video=0):
        sys.stdout.buffer.write(frame.reformat(format=sys.argv[2]).to_ndarray().tobytes())
sys.stdout.buffer.write(b"x" * int(sys.argv[3]))
"""


def piped(writer: Sequence[object], *arguments: object) -> subprocess.CompletedProcess[str]:
    """`writer | vsdk run - ARGUMENTS`"""
    sender = subprocess.Popen([sys.executable, "-c", *map(str, writer)], stdout=subprocess.PIPE)
    command = [sys.executable, "-m", "vsdk", "run", "-", *map(str, arguments)]
    done = subprocess.run(command, stdin=sender.stdout, capture_output=True, text=True, timeout=120, check=False)
    assert sender.stdout is not None
    sender.stdout.close()
    sender.wait(60)
    return done


def events_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def scenes_of(events: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(event["start_frame"], event["end_frame"]) for event in events if event["type"] == "scene"]


@pytest.mark.parametrize("writer", [("yuv4mpegpipe", "wrapped_avframe"), ("matroska", "ffv1")])
def test_containers(clip: Path, writer: tuple[str, str]) -> None:
    done = piped([WRITE_VIDEO, clip, *writer], "--jsonl", "-", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    events = events_of(done.stdout)
    assert events[0]["source"] == "standard input"
    assert scenes_of(events) == [(0, CUT - 1), (CUT, FRAMES - 1)]
    assert events[-1]["frames"] == FRAMES


@pytest.mark.parametrize("name", ["bgr24", "nv12"])
def test_raw_frames(clip: Path, name: str) -> None:
    done = piped([WRITE_RAW, clip, name, 0], "--raw", f"192x128:{name}@25", "--jsonl", "-", "--quiet")
    assert done.returncode == 0, done.stderr
    events = events_of(done.stdout)
    assert scenes_of(events) == [(0, CUT - 1), (CUT, FRAMES - 1)]
    assert [event["start"] for event in events if event["type"] == "scene"] == [0.0, 1.2]


def test_a_last_frame_that_is_cut_short_is_said_after_all_whole_ones(clip: Path) -> None:
    done = piped([WRITE_RAW, clip, "gray", 1000], "--raw", "192x128:gray@25", "--jsonl", "-", "--quiet")
    assert done.returncode == 1
    assert "standard input: frame 60 has 1000 bytes, but 192x128 gray has 24576" in done.stderr
    events = events_of(done.stdout)
    assert (events[-1]["reason"], events[-1]["frames"]) == ("error", FRAMES)


def test_a_file_as_standard_input_can_be_read_in_any_order(clip: Path) -> None:
    command = [sys.executable, "-m", "vsdk", "run", "-", "--jsonl", "-", "--quiet"]
    with clip.open("rb") as file:  # an MP4 file with its index at the end
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert events_of(done.stdout)[-1]["frames"] == FRAMES


def test_as_a_live_source(clip: Path) -> None:
    done = piped([WRITE_VIDEO, clip, "mpegts", "libx264"], "--policy", "every", "--jsonl", "-", "--quiet")
    assert done.returncode == 0, done.stderr
    events = events_of(done.stdout)
    states = [event["state"] for event in events if event["type"] == "source"]
    assert states == ["connecting", "live", "ended"]
    assert events[-1]["frames"] == FRAMES


def test_nothing_comes(vsdk_command: Any, tmp_path: Path) -> None:
    done = vsdk_command("run", "-", stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert "standard input is empty" in done.stderr
    done = vsdk_command("run", "-", input="this is no video\n")
    assert done.returncode == 1
    assert "--raw" in done.stderr


def test_a_terminal_is_no_video(vsdk_command: Any) -> None:
    ours, its = pty.openpty()
    try:
        done = vsdk_command("run", "-", stdin=its)
    finally:
        os.close(ours)
        os.close(its)
    assert done.returncode == 1
    assert "standard input is a terminal" in done.stderr
    assert "vsdk run -" in done.stderr


@pytest.mark.parametrize("raw", ["1280x720", "1280x720:nosuch@30", "0x720:bgr24@30"])
def test_a_wrong_description_is_wrong_usage(vsdk_command: Any, raw: str) -> None:
    done = vsdk_command("run", "-", "--raw", raw, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "--raw" in done.stderr


def test_raw_frames_of_a_file_are_read_through_standard_input(vsdk_command: Any, clip: Path) -> None:
    done = vsdk_command("run", clip, "--raw", "192x128:gray@25")
    assert done.returncode == 1
    assert "Open '-' as the source" in done.stderr


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def unread(pipe: IO[bytes]) -> int:
    """Bytes that wait in a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.parametrize("after", [0, 3])
def test_ctrl_c_while_nothing_comes(tmp_path: Path, after: int) -> None:
    events = tmp_path / "events.jsonl"
    command = [sys.executable, "-m", "vsdk", "run", "-", "--raw", "64x64:gray@25", "--jsonl", str(events), "--quiet"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=False)
    assert process.stderr is not None
    pipe = process.stdin
    assert pipe is not None
    pipe.write(bytes(64 * 64 * after + 10))
    pipe.flush()
    wait_until(lambda: unread(pipe) == 0)
    if after:
        wait_until(lambda: events.exists() and "start" in events.read_text())
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(60) == 130
        assert b"Traceback" not in process.stderr.read()
    finally:
        process.kill()
        pipe.close()
        process.stderr.close()
        process.wait()
    if after:
        assert events_of(events.read_text())[-1]["reason"] == "interrupted"
