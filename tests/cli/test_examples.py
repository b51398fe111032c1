"""The README's program and every example run as they are written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import color_tracker
from color_tracker import FRAMES, GONE, red_box

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CUT_SECONDS = 30 / 25


def run_example(name: str, *arguments: str | Path, cwd: Path) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tried() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_examples*.py"))
    tried = set(re.findall(r'run_example\(\s*"(\w+\.py)"', text))
    assert {path.name for path in EXAMPLES.glob("*.py")} == tried


def test_the_program_in_the_readme_is_the_five_line_example() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert (EXAMPLES / "five_lines.py").read_text(encoding="utf-8") in blocks


def test_five_lines(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "video.mp4").symlink_to(clip)
    printed = run_example("five_lines.py", cwd=tmp_path).splitlines()
    lines = [line for line in printed if not line.startswith("MemoryUpdate(")]
    assert [line.split("(")[0] for line in lines] == ["Start", "Scene", "Scene", "End"]
    assert "start_frame=30" in lines[2]


def test_own_loop(clip: Path, tmp_path: Path) -> None:
    lines = run_example("own_loop.py", clip, cwd=tmp_path).splitlines()
    assert lines == ["scene 0: 0.00 s to 1.20 s", "scene 1: 1.20 s to 2.40 s"]


def test_search_by_picture(clip: Path, tmp_path: Path) -> None:
    with av.open(str(clip)) as container:
        list(container.decode(video=0))[45].to_image().save(tmp_path / "picture.png")
    lines = run_example("search_by_picture.py", clip, tmp_path / "picture.png", cwd=tmp_path).splitlines()
    assert lines[0].startswith("scene 1 from 1.20 s")
    scores = [float(line.rsplit(maxsplit=1)[1]) for line in lines]
    assert scores == sorted(scores, reverse=True)


def test_scenes_of_features(clip: Path, tmp_path: Path, vsdk_command: Any) -> None:
    done = vsdk_command("run", clip, "--features", tmp_path / "features.npz", "--no-gate", "--quiet")
    assert done.returncode == 0, done.stderr
    out = run_example("scenes_of_features.py", tmp_path / "features.npz", cwd=tmp_path)
    assert out.startswith(f"a new scene starts at {CUT_SECONDS:.2f} s")
    assert out.count("\n") == 1


def test_track_in_a_loop(tmp_path: Path) -> None:
    squares = color_tracker.write_color_clip(tmp_path / "squares.mp4")
    bundle = color_tracker.write_color_tracker(tmp_path / "bundle")
    lines = run_example("track_in_a_loop.py", squares, "20,30,60,70", bundle, cwd=tmp_path).splitlines()
    assert len(lines) == FRAMES
    for frame, line in enumerate(lines):
        x0, y0, x1, y1 = red_box(frame)
        assert line.startswith(f"frame {frame}: ")
        assert ("out of sight" in line) == (frame in GONE)
        if frame not in GONE:
            steering = (x0 + x1) / color_tracker.WIDTH - 1
            assert line.endswith(
                f"box ({x0}, {y0}, {x1}, {y1}), centre ({(x0 + x1) / 2:.0f}, 50), steering {steering:+.2f}"
            )


def test_render_demo_clip(tmp_path: Path, vsdk_command: Any) -> None:
    """The clip of `make demo` is a real H.264 file of several scenes, and they are found."""
    run_example("render_demo_clip.py", "--out", tmp_path / "clip.mp4", "--size", "256x144", cwd=tmp_path)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
    done = vsdk_command("run", tmp_path / "clip.mp4", "--jsonl", "-", "--quiet")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(event["type"] == "scene" for event in events) >= 4
