"""Real H.264 clips to calibrate with."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_clip(path: Path, frames: int = 48, size: tuple[int, int] = (128, 96), scenes: int = 2) -> Path:
    """Blocks of colour that move, other ones in each scene, with a bright square that moves in front of them."""
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, 25)
        for number in range(frames):
            rng = np.random.default_rng(number * scenes // frames)
            blocks = np.kron(rng.integers(0, 256, (16, 16, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
            picture = np.roll(blocks, number, axis=1)[:height, :width].copy()
            left = 2 * number % (width - 20)
            picture[height // 2 : height // 2 + 20, left : left + 20] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
