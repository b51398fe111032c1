"""Procedural textures: the raw material of every scene that `nano` is trained and judged on.

Natural images share statistics that simple random processes reproduce: a 1/f spectrum, occlusion, edges at every
scale, repeated structure. A network that learns from such processes transfers to photographs (Baradad et al.,
"Learning to See by Looking at Noise", NeurIPS 2021). Each function below draws one process.

Every function takes a `numpy.random.Generator` and a side length in pixels and returns float32 `[size, size, 3]`
in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Picture = npt.NDArray[np.float32]
Field = npt.NDArray[np.float32]
Random = np.random.Generator
Texture = Callable[[Random, int], Picture]


def palette(rng: Random, colours: int = 5) -> Picture:
    """`[colours, 3]` colours around one or two hues, with a brightness ramp: related, as a real place's colours are."""
    base = rng.random((1, 3)) * 0.8 + 0.1
    accent = rng.random((1, 3))
    spread = rng.normal(0, rng.uniform(0.05, 0.3), (colours, 3))
    mix = (rng.random((colours, 1)) < 0.3).astype(np.float32)
    ramp = np.linspace(-0.3, 0.3, colours)[:, None] * rng.uniform(0, 1.3)
    shades = np.clip(base * (1 - mix) + accent * mix + spread + ramp, 0, 1)
    if rng.random() < 0.15:
        shades = np.repeat(shades.mean(1, keepdims=True), 3, axis=1)
    return shades.astype(np.float32)


def colourise(field: Field, rng: Random) -> Picture:
    """Map a scalar field in 0..1 through a random palette, smoothly or in hard steps."""
    shades = palette(rng, int(rng.integers(3, 7)))
    position = np.clip(field, 0, 1) * (len(shades) - 1)
    low = np.minimum(position.astype(np.int64), len(shades) - 2)
    fraction = (position - low)[..., None]
    if rng.random() < 0.3:
        fraction = np.round(fraction)
    return (shades[low] * (1 - fraction) + shades[low + 1] * fraction).astype(np.float32)


def spectral_noise(rng: Random, size: int, slope: float, stretch: float = 1.0) -> Field:
    """Gaussian noise with a 1/f^slope amplitude spectrum, scaled to 0..1; `stretch` makes it anisotropic."""
    fy = np.fft.fftfreq(size)[:, None] * stretch
    fx = np.fft.rfftfreq(size)[None, :]
    radius = np.sqrt(fx * fx + fy * fy)
    radius[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) / radius**slope
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, s=(size, size))
    low, high = np.percentile(field, [1, 99])
    return np.clip((field - low) / (high - low + 1e-9), 0, 1).astype(np.float32)


def clouds(rng: Random, size: int) -> Picture:
    """Fractal noise through a palette: clouds, rock, foliage."""
    return colourise(spectral_noise(rng, size, rng.uniform(0.8, 2.2), 2 ** rng.uniform(-2, 2)), rng)


def coloured_noise(rng: Random, size: int) -> Picture:
    """Three correlated 1/f fields, one a colour channel."""
    slope = rng.uniform(0.9, 1.8)
    fields = np.stack([spectral_noise(rng, size, slope) for _ in range(3)], axis=-1)
    shared = fields.mean(-1, keepdims=True)
    weight = rng.uniform(0.3, 0.9)
    return np.asarray(shared * weight + fields * (1 - weight), dtype=np.float32)


def marble(rng: Random, size: int) -> Picture:
    """Sine stripes bent by noise: marble, wood, water."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    angle = rng.uniform(0, np.pi)
    phase = (x * np.cos(angle) + y * np.sin(angle)) * rng.uniform(3, 25)
    warp = spectral_noise(rng, size, rng.uniform(1.4, 2.2)) * rng.uniform(0, 6)
    return colourise(0.5 + 0.5 * np.sin(2 * np.pi * (phase + warp)), rng)


def tiles(rng: Random, size: int) -> Picture:
    """Checker boards, bricks and windows, turned, with worn faces: the regular structure of built places."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    angle = rng.normal(0, 0.3)
    u, v = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    width, height = rng.uniform(8, 60, 2)
    row = np.floor(v / height)
    column = np.floor(u / width + (row % 2) * rng.choice([0.0, 0.5]))
    joint = np.minimum((u / width + (row % 2) * 0.5) % 1, (v / height) % 1) < rng.uniform(0, 0.15)
    shade = np.mod(np.sin(row * rng.uniform(1, 99) + column * rng.uniform(1, 99)) * 43758.5, 1.0)
    picture = colourise(shade.astype(np.float32), rng)
    picture[joint] = palette(rng, 2)[0]
    return picture * (0.75 + 0.25 * spectral_noise(rng, size, 1.2))[..., None]


def cells(rng: Random, size: int) -> Picture:
    """Voronoi cells, each of one colour with a shaded border: pebbles, leaves, crowds."""
    grid = int(rng.integers(3, 14))
    corners = np.stack(list(np.mgrid[0:grid, 0:grid]), -1).reshape(-1, 2)
    points = (corners + rng.random((grid * grid, 2))) / grid * size
    half = size // 2
    y, x = np.mgrid[0:half, 0:half].astype(np.float32) * 2
    squared = (y[..., None] - points[:, 0].astype(np.float32)) ** 2 + (
        x[..., None] - points[:, 1].astype(np.float32)
    ) ** 2
    owner = np.argmin(squared, axis=-1)
    distance = np.sqrt(np.take_along_axis(squared, owner[..., None], -1)[..., 0]) * grid / size
    shades = palette(rng, 8)[rng.integers(0, 8, grid * grid)]
    picture = shades[owner] * (1 - rng.uniform(0, 0.8) * np.clip(distance, 0, 1))[..., None]
    return np.asarray(picture.repeat(2, 0).repeat(2, 1), dtype=np.float32)


def draw_leaf(
    pen: ImageDraw.ImageDraw, rng: Random, centre: tuple[float, float], radius: float, fill: tuple[int, ...]
) -> None:
    """One flat shape: an ellipse, a rotated box or an irregular polygon."""
    x, y = centre
    kind = rng.integers(0, 3)
    if kind == 0:
        squash = rng.uniform(0.3, 1)
        pen.ellipse((x - radius, y - radius * squash, x + radius, y + radius * squash), fill=fill)
        return
    corners = 4 if kind == 1 else int(rng.integers(3, 9))
    turn = rng.uniform(0, 2 * np.pi)
    angles = np.sort(np.arange(corners) / corners * 2 * np.pi + rng.uniform(0, 0.5, corners)) + turn
    radii = radius * (rng.uniform(0.5, 1, corners) if kind == 2 else np.ones(corners))
    pen.polygon([(x + r * np.cos(a), y + r * np.sin(a)) for r, a in zip(radii, angles, strict=True)], fill=fill)


def dead_leaves(rng: Random, size: int) -> Picture:
    """Occluding shapes with a power law of sizes, the classic model of natural occlusion; lit by soft noise."""
    shades = (palette(rng, 12) * 255).astype(np.uint8)
    image = Image.new("RGB", (size, size), tuple(int(c) for c in shades[0]))
    pen = ImageDraw.Draw(image)
    smallest, largest = rng.uniform(2, 6), rng.uniform(0.15, 0.5) * size
    count = int(rng.integers(60, 300))
    draws = rng.random(count)
    radii = (smallest**-2 + draws * (largest**-2 - smallest**-2)) ** -0.5
    for radius in np.sort(radii)[::-1] if rng.random() < 0.5 else radii:
        shade = tuple(int(c) for c in shades[rng.integers(0, len(shades))])
        draw_leaf(pen, rng, (rng.uniform(0, size), rng.uniform(0, size)), float(radius), shade)
    lit = 0.6 + 0.4 * spectral_noise(rng, size, rng.uniform(0.8, 2))
    return np.asarray(image, dtype=np.float32) / 255 * lit[..., None]


def fractal(rng: Random, size: int) -> Picture:
    """An iterated function system of three to five affine maps: ferns, branches, dust (chaos game)."""
    maps = int(rng.integers(3, 6))
    scale = rng.uniform(0.35, 0.65, maps)
    turn = rng.uniform(0, 2 * np.pi, maps)
    matrix = (
        np.stack([np.cos(turn), -np.sin(turn), np.sin(turn), np.cos(turn)], -1).reshape(maps, 2, 2)
        * scale[:, None, None]
    )
    shift = rng.uniform(-1, 1, (maps, 2))
    points = rng.uniform(-1, 1, (4000, 2))
    density = np.zeros((size, size), np.float32)
    for step in range(16):
        choice = rng.integers(0, maps, len(points))
        points = np.einsum("nij,nj->ni", matrix[choice], points) + shift[choice]
        if step > 4:
            low, high = points.min(0), points.max(0)
            cell = ((points - low) / (high - low + 1e-9) * (size - 1)).astype(np.int64)
            np.add.at(density, (cell[:, 1], cell[:, 0]), 1)
    ink = np.clip(np.log1p(density) / 2, 0, 1)[..., None]
    return np.asarray(clouds(rng, size) * (1 - ink) + palette(rng, 2)[1] * ink, dtype=np.float32)


def gradient(rng: Random, size: int) -> Picture:
    """A smooth ramp with a trace of noise: sky, walls, out-of-focus ground."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    angle = rng.uniform(0, 2 * np.pi)
    ramp = 0.5 + (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)
    return colourise(ramp * 0.9 + 0.1 * spectral_noise(rng, size, 1.5), rng)


PROCESSES: dict[str, Texture] = {
    "clouds": clouds,
    "coloured_noise": coloured_noise,
    "marble": marble,
    "tiles": tiles,
    "cells": cells,
    "dead_leaves": dead_leaves,
    "fractal": fractal,
    "gradient": gradient,
}


def layout_mask(rng: Random, size: int) -> Field:
    """A soft mask in 0..1 that splits a picture the way places are split: horizon, wall, doorway, blob."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    kind = rng.integers(0, 4)
    if kind == 0:
        edge = y - rng.uniform(0.25, 0.75) + rng.normal(0, 0.15) * (x - 0.5)
    elif kind == 1:
        edge = x - rng.uniform(0.2, 0.8) + rng.normal(0, 0.3) * (y - 0.5)
    elif kind == 2:
        left, top = rng.uniform(0, 0.6, 2)
        width, height = rng.uniform(0.2, 0.6, 2)
        edge = np.minimum(np.minimum(x - left, left + width - x), np.minimum(y - top, top + height - y))
    else:
        edge = spectral_noise(rng, size, 2.0) - rng.uniform(0.35, 0.65)
    rough = (spectral_noise(rng, size, 1.5) - 0.5) * rng.choice([0.0, 0.0, 0.1])
    return np.clip((edge + rough) * rng.choice([20.0, 60.0, 200.0]) + 0.5, 0, 1).astype(np.float32)


def backdrop(rng: Random, size: int, names: tuple[str, ...] = tuple(PROCESSES)) -> Picture:
    """A whole place: one to four processes composed by layout masks, with a vignette of light."""
    picture = PROCESSES[str(rng.choice(names))](rng, size)
    for _ in range(int(rng.integers(0, 4))):
        mask = layout_mask(rng, size)[..., None]
        picture = picture * (1 - mask) + PROCESSES[str(rng.choice(names))](rng, size) * mask
    light = 0.55 + 0.9 * spectral_noise(rng, size, 2.5) if rng.random() < 0.5 else np.ones((size, size), np.float32)
    return np.clip(picture * light[..., None], 0, 1).astype(np.float32)
