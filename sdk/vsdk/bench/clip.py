"""A clip to measure with when the user names none: the same pixels on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from ..frame import Image

WIDTH, HEIGHT, RATE = 1280, 720, 25
SCENE_FRAMES = 50


def render_clip(path: Path, frames: int, *, still: bool = False) -> None:
    """Write an H.264 file: a textured background that pans, moving boxes, sensor noise, a cut every two seconds.

    Args:
        path: Where to; the folder must exist.
        frames: How many frames, 1280x720 at 25 a second.
        still: As from a camera that looks at a place where nothing happens: only the noise changes.
    """
    noise = np.random.default_rng(0).normal(0, 2, (HEIGHT + 16, WIDTH + 16, 3)).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "23", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        scene_frames = frames if still else SCENE_FRAMES
        for start in range(0, frames, scene_frames):
            pictures = _scene(start, min(scene_frames, frames - start), noise, 0 if still else 1)
            for offset, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = start + offset
                container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _scene(seed: int, frames: int, noise: npt.NDArray[np.int16], speed: int) -> Iterator[Image]:
    generator = np.random.default_rng(seed)
    background = _texture(generator)
    sizes = generator.integers(60, 240, (5, 2))
    places = generator.integers(0, (HEIGHT - 240, WIDTH - 240), (5, 2))
    colours = generator.integers(0, 256, (5, 3))
    for step in range(frames):
        picture = background[:, 4 * speed * step :][:, :WIDTH].copy()
        for (height, width), (top, left), colour in zip(sizes, places, colours, strict=True):
            left = (left + 6 * speed * step) % (WIDTH - width)
            picture[top : top + height, left : left + width] = colour
        down, right = generator.integers(0, 16, 2)
        picture += noise[down : down + HEIGHT, right : right + WIDTH]
        yield picture.clip(0, 255).astype(np.uint8)


def _texture(generator: np.random.Generator) -> npt.NDArray[np.int16]:
    """A sum of coloured waves, int16 `[HEIGHT, WIDTH + what a scene pans, 3]`."""
    y, x = np.mgrid[0:HEIGHT, 0 : WIDTH + 4 * SCENE_FRAMES].astype(np.float32) / 100
    texture = np.full((*y.shape, 3), generator.uniform(90, 160, 3), np.float32)
    for across, down, phase in generator.uniform((-3, -3, 0), (3, 3, 6.3), (5, 3)).astype(np.float32):
        texture += np.sin(across * x + down * y + phase)[..., None] * generator.uniform(-40, 40, 3).astype(np.float32)
    return texture.astype(np.int16)
