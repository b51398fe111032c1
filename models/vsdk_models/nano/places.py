"""Procedural places: pictures with a composition, such as a landscape or a street at night.

They complement the texture processes of `textures.py` where a scene should look like somewhere: in the demo clip, and
as content that nano's encoder has never been trained on when its scenes are judged. Every function takes a
`numpy.random.Generator` and a side length in pixels and returns float32 `[size, size, 3]` in 0..1.
"""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from .textures import PROCESSES, Picture, Random, Texture, backdrop, spectral_noise

Vector = npt.NDArray[np.floating]


def shade(hue: float, saturation: float, value: float) -> Vector:
    """One colour, float32 `[3]`, from hue (turns), saturation and value."""
    return np.asarray(colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0), 1), min(max(value, 0), 1)), np.float32)


def sky(rng: Random, size: int, zenith: Vector, horizon: Vector, horizon_row: float) -> Picture:
    """A vertical ramp from zenith to horizon with a sun or moon, its glow, and thin clouds."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    height = np.clip(y / horizon_row, 0, 1)[..., None] ** 1.5
    picture = zenith * (1 - height) + horizon * height
    distance = np.hypot(x - rng.uniform(0.15, 0.85), y - horizon_row * rng.uniform(0.45, 0.85))
    light = np.clip((rng.uniform(0.03, 0.07) - distance) * size / 2, 0, 1) + 0.35 * np.exp(-distance * 9)
    cover = np.clip(spectral_noise(rng, size, 1.8, 4.0) * 2 - 1, 0, 1)[..., None] * rng.uniform(0.1, 0.6)
    picture = picture * (1 - cover) + (0.4 + 0.6 * horizon) * cover
    return np.asarray(np.clip(picture + light[..., None] * (0.6 + 0.4 * horizon), 0, 1), np.float32)


def ridge(rng: Random, size: int, level: float, roughness: float) -> Vector:
    """A skyline of hills: for each column the row (0..1) where the ground starts."""
    spectrum = np.fft.rfft(rng.standard_normal(size)) / np.maximum(np.arange(size // 2 + 1), 1) ** 1.5
    spectrum[0] = 0
    line = np.fft.irfft(spectrum, n=size)
    return np.asarray(level + roughness * line / (np.abs(line).max() + 1e-9), np.float32)


def landscape(rng: Random, size: int) -> Picture:
    """Hills behind hills under a sky, the farther the hazier."""
    hue, horizon_row = rng.random(), rng.uniform(0.42, 0.55)
    zenith = shade(hue, rng.uniform(0.3, 0.8), rng.uniform(0.2, 0.8))
    horizon = shade(hue + rng.uniform(0.3, 0.6), rng.uniform(0.2, 0.6), rng.uniform(0.75, 1.0))
    ground = shade(rng.random(), rng.uniform(0.3, 0.7), rng.uniform(0.15, 0.5))
    picture = sky(rng, size, zenith, horizon, horizon_row)
    rows = np.arange(size, dtype=np.float32)[:, None] / size
    ridges = int(rng.integers(3, 6))
    for number in range(ridges):
        near = (number + 1) / ridges
        level = horizon_row - 0.06 + 0.32 * near**1.5
        line = ridge(rng, size, level, 0.03 + 0.09 * near)
        grain = 0.7 + 0.6 * spectral_noise(rng, size, 1.1, 2.0)
        colour = (horizon * (1 - near) * 0.85 + ground * near) * (1 - 0.5 * near * (1 - grain[..., None]))
        cover = np.clip((rows - line) * size, 0, 1)[..., None]
        picture = picture * (1 - cover) + colour * cover
    return np.asarray(np.clip(picture, 0, 1), np.float32)


def skyline(rng: Random, size: int) -> Picture:
    """Rows of houses with lit windows against an evening sky."""
    hue = rng.random()
    zenith = shade(hue, 0.7, rng.uniform(0.1, 0.35))
    horizon = shade(hue + rng.uniform(-0.2, 0.5), 0.6, rng.uniform(0.4, 0.9))
    image = Image.fromarray((sky(rng, size, zenith, horizon, 0.7) * 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    lamp = shade(rng.uniform(0.05, 0.18), rng.uniform(0.3, 0.8), 1.0)
    rows = int(rng.integers(2, 4))
    for row in range(rows):
        near = (row + 1) / rows
        wall = horizon * (1 - near) * 0.5 + shade(hue, 0.4, 0.12) * near
        left = -rng.uniform(0, 0.1) * size
        while left < size:
            width = rng.uniform(0.04, 0.13) * size * (0.7 + 0.6 * near)
            top = (0.62 - rng.uniform(0.05, 0.38) * (1.1 - 0.45 * near) + 0.1 * near) * size
            tint = np.clip(wall * rng.uniform(0.75, 1.25), 0, 1)
            pen.rectangle((left, top, left + width, size), fill=_ink(tint))
            _windows(pen, rng, (left, top, left + width, 0.98 * size), size, lamp * near + wall * (1 - near))
            left += width * rng.uniform(0.9, 1.3)
    return np.asarray(np.asarray(image, np.float32) / 255, np.float32)


def _windows(
    pen: ImageDraw.ImageDraw, rng: Random, box: tuple[float, float, float, float], size: int, light: Vector
) -> None:
    """A grid of windows on one house, some lit."""
    pitch, lit = size * rng.uniform(0.012, 0.025), rng.uniform(0.15, 0.6)
    for y in np.arange(box[1] + pitch, box[3], pitch * 1.3):
        for x in np.arange(box[0] + pitch * 0.6, box[2] - pitch, pitch):
            if rng.random() < lit:
                pen.rectangle((x, y, x + pitch * 0.5, y + pitch * 0.7), fill=_ink(light * rng.uniform(0.5, 1.0)))


def room(rng: Random, size: int) -> Picture:
    """A floor in perspective, a wall with pictures or windows on it, and light from one side."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    corner = rng.uniform(0.5, 0.62)
    depth = 1.0 / np.maximum(y - corner * 0.75, 0.01)
    across = (x - rng.uniform(0.3, 0.7)) * depth * rng.uniform(2, 4)
    along = depth * rng.uniform(1.0, 2.5)
    boards = np.floor(across) + (np.floor(along) if rng.random() < 0.5 else 0)
    hue, value = rng.random(), rng.uniform(0.3, 0.7)
    dark, bright = shade(hue, 0.5, value * 0.6), shade(hue, 0.4, value)
    odd = np.mod(boards, 2)[..., None]
    floor = dark * odd + bright * (1 - odd)
    wall_colour = shade(hue + rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.5), rng.uniform(0.45, 0.9))
    wall = wall_colour * (0.85 + 0.3 * spectral_noise(rng, size, 1.0))[..., None]
    image = Image.fromarray((np.clip(np.where((y > corner)[..., None], floor, wall), 0, 1) * 255).astype(np.uint8))
    for _ in range(int(rng.integers(2, 6))):
        _hang(image, rng, size, corner)
    light = 0.55 + 0.6 * np.exp(-(((x - rng.random()) / 0.5) ** 2))
    return np.asarray(np.clip(np.asarray(image, np.float32) / 255 * light[..., None], 0, 1), np.float32)


def _hang(image: Image.Image, rng: Random, size: int, corner: float) -> None:
    """A framed picture on the wall above the floor's edge (a fraction of the height)."""
    width, height = (rng.uniform(0.08, 0.3, 2) * size).astype(int)
    left, top = int(rng.uniform(0, 0.95) * size), int(rng.uniform(0.12, corner - 0.05) * size)
    height = min(int(height), int(corner * size) - top - 2)
    if height < 8:
        return
    name = str(rng.choice(tuple(PROCESSES)))
    content = Image.fromarray((PROCESSES[name](rng, 128) * 255).astype(np.uint8)).resize((int(width), height))
    border = max(2, size // 150)
    box = (left - border, top - border, left + int(width) + border, top + height + border)
    ImageDraw.Draw(image).rectangle(box, fill=_ink(shade(rng.random(), 0.3, rng.uniform(0.05, 0.9))))
    image.paste(content, (left, top))


def page(rng: Random, size: int) -> Picture:
    """A printed page or a screen: lines of words, headings and picture blocks."""
    paper = shade(rng.random(), rng.uniform(0, 0.25), rng.uniform(0.75, 1.0))
    ink = shade(rng.random(), rng.uniform(0, 0.8), rng.uniform(0.05, 0.35))
    if rng.random() < 0.3:
        paper, ink = ink, paper
    image = Image.new("RGB", (size, size), _ink(paper))
    pen = ImageDraw.Draw(image)
    columns, y = int(rng.integers(1, 4)), 0.02 * size
    for column in range(columns):
        left, right = (column + 0.06) / columns * size, (column + 0.94) / columns * size
        y = rng.uniform(0, 0.04) * size
        while y < size:
            line = size * rng.choice([0.014, 0.02, 0.04], p=[0.6, 0.3, 0.1])
            if rng.random() < 0.06:
                block = backdrop(rng, 96)
                tall = int(rng.uniform(0.08, 0.25) * size)
                picture = Image.fromarray((block * 255).astype(np.uint8)).resize((int(right - left), tall))
                image.paste(picture, (int(left), int(y)))
                y += tall + line
                continue
            x, end = left, right - rng.choice([0, 0, 0.5]) * (right - left) * rng.random()
            while x < end:
                word = line * rng.uniform(0.6, 4)
                pen.rectangle((x, y, min(x + word, end), y + line * 0.6), fill=_ink(ink))
                x += word + line * 0.5
            y += line * 1.4
    return np.asarray(np.asarray(image, np.float32) / 255, np.float32)


def _ink(colour: Vector) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in np.clip(colour * 255, 0, 255))
    return red, green, blue


PLACES: dict[str, Texture] = {"landscape": landscape, "skyline": skyline, "room": room, "page": page}
