"""`vsdk run` on real files: what it writes, what it prints, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from event_lines import lines_of
from PIL import Image

from vsdk_runtimes import load_bundle

FRAMES, CUT = 60, 30


def test_every_output_is_written_and_can_be_read(clip: Path, tmp_path: Path, vsdk_command: Any) -> None:
    jsonl, sheet, video, features = (tmp_path / name for name in ("e.jsonl", "s.png", "a.mp4", "f.npz"))
    done = vsdk_command(
        "run", clip, "--jsonl", jsonl, "--sheet", sheet, "--video", video, "--features", features, "--threads", 1
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""

    events = lines_of(jsonl.read_text())
    scenes = [event for event in events if event["type"] == "scene"]
    assert [(scene["start_frame"], scene["end_frame"]) for scene in scenes] == [(0, CUT - 1), (CUT, FRAMES - 1)]
    assert scenes[1]["start"] == pytest.approx(CUT / 25, abs=1e-6)
    assert events[-1]["reason"] == "end"
    assert events[-1]["frames"] == FRAMES

    with Image.open(sheet) as picture:
        picture.load()
        assert picture.format == "PNG"
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == FRAMES
    with np.load(features) as arrays:
        assert FRAMES in {len(arrays[name]) for name in arrays.files if arrays[name].ndim == 2}


def test_the_table_shows_the_scenes_on_stderr(clip: Path, vsdk_command: Any) -> None:
    done = vsdk_command("run", clip)
    assert done.returncode == 0, done.stderr
    assert "0:00.0 - 0:01.2" in done.stderr
    assert f"{CUT} - {FRAMES - 1}" in done.stderr
    assert f"2 scenes in {FRAMES} frames" in done.stderr


def test_quiet_prints_nothing_but_the_events_asked_for(clip: Path, vsdk_command: Any) -> None:
    done = vsdk_command("run", clip, "--jsonl", "-", "--quiet")
    assert done.returncode == 0
    assert done.stderr == ""
    lines_of(done.stdout)


def test_a_folder_of_images_is_a_source(clip: Path, tmp_path: Path, vsdk_command: Any) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    with av.open(str(clip)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            frame.to_image().save(folder / f"{number:04d}.png")
    done = vsdk_command("run", folder, "--jsonl", "-", "--quiet")
    assert done.returncode == 0, done.stderr
    assert [event["start_frame"] for event in lines_of(done.stdout) if event["type"] == "scene"] == [0, CUT]


def test_no_gate_encodes_every_frame(clip: Path, vsdk_command: Any) -> None:
    gated = lines_of(vsdk_command("run", clip, "--jsonl", "-", "--quiet").stdout)[-1]
    every = lines_of(vsdk_command("run", clip, "--jsonl", "-", "--quiet", "--no-gate").stdout)[-1]
    assert every["encoded"] == FRAMES
    assert gated["encoded"] <= every["encoded"]


def test_the_precision_asked_for_is_what_runs(clip: Path, vsdk_command: Any) -> None:
    done = vsdk_command("run", clip, "--jsonl", "-", "--quiet", "--precision", "fp16", "--verify")
    assert "fp16" in lines_of(done.stdout)[0]["engine"]


def _hear_interrupts() -> None:
    """A shell starts what it runs in the background with SIGINT ignored, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupted_run(clip: Path, jsonl: Path, number: signal.Signals) -> subprocess.Popen[str]:
    """Start a run, wait until it has reported a scene, send the signal, wait for the end."""
    command = [sys.executable, "-m", "vsdk", "run", str(clip), "--jsonl", str(jsonl), "--no-gate", "--threads", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=_hear_interrupts)
    deadline = time.monotonic() + 60
    while not (jsonl.exists() and jsonl.read_text().count("\n") >= 2):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no scene within a minute"
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=20)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_with_an_end_line(long_clip: Path, tmp_path: Path, number: signal.Signals) -> None:
    jsonl = tmp_path / "events.jsonl"
    process = interrupted_run(long_clip, jsonl, number)
    assert process.returncode == 130
    end = lines_of(jsonl.read_text())[-1]
    assert end["reason"] == "interrupted"
    assert 100 < end["frames"] < 6000


def test_a_killed_run_leaves_whole_lines(long_clip: Path, tmp_path: Path) -> None:
    jsonl = tmp_path / "events.jsonl"
    process = interrupted_run(long_clip, jsonl, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    text = jsonl.read_text()
    assert text.endswith("\n")
    assert [json.loads(line)["type"] for line in text.splitlines()][:2] == ["start", "scene"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_an_error_that_names_the_file(clip: Path, vsdk_command: Any) -> None:
    done = vsdk_command("run", clip, "--jsonl", "/dev/full")
    assert done.returncode == 1
    assert "/dev/full" in done.stderr
    assert "space" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_standard_output_is_an_error(clip: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "vsdk", "run", str(clip), "--jsonl", "-", "--quiet"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "standard output" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_seen_enough_is_no_reason_to_complain(long_clip: Path) -> None:
    command = [sys.executable, "-m", "vsdk", "run", str(long_clip), "--jsonl", "-", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["type"] == "start"
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "missing.mp4"], "missing.mp4"),
        (["run", "CLIP", "--bundle", "no-such-bundle"], "no-such-bundle"),
        (["run", "CLIP", "--device", "cuda:7"], "CUDA"),
        (["run", "CLIP", "--device", "toaster"], "toaster"),
        (["run", "CLIP", "--engine", "abacus"], "abacus"),
        (["run", "CLIP", "--jsonl", "no/such/folder/events.jsonl"], "no/such/folder"),
        (["run", "CLIP", "--sheet", "no/such/folder/scenes.png"], "no/such/folder"),
        (["run", "CLIP", "--video", "no/such/folder/annotated.mp4"], "no/such/folder"),
        (["run", "CLIP", "--features", "no/such/folder/features.npz"], "no/such/folder"),
    ],
)
def test_an_error_is_a_sentence_with_a_hint(
    arguments: list[str], says: str, clip: Path, tmp_path: Path, vsdk_command: Any
) -> None:
    done = vsdk_command(*[str(clip) if item == "CLIP" else item for item in arguments], cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "error:" in done.stderr
    assert "hint:" in done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_source_leaves_earlier_results_alone(tmp_path: Path, vsdk_command: Any) -> None:
    jsonl = tmp_path / "events.jsonl"
    jsonl.write_text("what an earlier run wrote\n")
    assert vsdk_command("run", tmp_path / "missing.mp4", "--jsonl", jsonl).returncode == 1
    assert jsonl.read_text() == "what an earlier run wrote\n"


def test_a_file_that_is_no_video_is_refused(tmp_path: Path, vsdk_command: Any) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("not a video\n" * 100)
    done = vsdk_command("run", path)
    assert done.returncode == 1
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_bundle_is_refused(clip: Path, tmp_path: Path, vsdk_command: Any) -> None:
    source = load_bundle(Path(str(files("vsdk"))) / "bundles" / "nano").folder
    bundle = tmp_path / "bundle"
    for path in source.rglob("*"):
        if path.is_file():
            copy = bundle / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    graph = bundle / "encoder" / "fp32.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 0xFF
    graph.write_bytes(content)
    done = vsdk_command("run", clip, "--bundle", bundle)
    assert done.returncode == 1
    assert "fp32.onnx" in done.stderr
    assert "hint:" in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path, vsdk_command: Any) -> None:
    done = vsdk_command("--debug", "run", tmp_path / "missing.mp4")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "CLIP", "--threads", "0"],
        ["run", "CLIP", "--precision", "fp8"],
        ["run", "CLIP", "--no-such-option"],
        ["run", "CLIP", "--video", "CLIP"],
        ["run", "CLIP", "--jsonl", "same", "--sheet", "same"],
        ["no-such-command"],
    ],
)
def test_wrong_usage_exits_with_two(arguments: list[str], clip: Path, tmp_path: Path, vsdk_command: Any) -> None:
    size = clip.stat().st_size
    done = vsdk_command(*[str(clip) if item == "CLIP" else item for item in arguments], cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert clip.stat().st_size == size
    assert list(tmp_path.iterdir()) == []
