"""`vsdk run` with several sources: what it writes, what it refuses, and how it ends."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from event_lines import lines_of, lines_of_streams
from PIL import Image
from typer.testing import CliRunner

from vsdk.cli.app import app

FRAMES, CUT = 60, 30


@pytest.fixture(scope="module")
def clips(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two clips of two scenes."""
    folder = tmp_path_factory.mktemp("several")
    return [Path(shutil.copy(clip, folder / name)) for name in ("a.mp4", "b.mp4")]


def test_lines_of_several_streams_name_theirs(clips: list[Path], tmp_path: Path, vsdk_command: Any) -> None:
    jsonl = tmp_path / "events.jsonl"
    done = vsdk_command("run", *clips, "--jsonl", jsonl, "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    events = lines_of_streams(jsonl.read_text())
    assert set(events) == {"a.mp4", "b.mp4"}
    for found in events.values():
        scenes = [(event["start_frame"], event["end_frame"]) for event in found if event["type"] == "scene"]
        assert scenes == [(0, CUT - 1), (CUT, FRAMES - 1)]
        assert (found[-1]["reason"], found[-1]["frames"]) == ("end", FRAMES)
    for said in ("a.mp4", "b.mp4", str(FRAMES), "events.jsonl"):
        assert said in done.stderr


def test_each_stream_has_its_own_files_where_their_names_say_so(
    clips: list[Path], tmp_path: Path, vsdk_command: Any
) -> None:
    wanted = {"--jsonl": "jsonl", "--sheet": "png", "--video": "mp4", "--features": "npz", "--memory-state": "memory"}
    outputs = [text for option, suffix in wanted.items() for text in (option, f"out {{stream}}.{suffix}")]
    names = ["--name", "front door", "--name", "yard"]
    done = vsdk_command("run", *clips, *names, *outputs, "--quiet", "--threads", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    stems = ("out front-door", "out yard")
    assert {path.name for path in tmp_path.iterdir()} == {f"{stem}.{end}" for stem in stems for end in wanted.values()}
    for stem in stems:
        end = lines_of((tmp_path / f"{stem}.jsonl").read_text())[-1]
        assert end["frames"] == FRAMES
        with Image.open(tmp_path / f"{stem}.png") as sheet:
            sheet.load()
        with av.open(str(tmp_path / f"{stem}.mp4")) as container:
            assert sum(1 for _ in container.decode(video=0)) == FRAMES
        with np.load(tmp_path / f"{stem}.npz") as arrays:
            assert len(arrays["frame"]) == FRAMES


def test_one_that_fails_does_not_end_the_others(clips: list[Path], tmp_path: Path, vsdk_command: Any) -> None:
    numbered = tmp_path / "pictures"
    numbered.mkdir()
    for number in range(3):
        size = (96, 64) if number < 2 else (64, 96)
        Image.new("RGB", size, (number * 60, 90, 30)).save(numbered / f"{number}.png")
    done = vsdk_command("run", numbered, clips[0], "--jsonl", "-", "--threads", 1)
    assert done.returncode == 1
    events = lines_of_streams(done.stdout)
    ends = {name: found[-1]["reason"] for name, found in events.items()}
    assert sorted(ends.values()) == ["end", "error"]
    assert ends["a.mp4"] == "end"
    assert "error:" in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_source_leaves_earlier_results_alone(clips: list[Path], tmp_path: Path, vsdk_command: Any) -> None:
    jsonl = tmp_path / "events.jsonl"
    jsonl.write_text("what an earlier run wrote\n")
    done = vsdk_command("run", clips[0], tmp_path / "missing.mp4", "--jsonl", jsonl)
    assert done.returncode == 1
    assert "missing.mp4" in done.stderr
    assert jsonl.read_text() == "what an earlier run wrote\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--sheet", "scenes.png"], "{stream}.png"),
        (["--video", "annotated.mp4"], "{stream}.mp4"),
        (["--features", "cls.npz"], "{stream}.npz"),
        (["--memory-state", "camera.memory"], "{stream}.memory"),
        (["--name", "door"], "1 names for 2 sources"),
        (["--name", "door", "--name", "door"], "two sources have the same name"),
        (["-", "-"], "standard input can be read only once"),
        (["--jsonl", "a.mp4"], "a.mp4"),
        (["--max-fps", "5"], "no source is live"),
        (["--raw", "64x64:rgb24@25"], "standard input"),
        (["--jsonl", "{stream}.jsonl", "--sheet", "{stream}.jsonl"], "another output"),
        (["--name", "a b", "--name", "a?b", "--jsonl", "{stream}.jsonl"], "another output"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_meant_is_refused(
    arguments: list[str], says: str, clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [clip.stat().st_size for clip in clips]
    monkeypatch.chdir(clips[0].parent)
    done = CliRunner().invoke(app, ["run", *(clip.name for clip in clips), *arguments], env={"COLUMNS": "300"})
    assert done.exit_code == 2, done.output
    assert says in done.output
    assert [clip.stat().st_size for clip in clips] == sizes
    assert {path.name for path in clips[0].parent.iterdir()} == {clip.name for clip in clips}


def test_an_interrupted_run_ends_every_stream(long_clip: Path, tmp_path: Path) -> None:
    jsonl = tmp_path / "events.jsonl"
    names = ["--name", "one", "--name", "two"]
    command = [sys.executable, "-m", "vsdk", "run", long_clip, long_clip, *names, "--jsonl", jsonl, "--threads", "1"]
    process = subprocess.Popen(
        list(map(str, command)),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 100
    while not (jsonl.exists() and jsonl.read_text().count('"type":"scene"') >= 2):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no scene"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert [events[-1]["reason"] for events in lines_of_streams(jsonl.read_text()).values()] == ["interrupted"] * 2
