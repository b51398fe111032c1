"""JSON lines: whole lines at every moment, on files, pipes and full disks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from vsdk.events import End, Event, Scene, Start, from_dict
from vsdk.sinks.jsonl import JsonLines
from vsdk_runtimes.errors import ClosedError, SinkError

EVENTS: list[Event] = [
    Start("été 夏.mp4", "nano", "0" * 64, "onnxruntime 1.32 on cpu, fp32"),
    Scene(0, 0, 29, 0.0, 1.2, 0.75),
    Scene(1, 30, 75, 1.2, 3.04),
    End("error", 76, 40, 2, 1, 'the "camera"\nis gone'),
]


def test_each_event_is_a_line_of_the_schema_as_soon_as_it_is_written(tmp_path: Path) -> None:
    schema = Draft202012Validator(json.loads(resources.files("vsdk").joinpath("events.schema.json").read_text("utf-8")))
    path = tmp_path / "events.jsonl"
    with JsonLines(path) as sink:
        for count, event in enumerate(EVENTS, 1):
            sink.write_event(event)
            lines = path.read_text("utf-8").split("\n")
            assert len(lines) == count + 1
            assert lines[-1] == ""
    for line, event in zip(path.read_text("utf-8").splitlines(), EVENTS, strict=True):
        schema.validate(json.loads(line))
        assert from_dict(json.loads(line)) == event


def test_a_file_name_that_is_not_utf8_is_written_as_an_escape(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    with JsonLines(tmp_path / "events.jsonl") as sink:
        sink.write_event(Start(name, "nano", "", ""))
    content = json.loads((tmp_path / "events.jsonl").read_text("utf-8"))
    assert os.fsencode(content["source"]) == b"caf\xe9.mp4"


def test_streams_that_share_a_file_name_themselves(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    file = JsonLines(path)
    door, yard = file.of("door"), file.of("yard")
    for event in EVENTS:
        door.write_event(event)
        yard.write_event(event)
    door.close()
    yard.write_event(EVENTS[-1])
    file.close()
    lines = path.read_text("utf-8").splitlines()
    assert [line.split(",")[0] for line in lines[:2]] == ['{"stream":"door"', '{"stream":"yard"']
    contents = [json.loads(line) for line in lines]
    assert [content["stream"] for content in contents] == [*["door", "yard"] * 4, "yard"]
    assert [from_dict(content) for content in contents[::2]] == [*EVENTS, EVENTS[-1]]
    with pytest.raises(ClosedError):
        yard.write_event(EVENTS[0])


def test_a_dash_is_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    print("before")
    with JsonLines("-") as sink:
        for event in EVENTS:
            sink.write_event(event)
    print("after")
    first, *lines, last = capfd.readouterr().out.splitlines()
    assert (first, last) == ("before", "after")
    assert [from_dict(json.loads(line)) for line in lines] == EVENTS


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_a_full_device_is_named() -> None:
    with JsonLines("/dev/full") as sink, pytest.raises(SinkError, match="/dev/full: No space left") as caught:
        sink.write_event(EVENTS[0])
    assert "Free some space" in caught.value.hint
    assert isinstance(caught.value.__cause__, OSError)


def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path) -> None:
    """With room for one and a half lines, the file holds one; when there is room again, the next line follows it."""
    path = tmp_path / "events.jsonl"
    code = f"""
import os, resource
from vsdk.events import Scene
from vsdk.sinks.jsonl import JsonLines
from vsdk_runtimes.errors import SinkError
sink = JsonLines({str(path)!r})
sink.write_event(Scene(0, 0, 9, 0.0, 1.0))
size = os.path.getsize({str(path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (size + size // 2, resource.RLIM_INFINITY))
try:
    sink.write_event(Scene(1, 10, 19, 1.0, 2.0))
except SinkError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sink.write_event(Scene(2, 20, 29, 2.0, 3.0))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "File too large" in result.stdout
    assert [json.loads(line)["index"] for line in path.read_text().splitlines()] == [0, 2]


def test_a_reader_that_has_gone_is_an_error_without_noise() -> None:
    code = """
from vsdk.events import Scene
from vsdk.sinks.jsonl import JsonLines
from vsdk_runtimes.errors import SinkError
import sys
sys.stdin.read()  # until the reader has gone
try:
    JsonLines("-").write_event(Scene(0, 0, 9, 0.0, 1.0))
except SinkError as error:
    print(error, file=sys.stderr)
    sys.exit(1)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        process.stdout.close()
        process.stdin.close()
        errors = process.stderr.read()
    assert process.returncode == 1
    assert errors.splitlines() == [
        "cannot write standard output: Broken pipe",
        "The program that reads the pipe has ended.",
    ]
