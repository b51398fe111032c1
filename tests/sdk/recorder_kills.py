"""Kills the example that records cameras at random moments, and looks at what it left.

    python tests/sdk/recorder_kills.py --kills 50

Two cameras are two clips whose pictures carry their numbers. After each kill, every file that the index names must hold
the frames that its line says, each at its time; the file that was under way must play up to its last complete fragment;
and every line must be whole, but for a beginning at the end. It ends with an AssertionError where that is not so.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from video_tools import write_video

from vsdk.frame import Image
from vsdk.sinks.video_writer import cut_to_whole_fragments

EXAMPLE = Path(__file__).parents[2] / "examples" / "record_scenes.py"
BITS, STRIP = 12, 32
"""The number is shown as so many columns, in so many rows at the bottom."""
WIDTH, HEIGHT, RATE = 192, 128, 25
MOST_DIFFERENT = 8
"""Mean difference of two grey values that two encodings may make; pictures of other scenes differ by 50 and more."""

Grey = npt.NDArray[np.uint8]


def picture_of(number: int, scene: int) -> Image:
    """A picture of a scene, coarse or fine blocks that move, with the number of the frame below."""
    picture = np.roll(_texture(scene), number % 8, axis=1)[:HEIGHT, :WIDTH].copy()
    shown = number >> (np.arange(WIDTH) * BITS // WIDTH) & 1
    picture[-STRIP:] = np.where(shown, 235, 20).astype(np.uint8)[None, :, None]
    return picture


@cache
def _texture(scene: int) -> Image:
    size = (32, 8, 16)[scene % 3]
    blocks = np.random.default_rng(scene).integers(0, 256, (256 // size, 256 // size, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((size, size, 1), np.uint8))


def number_of(grey: Grey) -> int:
    """The number that a picture shows."""
    values = grey[-STRIP // 2, (2 * np.arange(BITS) + 1) * WIDTH // (2 * BITS)].astype(int)
    assert np.all((values < 70) | (values > 185)), f"not a picture of the clip: {values}"
    return int(((values > 128).astype(int) << np.arange(BITS)).sum())


def write_clip(path: Path, frames: int, seed: int) -> Path:
    """A clip of scenes of 30 to 130 frames."""
    chance = random.Random(seed)
    scenes: list[int] = []
    while len(scenes) < frames:
        scenes += [seed * 1000 + (scenes[-1] % 1000 + 1 if scenes else 0)] * chance.randint(30, 130)
    pictures = (picture_of(number, scene) for number, scene in enumerate(scenes[:frames]))
    return write_video(path, pictures, rate=RATE, options={"preset": "ultrafast"})


@dataclass
class Clip:
    """What a camera shows.

    Attributes:
        path: The file.
        pictures: Its frames, grey.
    """

    path: Path
    pictures: list[Grey] = field(init=False)

    def __post_init__(self) -> None:
        self.pictures = [grey for grey, _ in _decoded(self.path)]


def check_recording(folder: Path, clip: Clip, counts: Counter[str]) -> None:
    """Look at all that was recorded of one camera.

    Raises:
        AssertionError: Something is missing or wrong.
    """
    *whole, rest = (folder / "index.jsonl").read_bytes().split(b"\n")
    lines = [json.loads(line) for line in whole]
    counts["lines"] += len(lines)
    counts["unfinished lines"] += rest != b""
    expected = 0
    for scene, line in enumerate(lines):
        assert line["scene"] == scene
        assert line["file"] == f"{scene:06d}.mp4"
        assert (line["start_frame"], line["frames"]) == (expected, line["end_frame"] - line["start_frame"] + 1)
        assert line["start"] == expected / RATE
        expected = line["end_frame"] + 1
        _check_frames(folder / line["file"], clip, line["start_frame"], line["frames"])
        counts["segments"] += 1
        counts["frames"] += line["frames"]
    others = sorted({path.name for path in folder.glob("*.mp4")} - {line["file"] for line in lines})
    assert others in ([], [f"{len(lines):06d}.mp4"]), "at most one file was under way"
    for name in others:
        check_file_under_way(folder / name, clip, expected, counts)


def _check_frames(path: Path, clip: Clip, first: int, count: int) -> None:
    """The file holds exactly these frames of the clip, each at its time."""
    decoded = list(_decoded(path))
    assert [number_of(grey) for grey, _ in decoded] == list(range(first, first + count)), path
    assert [seconds for _, seconds in decoded] == [Fraction(number, RATE) for number in range(count)], path
    for (grey, _), original in zip(decoded, clip.pictures[first:], strict=False):
        assert np.abs(grey.astype(int) - original).mean() < MOST_DIFFERENT, path


def check_file_under_way(path: Path, clip: Clip, first: int, counts: Counter[str]) -> None:
    """The file plays up to its last complete fragment; then what follows that is cut off, as a repair would do.

    Raises:
        AssertionError: It does not.
    """
    fragments = fragments_of(path)
    count = sum(fragments)
    counts["files under way"] += 1
    counts["their fragments"] += len(fragments)
    counts["their frames"] += count
    if count == 0:  # the process was killed before the first fragment, which may be before the header
        return
    numbers: list[int] = []
    try:
        for grey, _ in _decoded(path):
            numbers.append(number_of(grey) if len(numbers) < count else -1)
    except av.FFmpegError:
        counts["players that complained at the end"] += 1
    assert numbers[:count] == list(range(first, first + count)), path
    size = path.stat().st_size
    cut_to_whole_fragments(path)
    counts["unfinished fragments"] += path.stat().st_size < size
    _check_frames(path, clip, first, count)


def fragments_of(path: Path) -> list[int]:
    """How many frames each complete fragment of an MP4 file holds: a moof box whose mdat box is whole, too."""
    data = path.read_bytes()
    counts: list[int] = []
    described = 0
    for kind, body, end in _boxes(data):
        if end > len(data):
            break
        if kind == b"moof":
            described = _samples_of(data[body:end])
        elif kind == b"mdat":
            counts.append(described)
    return counts


def _samples_of(moof: bytes) -> int:
    for kind, body, end in _boxes(moof):
        if kind == b"traf":
            return _samples_of(moof[body:end])
        if kind == b"trun":  # version and flags, then sample_count
            return int(struct.unpack_from(">I", moof, body + 4)[0])
    return 0


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin of the content and end of each box (ISO/IEC 14496-12, section 4.2)."""
    position = 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        yield kind, position + 8, position + max(length, 8)
        position += max(length, 8)


def _decoded(path: Path) -> Iterator[tuple[Grey, Fraction]]:
    """Grey pictures and their times in seconds, exact."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            yield np.asarray(frame.to_ndarray(format="gray"), np.uint8), frame.pts * frame.time_base


def start_recorder(out: Path, clips: dict[str, Clip]) -> subprocess.Popen[str]:
    """The example, recording these clips in a process of its own; returns when it has begun to record."""
    sources = [f"{name}={clip.path}" for name, clip in clips.items()]
    command = [sys.executable, str(EXAMPLE), *sources, "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(list(out.glob("*/*/index.jsonl"))) < len(clips):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it does not begin to record"
        time.sleep(0.005)
    return process


def wait_for_files(out: Path, count: int) -> None:
    """Wait until so many files have been begun for each camera."""
    deadline = time.monotonic() + 120
    while min(len(list(folder.glob("*.mp4"))) for folder in out.glob("*/*")) < count:
        assert time.monotonic() < deadline, "it does not record"
        time.sleep(0.005)


def kill_at_random_moments(folder: Path, clips: dict[str, Clip], kills: int, seed: int, longest: float) -> Counter[str]:
    """Record and kill again and again; what all recordings held.

    Args:
        folder: For the recordings.
        clips: What the cameras show, by their names.
        kills: How often.
        seed: Of the moments.
        longest: Seconds from the beginning of the recording to the latest kill.
    """
    chance = random.Random(seed)
    counts: Counter[str] = Counter()
    while counts["kills"] < kills:
        out = folder / str(counts["kills"])
        process = start_recorder(out, clips)
        time.sleep(chance.uniform(0, longest))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it had ended before it was killed"
        (run,) = out.iterdir()
        for name, clip in clips.items():
            check_recording(run / name, clip, counts)
        counts["kills"] += 1
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill the recorder at random moments and look at what it left.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--longest", type=float, default=8.0, help="seconds of recording before the latest kill")
    parser.add_argument("--frames", type=int, default=4000, help="length of each clip")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clips = {
            name: Clip(write_clip(Path(folder, f"{name}.mp4"), options.frames, seed))
            for seed, name in enumerate(("door", "yard"))
        }
        counts = kill_at_random_moments(Path(folder), clips, options.kills, options.seed, options.longest)
    for name, count in counts.items():
        print(f"{name}: {count}")


if __name__ == "__main__":
    main()
