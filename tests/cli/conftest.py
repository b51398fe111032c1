"""Small real clips, and a way to run the command as a user does: in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]
CUT = 30
FRAMES = 60
WIDTH, HEIGHT, RATE = 192, 128, 25


def write_clip(path: Path, frames: int, cuts: tuple[int, ...] = ()) -> None:
    """An H.264 clip of panning textures that are other ones after each cut."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        for number in range(frames):
            scene = sum(number >= cut for cut in cuts)
            texture = _texture(scene)
            picture = np.roll(texture, number % 8, axis=1)[:HEIGHT, :WIDTH]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


_textures: dict[int, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = {}


def _texture(scene: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Blocks of random colours, coarse in one scene and fine in the next."""
    if scene not in _textures:
        size = (32, 8, 16)[scene % 3]
        blocks = np.random.default_rng(scene).integers(0, 256, (256 // size, 256 // size, 3), dtype=np.uint8)
        _textures[scene] = np.kron(blocks, np.ones((size, size, 1), np.uint8)).astype(np.uint8)
    return _textures[scene]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of 30 frames each."""
    path = tmp_path_factory.mktemp("clip") / "two scenes.mp4"
    write_clip(path, FRAMES, (CUT,))
    return path


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Too long to be over before a test interrupts it; a cut every 100 frames."""
    path = tmp_path_factory.mktemp("clip") / "long.mp4"
    write_clip(path, 6000, tuple(range(100, 6000, 100)))
    return path


@pytest.fixture(scope="session")
def vsdk_command() -> Command:
    """`vsdk ARGUMENTS` in a process of its own, its output captured as text."""

    def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vsdk", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)  # type: ignore[call-overload]

    return run
