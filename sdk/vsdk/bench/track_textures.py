"""Textures of rendered sequences: patterns that are made, woven, drawn or grown.

None of these processes is used in training `nano`, whose textures are in `vsdk_models.nano.textures`. Each function
draws one of them as a field, float32 `[side, side]` in 0..1; a `Paint` gives it colours. So look-alikes can be drawn:
things of the same pattern and colours, but with another sample of the pattern.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from PIL import Image as pillow
from PIL import ImageDraw

Random = np.random.Generator
Field = npt.NDArray[np.float32]
Tones = npt.NDArray[np.float32]
"""Float32 `[tones, 3]` in 0..255."""
Texture = Callable[[Random, int, float], Field]
"""Of a generator, the side and the pitch: after how many pixels the pattern about repeats."""


def labyrinth(rng: Random, side: int, pitch: float) -> Field:
    """Ridges and furrows as reaction and diffusion leave them: one wavelength grows until it saturates."""
    down, across = (axis.astype(np.float32) * pitch for axis in (np.fft.fftfreq(side), np.fft.rfftfreq(side)))
    band = np.exp(-((np.hypot(down[:, None], across[None]) - 1) ** 2) / np.float32(0.08))
    field = rng.standard_normal((side, side)).astype(np.float32)
    for _ in range(6):
        grown = np.fft.irfft2(np.fft.rfft2(field) * band, s=field.shape)
        field = np.tanh(2.5 * grown / (grown.std() + 1e-6)).astype(np.float32)
    return 0.5 + 0.5 * field


def truchet(rng: Random, side: int, pitch: float) -> Field:
    """Square tiles with two quarter circles each, turned at random: winding pipes."""
    u, v = _turned(rng, side, pitch)
    flipped = _cell_noise(rng, u, v) < 0.5
    x, y = u % 1, v % 1
    x = np.where(flipped, 1 - x, x)
    apart = np.minimum(np.abs(np.hypot(x, y) - 0.5), np.abs(np.hypot(1 - x, 1 - y) - 0.5))
    return _step(rng.uniform(0.12, 0.2) - apart, pitch)


def hatching(rng: Random, side: int, pitch: float) -> Field:
    """Two or three crossing sets of pen strokes, dense where it is dark."""
    shade = _mottle(rng, side, 4 * pitch)
    field = np.zeros((side, side), np.float32)
    for level in np.linspace(-0.8, 0.5, int(rng.integers(2, 4))):
        u, v = _turned(rng, side, pitch / 2)
        row = np.floor(u)
        broken = (v * 0.23 + np.sin(row * 12.9) * 43.7) % 1 < 0.8
        stroke = _step(0.22 - np.abs(u % 1 - 0.5), pitch / 2)
        field = np.maximum(field, stroke * (broken & (shade > level)))
    return field


def wood_rings(rng: Random, side: int, pitch: float) -> Field:
    """Growth rings around an off-centre heart: slowly darker, then suddenly light again."""
    y, x = _axes(side)
    cx, cy = rng.uniform(-0.3, 1.3, 2).astype(np.float32) * np.float32(side)
    angle = np.arctan2(y - cy, x - cx)
    lobes = 1 + 0.07 * np.sin(int(rng.integers(2, 5)) * angle + rng.uniform(0, 6)) + 0.02 * np.sin(9 * angle)
    age = np.hypot(x - cx, y - cy) * lobes / pitch
    years = rng.uniform(0.4, 1.0, 1024).astype(np.float32)
    return np.asarray((age % 1) ** 1.7 * years[np.floor(age).astype(np.int64) % 1024], np.float32)


def woven(rng: Random, side: int, pitch: float) -> Field:
    """Threads that pass over and under one another, rounded by shading."""
    u, v = _turned(rng, side, pitch / 2)
    over = (np.floor(u) + np.floor(v)) % 2 < 1
    across = np.where(over, u, v) % 1
    tone = np.where(over, 0.75, 0.35) + 0.15 * (_cell_noise(rng, np.where(over, u, v), np.zeros_like(u)) - 0.5)
    return np.asarray(tone * (0.35 + 0.65 * np.sin(np.pi * across)), np.float32)


def burst(rng: Random, side: int, pitch: float) -> Field:
    """Rays from a point, straight or swirling."""
    y, x = _axes(side)
    cx, cy = rng.uniform(0.2, 0.8, 2).astype(np.float32) * np.float32(side)
    distance = np.hypot(x - cx, y - cy)
    rays = round(np.pi * side / 2 / pitch)
    turn = np.arctan2(y - cy, x - cx) / (2 * np.pi) * rays + distance / side * rng.uniform(-4, 4)
    light = np.clip(1.1 - distance / side * 0.6, 0, 1)
    return np.asarray(_step(np.abs(turn % 1 - 0.5) - 0.25, 2 * np.pi * distance / rays) * light, np.float32)


def speckles(rng: Random, side: int, pitch: float) -> Field:
    """A sweep of tones around a point, strewn with chips."""
    y, x = _axes(side)
    cx, cy = rng.uniform(0.1, 0.9, 2).astype(np.float32) * np.float32(side)
    sweep = 0.5 + 0.35 * np.cos(np.arctan2(y - cy, x - cx) + rng.uniform(0, 6))
    image = pillow.fromarray((sweep * 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for left, top in rng.uniform(-pitch, side, (round(1.3 * (side / pitch) ** 2), 2)):
        width, height = rng.uniform(0.15, 0.7, 2) * pitch
        pen.ellipse((left, top, left + width, top + height), fill=int(rng.integers(256)))
    return np.asarray(image, np.float32) / np.float32(255)


def scales(rng: Random, side: int, pitch: float) -> Field:
    """Overlapping round scales in staggered rows, each shaded towards its rim."""
    u, v = _turned(rng, side, pitch)
    v = v * 2
    best = np.full(u.shape, 9.0)
    for back in (2.0, 1.0, 0.0):  # rows in front cover those behind
        row = np.floor(v) - back
        column = np.floor(u + row % 2 / 2)
        distance = np.hypot(u + row % 2 / 2 - column - 0.5, (v - row - 0.5) / 2) / 0.62
        best = np.where(distance < 1, distance, best)
    return np.asarray(np.clip(best, 0, 1) ** 2, np.float32)


def halftone(rng: Random, side: int, pitch: float) -> Field:
    """A lattice of dots, larger and smaller as in a printed shade."""
    u, v = _turned(rng, side, pitch / 1.4)
    shade = 0.32 + 0.11 * np.clip(_mottle(rng, side, 4 * pitch), -1.5, 1.5)
    return _step(shade - np.hypot(u % 1 - 0.5, v % 1 - 0.5), pitch)


TEXTURES: dict[str, Texture] = {
    "labyrinth": labyrinth, "truchet": truchet, "hatching": hatching, "wood_rings": wood_rings, "woven": woven,
    "burst": burst, "speckles": speckles, "scales": scales, "halftone": halftone,
}  # fmt: skip


def random_tones(rng: Random) -> Tones:
    """Two to four tones from dark to light, around one or two hues."""
    count = int(rng.integers(2, 5))
    hue = rng.uniform(0, 2 * np.pi) + rng.normal(0, rng.uniform(0.1, 1.0), count)
    dark, bright = rng.uniform((20, 140), (110, 240))
    light = np.linspace(dark, bright, count)
    colour = rng.uniform(10, 75)
    wheel = np.cos(hue[:, None] + np.array([0, 2.1, 4.2]))
    return np.asarray(np.clip(light[:, None] + colour * wheel, 0, 255)[:: rng.choice([-1, 1])], np.float32)


@dataclass(frozen=True)
class Paint:
    """A sample of a texture in colours; drawn when it is first looked at.

    Attributes:
        family: Which of `TEXTURES`.
        tones: The colours, from the first where the field is 0 to the last where it is 1.
        side: Of the square picture, pixels.
        pitch: After how many pixels the pattern about repeats.
        seed: Which sample.
    """

    family: str
    tones: Tones
    side: int
    pitch: float
    seed: int

    @cached_property
    def picture(self) -> pillow.Image:
        """RGB."""
        field = TEXTURES[self.family](np.random.default_rng(self.seed), self.side, self.pitch)
        ramp = np.linspace(0, 1, len(self.tones))
        levels = np.stack([np.interp(np.linspace(0, 1, 256), ramp, channel) for channel in self.tones.T], axis=1)
        return pillow.fromarray(levels.astype(np.uint8)[np.clip(field * 255, 0, 255).astype(np.uint8)])


def _axes(side: int) -> tuple[Field, Field]:
    """Pixels from the top, `[side, 1]`, and from the left, `[1, side]`."""
    along = np.arange(side, dtype=np.float32)
    return along[:, None], along[None, :]


def _turned(rng: Random, side: int, pitch: float) -> tuple[Field, Field]:
    """Coordinates of a turned lattice, in units of the pitch."""
    y, x = (axis / np.float32(pitch) for axis in _axes(side))
    angle, (dx, dy) = rng.uniform(0, np.pi), rng.uniform(0, 9, 2)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos - y * sin + np.float32(dx), x * sin + y * cos + np.float32(dy)


def _cell_noise(rng: Random, u: Field, v: Field) -> Field:
    """A random number in 0..1 for each cell of the lattice."""
    table = rng.random((64, 64)).astype(np.float32)
    return np.asarray(table[np.floor(u).astype(np.int64) % 64, np.floor(v).astype(np.int64) % 64])


def _mottle(rng: Random, side: int, pitch: float) -> Field:
    """Smooth noise around 0 with deviation near 1."""
    cells = max(2, round(side / pitch))
    coarse = pillow.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((side, side), pillow.Resampling.BICUBIC), np.float32)


def _step(distance: npt.NDArray[np.floating], pitch: float | Field) -> Field:
    """0 outside, 1 inside, with an edge of about a pixel; the distance is in units of the pitch."""
    return np.asarray(np.clip(distance * pitch + 0.5, 0, 1), np.float32)
