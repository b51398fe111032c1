"""The recorder of scenes: what is in its files and its index, also after a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import live_tools
import numpy as np
import pytest
import recorder_kills
from example_tools import EXAMPLES, RATE, load_example, pictures_of, run_example

import vsdk
from vsdk.errors import SinkError


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, recorder_kills.Clip]:
    folder = tmp_path_factory.mktemp("cameras")
    return {
        name: recorder_kills.Clip(recorder_kills.write_clip(folder / f"{name}.mp4", 1500, seed))
        for seed, name in enumerate(("door", "yard"))
    }


def test_each_scene_of_each_camera_becomes_a_file(tmp_path: Path) -> None:
    cameras = {
        name: recorder_kills.Clip(recorder_kills.write_clip(tmp_path / f"{name}.mp4", 260, seed))
        for seed, name in enumerate(("door", "yard"))
    }
    sources = [f"{name}={clip.path}" for name, clip in cameras.items()]
    done = run_example("record_scenes.py", *sources, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "out").iterdir()
    counts: Counter[str] = Counter()
    for name, clip in cameras.items():
        recorder_kills.check_recording(folder / name, clip, counts)
        scenes = [line for line in done.stdout.splitlines() if line.startswith(f"{name}: Scene(")]
        lines = [json.loads(line) for line in (folder / name / "index.jsonl").read_text().splitlines()]
        assert len(lines) == len(scenes) >= 2
        for line, scene in zip(lines, scenes, strict=True):
            assert f"start_frame={line['start_frame']}, end_frame={line['end_frame']}," in scene
            assert line["whole"] is True
    assert counts["frames"] == 2 * 260
    assert counts["files under way"] == counts["unfinished lines"] == 0


def test_a_recorder_that_is_told_to_stop_finishes_its_files(
    clips: dict[str, recorder_kills.Clip], tmp_path: Path
) -> None:
    process = recorder_kills.start_recorder(tmp_path, clips)
    recorder_kills.wait_for_files(tmp_path, 2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    (folder,) = tmp_path.iterdir()
    counts: Counter[str] = Counter()
    for name, clip in clips.items():
        recorder_kills.check_recording(folder / name, clip, counts)
        *_, last = (json.loads(line) for line in (folder / name / "index.jsonl").read_text().splitlines())
        assert last["whole"] is False
    assert counts["files under way"] == counts["unfinished lines"] == 0


def test_a_live_camera_that_comes_back_is_recorded_on(tmp_path: Path) -> None:
    with live_tools.running_camera() as camera:
        command = [
            sys.executable,
            str(EXAMPLES / "record_scenes.py"),
            f"door={camera.url('tcp')}",
            "--out",
            str(tmp_path),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = iter(process.stdout)
            live = [next(line for line in lines if "state='live'" in line)]
            live_tools.wait_until(lambda: bool(list(tmp_path.glob("*/door/*.mp4"))))
            camera.drop()
            live.append(next(line for line in lines if "state='live'" in line))
            time.sleep(1)
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
        assert process.returncode == 130
    (folder,) = tmp_path.glob("*/door")
    content = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
    shown: list[int] = []
    for line in content:
        numbers = [live_tools.shown_number(picture) for picture in pictures_of(folder / line["file"])]
        assert len(numbers) == line["frames"]
        shown += numbers
    assert shown == sorted(set(shown)), "nothing twice, nothing out of order"
    first_after = int(live[1].split("frame=")[1].split(",")[0])
    assert content[-1]["end_frame"] > first_after > content[0]["start_frame"]


def test_a_recorder_that_is_killed_leaves_files_that_play_and_whole_lines(
    clips: dict[str, recorder_kills.Clip], tmp_path: Path
) -> None:
    """A handful of kills; `python tests/sdk/recorder_kills.py --kills 50` is the rest."""
    counts = recorder_kills.kill_at_random_moments(tmp_path, clips, kills=3, seed=1, longest=4)
    assert counts["kills"] == 3
    assert counts["segments"] + counts["files under way"] > 0


def test_a_recorded_file_that_ends_anywhere_plays_up_to_its_last_complete_fragment(
    clips: dict[str, recorder_kills.Clip], tmp_path: Path
) -> None:
    """Kills rarely hit the moment at which a fragment is being written; here the file is cut at all kinds of places."""
    recorder = load_example("record_scenes").SceneRecorder(tmp_path / "door", look_ahead=0)
    with vsdk.open(clips["door"].path) as source:
        for _, frame in zip(range(130), source, strict=False):
            recorder.write_frame(frame)
    recorder.close()
    whole = (tmp_path / "door" / "000000.mp4").read_bytes()
    fragments = recorder_kills.fragments_of(tmp_path / "door" / "000000.mp4")
    assert sum(fragments) == 130
    assert len(fragments) >= 3
    counts: Counter[str] = Counter()
    for size in (*np.random.default_rng(3).integers(0, len(whole), 20), 0, 7, 40, len(whole) - 1):
        path = tmp_path / "cut.mp4"
        path.write_bytes(whole[:size])
        recorder_kills.check_file_under_way(path, clips["door"], 0, counts)
    assert counts["unfinished fragments"] > 5
    assert counts["their frames"] > 500


def test_the_recorder_begins_a_file_of_the_new_size_after_a_camera_has_changed_it(tmp_path: Path) -> None:

    recorder = load_example("record_scenes").SceneRecorder(tmp_path / "door", look_ahead=2)
    sizes = [(64, 48)] * 6 + [(96, 64)] * 6
    for number, (width, height) in enumerate(sizes):
        picture = np.full((height, width, 3), number, np.uint8)
        recorder.write_frame(vsdk.Frame(picture, number, Fraction(number, RATE), number, Fraction(1, RATE), 0))
        if number == 8:
            recorder.write_event(vsdk.Scene(0, 0, 5, 0.0, 6 / RATE))
    recorder.close()
    for name, size in (("000000.mp4", (64, 48)), ("000001.mp4", (96, 64))):
        with av.open(str(tmp_path / "door" / name)) as container:
            frames = list(container.decode(video=0))
            assert [(frame.width, frame.height) for frame in frames] == [size] * 6


def test_the_recorder_overwrites_nothing(tmp_path: Path) -> None:
    recorder = load_example("record_scenes").SceneRecorder
    recorder(tmp_path / "door", look_ahead=2).close()
    with pytest.raises(SinkError, match=r"cannot write .*door: File exists"):
        recorder(tmp_path / "door", look_ahead=2)


def test_two_cameras_of_one_name_are_refused() -> None:
    done = run_example("record_scenes.py", "door=a.mp4", "door=b.mp4")
    assert done.returncode == 2
    assert "two cameras have the same name" in done.stderr


def test_the_recorder_shows_no_password_in_a_wrong_argument() -> None:
    done = run_example("record_scenes.py", "rtsp://admin:s3cr3t@10.0.0.7/main")
    assert done.returncode == 2
    assert "NAME=ADDRESS" in done.stderr
    assert "s3cr3t" not in done.stderr
