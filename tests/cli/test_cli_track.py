"""`vsdk track` on real files, with a tracker of which it is known what it finds."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import av
import bundles
import color_tracker
import jsonschema
import numpy as np
import pytest
from color_tracker import BLUE_BOX, FRAMES, GONE, HEIGHT, WIDTH, red_box
from PIL import Image
from pycocotools import mask as coco

# pycocotools says it itself, of its own arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RED, BLUE = "20,30,60,70", ",".join(map(str, BLUE_BOX))
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return color_tracker.write_color_tracker(tmp_path_factory.mktemp("tracker") / "bundle")


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A red square that moves, and a blue one that does not."""
    return color_tracker.write_color_clip(tmp_path_factory.mktemp("clip") / "squares.mp4")


@pytest.fixture(scope="module")
def long_squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Too long to be over before a test interrupts it."""
    return color_tracker.write_color_clip(tmp_path_factory.mktemp("clip") / "long.mp4", 2000)


@pytest.fixture
def track(bundle: Path, vsdk_command: Any) -> Run:
    def run(source: Path, *arguments: str | Path | int) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = vsdk_command("track", source, "--bundle", bundle, *arguments)
        return done

    return run


def events_in(text: str) -> list[dict[str, Any]]:
    """Events of JSON lines; each is valid, the first is `start`, the last is `end`."""
    validator = jsonschema.Draft202012Validator(json.loads(files("vsdk").joinpath("events.schema.json").read_text()))
    events = [json.loads(line) for line in text.splitlines()]
    for event in events:
        validator.validate(event)
    assert events[0]["type"] == "start"
    assert events[-1]["type"] == "end"
    assert {event["type"] for event in events[1:-1]} <= {"mask"}
    return events


def boxes_of(events: list[dict[str, Any]], number: int) -> dict[int, list[float] | None]:
    return {event["frame"]: event["box"] for event in events[1:-1] if event["object"] == number}


def test_two_boxes_are_followed_and_everything_is_written(track: Run, squares: Path, tmp_path: Path) -> None:
    jsonl, video = tmp_path / "masks.jsonl", tmp_path / "masks.mp4"
    done = track(squares, "--box", RED, "--box", BLUE, "--jsonl", jsonl, "--video", video, "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""

    events = events_in(jsonl.read_text())
    assert "fp32" in events[0]["engine"]
    assert events[-1] | {"reason": "end", "frames": FRAMES, "encoded": FRAMES, "scenes": 0} == events[-1]
    assert [(event["frame"], event["object"]) for event in events[1:-1]] == [
        (frame, number) for frame in range(FRAMES) for number in (1, 2)
    ]
    red, blue = boxes_of(events, 1), boxes_of(events, 2)
    for frame in range(FRAMES):
        assert blue[frame] == list(BLUE_BOX)
        assert red[frame] == (None if frame in GONE else list(red_box(frame)))
    for event in events[1:-1]:
        assert event["time"] == pytest.approx(event["frame"] / 25, abs=1e-6)
        mask = coco.decode(event["rle"])
        assert mask.shape == (HEIGHT, WIDTH)
        assert bool(mask.any()) == event["present"]

    with av.open(str(video)) as container:
        pictures = [np.asarray(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert len(pictures) == FRAMES

    assert "object" in done.stderr
    assert str(FRAMES - len(GONE)) in done.stderr
    assert f"2 objects followed through {FRAMES} of {FRAMES} frames" in done.stderr
    assert f"written: {jsonl}" in done.stderr


def test_a_click_will_do(track: Run, squares: Path) -> None:
    done = track(squares, "--point", "40,50", "--negative", "150,100", "--jsonl", "-", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert boxes_of(events_in(done.stdout), 1)[3] == list(red_box(3))


def test_points_belong_to_the_only_box(track: Run, squares: Path) -> None:
    """The hand-made tracker looks at the mean of corners and clicks, which here lies on the other square."""
    done = track(squares, "--box", "150,90,156,96", "--point", "155,100", "--jsonl", "-", "--quiet")
    events = events_in(done.stdout)
    assert {event["object"] for event in events[1:-1]} == {1}
    assert boxes_of(events, 1)[0] == list(BLUE_BOX)


def test_masks_come_after_boxes(track: Run, squares: Path, tmp_path: Path) -> None:
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[30:70, 20:60] = 1
    palette = Image.fromarray(pixels, mode="P")
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(tmp_path / "palette.png")
    Image.fromarray(pixels * 255).convert("RGB").save(tmp_path / "rgb.png")
    for name in ("palette.png", "rgb.png"):
        done = track(squares, "--mask", tmp_path / name, "--box", BLUE, "--jsonl", "-", "--quiet")
        assert done.returncode == 0, done.stderr
        events = events_in(done.stdout)
        assert boxes_of(events, 1)[5] == list(BLUE_BOX)
        assert boxes_of(events, 2)[5] == list(red_box(5))


def test_tracking_begins_at_the_frame_that_is_prompted(track: Run, squares: Path, tmp_path: Path) -> None:
    video, at = tmp_path / "masks.mp4", 16
    box = ",".join(map(str, red_box(at)))
    done = track(squares, "--box", box, "--at", at, "--jsonl", "-", "--video", video, "--quiet")
    events = events_in(done.stdout)
    assert boxes_of(events, 1) == {frame: list(red_box(frame)) for frame in range(at, FRAMES)}
    assert (events[-1]["frames"], events[-1]["encoded"]) == (FRAMES, FRAMES - at)
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == FRAMES


def test_a_folder_of_images_is_a_source(track: Run, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        Image.fromarray(color_tracker.picture(number)).save(folder / f"{number}.png")
    done = track(folder, "--box", RED, "--jsonl", "-", "--quiet")
    assert done.returncode == 0, done.stderr
    assert boxes_of(events_in(done.stdout), 1) == {frame: list(red_box(frame)) for frame in range(6)}


def test_objects_are_saved_and_gone_on_with(track: Run, squares: Path, tmp_path: Path) -> None:
    state = tmp_path / "objects.tracker"
    first = track(squares, "--box", RED, "--state", state, "--quiet")
    assert first.returncode == 0, first.stderr
    again = track(squares, "--state", state, "--jsonl", "-", "--quiet")
    assert again.returncode == 0, again.stderr
    assert boxes_of(events_in(again.stdout), 1)[5] == list(red_box(5))

    both = track(squares, "--box", RED, "--state", state)
    assert both.returncode == 2
    assert "leave out the prompts" in flat(both.stderr)


def test_a_damaged_state_leaves_the_outputs_as_they_were(track: Run, squares: Path, tmp_path: Path) -> None:
    state, jsonl = tmp_path / "objects.tracker", tmp_path / "masks.jsonl"
    state.write_bytes(b"nothing of the kind")
    jsonl.write_text("of an earlier run")
    done = track(squares, "--state", state, "--jsonl", jsonl)
    assert done.returncode == 1
    assert str(state) in done.stderr
    assert jsonl.read_text() == "of an earlier run"


def flat(text: str) -> str:
    """What a box on the terminal says, without its frame and line breaks."""
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing to follow"),
        (["--state", "missing.tracker"], "does not exist yet"),
        (["--box", "1,2,3"], "X0,Y0,X1,Y1"),
        (["--box", "1,2,3,x"], "X0,Y0,X1,Y1"),
        (["--box", "1,2,3,inf"], "X0,Y0,X1,Y1"),
        (["--box", "30,2,10,9"], "top left comes first"),
        (["--point", "1"], "X,Y"),
        (["--negative", "1,1"], "needs a --point"),
        (["--box", RED, "--box", BLUE, "--point", "9,9"], "points belong to one object"),
        (["--mask", "mask.png", "--point", "9,9"], "points belong to one object"),
        (["--box", RED, "--at", "-1"], "--at"),
        (["--box", RED, "--jsonl", "same", "--video", "same"], "another output"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage(track: Run, squares: Path, arguments: list[str], says: str) -> None:
    done = track(squares, *arguments)
    assert done.returncode == 2
    assert says in flat(done.stderr)


def test_a_box_outside_of_the_frame(track: Run, squares: Path, tmp_path: Path) -> None:
    jsonl = tmp_path / "masks.jsonl"
    done = track(squares, "--box", "100,30,300,70", "--jsonl", jsonl)
    assert done.returncode == 1
    assert "outside of the frame of 192x128" in done.stderr
    assert "hint:" in done.stderr
    end = events_in(jsonl.read_text())[-1]
    assert end["reason"] == "error"
    assert "outside" in end["message"]


def test_a_frame_beyond_the_end(track: Run, squares: Path) -> None:
    done = track(squares, "--box", RED, "--at", FRAMES, "--jsonl", "-")
    assert done.returncode == 1
    assert f"{FRAMES} frames" in done.stderr
    assert f"the last one is {FRAMES - 1}" in done.stderr
    assert events_in(done.stdout)[-1]["reason"] == "error"


@pytest.mark.parametrize("content", [None, b"no picture", "black", "small"])
def test_a_mask_that_is_none(track: Run, squares: Path, tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "mask.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        size = (WIDTH, HEIGHT) if content == "black" else (10, 10)
        Image.new("L", size, 0 if content == "black" else 255).save(path)
    done = track(squares, "--mask", path)
    assert done.returncode == 1
    assert "hint:" in done.stderr
    assert "mask" in done.stderr


def test_a_bundle_without_a_tracker_says_so(squares: Path, tmp_path: Path, vsdk_command: Any) -> None:
    folder = tmp_path / "encoder"
    encoder = bundles.component(
        "encoder", {"fp32": "encoder/fp32.onnx"}, bundles.ENCODER_INPUTS, bundles.ENCODER_OUTPUTS
    )
    bundles.write_bundle(folder, {"encoder": encoder}, {"encoder/fp32.onnx": bundles.encoder_graph()})
    done = vsdk_command("track", squares, "--bundle", folder, "--box", RED)
    assert done.returncode == 1
    assert "tracker" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_with_an_end_line(
    bundle: Path, long_squares: Path, tmp_path: Path, number: signal.Signals
) -> None:
    jsonl, state = tmp_path / "masks.jsonl", tmp_path / "objects.tracker"
    command = [sys.executable, "-m", "vsdk", "track", str(long_squares), "--bundle", str(bundle), "--box", RED]
    process = subprocess.Popen(
        [*command, "--jsonl", str(jsonl), "--state", str(state), "--threads", "1"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores it
    )
    deadline = time.monotonic() + 60
    while not (jsonl.exists() and jsonl.read_text().count("\n") >= 20):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 130
    end = events_in(jsonl.read_text())[-1]
    assert end["reason"] == "interrupted"
    assert 19 <= end["frames"] < 2000
    assert state.exists(), "the objects are saved nevertheless"
