"""`vsdk run` on live sources: what it writes, what it shows, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from live_tools import PATIENCE, TestCamera, running_camera

Events = list[dict[str, Any]]


@pytest.fixture(scope="module")
def shared_camera() -> Iterator[TestCamera]:
    with running_camera() as camera:
        yield camera


@pytest.fixture
def camera(shared_camera: TestCamera) -> TestCamera:
    shared_camera.recover()
    return shared_camera


def as_a_shell_in_the_foreground() -> None:
    """A shell starts what it runs in the background with SIGINT ignored, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments: object, stderr: Any = subprocess.PIPE) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vsdk", "run", *map(str, arguments), "--stats-every", "0.5", "--no-memory"]
    return subprocess.Popen(command, stderr=stderr, text=True, preexec_fn=as_a_shell_in_the_foreground)


def events_of(path: Path) -> Events:
    """The whole lines so far."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def wait_for(path: Path, condition: Callable[[Events], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition(events_of(path)):
        assert time.monotonic() < deadline, events_of(path)
        time.sleep(0.05)


def live(events: Events) -> bool:
    return any(event["type"] == "stats" and event["frames"] >= 5 for event in events)


def test_a_camera_that_comes_back_and_is_interrupted(camera: TestCamera, tmp_path: Path) -> None:
    jsonl = tmp_path / "events.jsonl"
    process = start(camera.url("rtsp", "/locked", credentials=True), "--jsonl", jsonl)
    wait_for(jsonl, live)
    camera.die()
    wait_for(jsonl, lambda events: any(event.get("attempt", 0) > 1 for event in events))
    camera.revive()
    wait_for(jsonl, lambda events: any(event.get("generation", 0) > 0 for event in events))
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    events = events_of(jsonl)
    validator = jsonschema.Draft202012Validator(json.loads(files("vsdk").joinpath("events.schema.json").read_text()))
    for event in events:
        validator.validate(event)
    assert [event["type"] for event in events[:3]] == ["start", "source", "source"]
    assert [event["state"] for event in events[1:3]] == ["connecting", "live"]
    assert events[-2]["type"] == "stats"
    assert (events[-1]["type"], events[-1]["reason"]) == ("end", "interrupted")
    assert events[-1]["frames"] == events[-2]["frames"] >= 5
    assert events[-2]["latency_p95"] is None or events[-2]["latency_p95"] > 0
    name = f"rtsp://***@127.0.0.1:{camera.ports['rtsp']}/locked"
    assert events[0]["source"] == name
    assert f"{name}: connecting" in told
    assert "reconnecting; Connection refused; try 2 in" in told
    for secret in ("viewer", "s3cr3t", "p%40ss", "p@ss"):
        assert secret not in told + jsonl.read_text()


def test_a_silent_camera_can_be_interrupted_too(camera: TestCamera, tmp_path: Path) -> None:
    camera.set("silent", True)
    jsonl = tmp_path / "events.jsonl"
    process = start(camera.url("http"), "--jsonl", jsonl)
    wait_for(jsonl, lambda events: any(event["type"] == "source" for event in events))
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, told
    assert events_of(jsonl)[-1]["reason"] == "interrupted"


def test_without_reconnecting_the_end_is_the_end(camera: TestCamera, tmp_path: Path) -> None:
    jsonl = tmp_path / "events.jsonl"
    process = start(camera.url("tcp"), "--jsonl", jsonl, "--no-reconnect")
    wait_for(jsonl, live)
    camera.drop()
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, told
    events = events_of(jsonl)
    assert events[-1]["reason"] == "end"
    assert [event["state"] for event in events if event["type"] == "source"][-1] == "ended"
    assert [event["type"] for event in events if event["type"] == "scene"] == ["scene"]


def test_a_wrong_password_is_an_error_at_once(camera: TestCamera, tmp_path: Path) -> None:
    jsonl = tmp_path / "events.jsonl"
    url = camera.url("rtsp", "/locked", credentials=True, password="wr0ng")
    process = start(url, "--jsonl", jsonl)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "401 Unauthorized" in told
    assert "user name and password" in told
    assert "wr0ng" not in told + jsonl.read_text()
    assert events_of(jsonl)[-1]["reason"] == "error"


def test_giving_up_is_an_error(tmp_path: Path) -> None:
    process = start("tcp://127.0.0.1:1", "--reconnect-for", "3", "--jsonl", tmp_path / "events.jsonl")
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "Connection refused" in told
    states = [event["state"] for event in events_of(tmp_path / "events.jsonl") if event["type"] == "source"]
    assert states[0] == "connecting"
    assert states[-1] == "ended"
    assert set(states[1:-1]) == {"reconnecting"}


@pytest.mark.parametrize(
    ("source", "options", "why"),
    [
        ("rtsp://127.0.0.1/x", ["--no-reconnect", "--reconnect-for", "9"], "exclude each other"),
        ("rtsp://127.0.0.1/x", ["--connect-timeout", "inf"], "finite"),
        ("CLIP", ["--transport", "udp"], "is not live"),
    ],
)
def test_what_cannot_be_meant(clip: Path, vsdk_command: Any, source: str, options: list[str], why: str) -> None:
    done = vsdk_command("run", clip if source == "CLIP" else source, *options)
    assert done.returncode == 2
    assert why in re.sub(r"[│\s]+", " ", done.stderr)


def test_an_address_that_is_not_acceptable(vsdk_command: Any) -> None:
    done = vsdk_command("run", "rtsp://admin:s3cr3t/x@10.0.0.7/main")
    assert done.returncode == 1
    assert "percent codes" in done.stderr
    assert "s3cr3t" not in done.stderr


def test_a_terminal_shows_a_line_that_is_kept_up_to_date(camera: TestCamera, tmp_path: Path) -> None:
    jsonl = tmp_path / "events.jsonl"
    ours, theirs = pty.openpty()
    process = start(camera.url("tcp"), "--jsonl", jsonl, stderr=theirs)
    os.close(theirs)
    wait_for(jsonl, live)
    shown = b""
    deadline = time.monotonic() + PATIENCE
    while b"latency p50" not in shown and time.monotonic() < deadline:
        shown += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    while process.poll() is None:  # nobody may block on a terminal that is not read
        try:
            shown += os.read(ours, 65536)
        except OSError:
            process.wait(PATIENCE)
    os.close(ours)
    text = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", shown).decode()
    assert process.returncode == 130
    for part in ("live", "frames/s", "dropped", "latency p50", "p95", "0 scenes"):
        assert part in text
