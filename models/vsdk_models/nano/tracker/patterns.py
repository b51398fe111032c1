"""Regular textures of strong contrast, beside the natural ones of `nano.textures`: cloth, print, paint, machine parts.

An object with such a texture in front of another one has no outline that a single picture shows well; it must be told
apart by how it moves. Each function takes a generator and a side in pixels and returns float32 `[size, size, 3]` in
0..1.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from ..textures import Field, Picture, Random, Texture, colourise, draw_leaf, palette, spectral_noise

TILE = 48


def _turned(rng: Random, size: int, pitch: float) -> tuple[Field, Field]:
    """Coordinates of a turned and sheared lattice, in units of the pitch."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / np.float32(pitch)
    angle, shear = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.2)
    u = x * np.cos(angle) - y * np.sin(angle)
    v = x * np.sin(angle) + y * np.cos(angle)
    return np.asarray(u + shear * v, np.float32), np.asarray(v, np.float32)


def stripes(rng: Random, size: int) -> Picture:
    """Bands of random widths and colours, again and again, straight or waving."""
    u, _ = _turned(rng, size, rng.uniform(8, 40))
    u = u + spectral_noise(rng, size, 2.0) * rng.choice([0.0, 0.0, 1.0, 3.0])
    bands = rng.integers(0, 4, 24).repeat(rng.integers(1, 5, 24))
    return np.asarray(palette(rng, 4)[bands[np.floor(u % 1 * len(bands)).astype(np.int64)]], np.float32)


def checks(rng: Random, size: int) -> Picture:
    """Two sets of bands across one another, as on cloth."""
    u, v = _turned(rng, size, rng.uniform(6, 30))
    bands = rng.integers(0, 3, (2, 12))
    first, second = (row[np.floor(axis % 1 * 12).astype(np.int64)] for row, axis in zip(bands, (u, v), strict=True))
    return np.asarray(palette(rng, 5)[first + second], np.float32)


def stamps(rng: Random, size: int) -> Picture:
    """One small drawing, printed over and over on a lattice."""
    shades = (palette(rng, 5) * 255).astype(np.uint8)
    tile = Image.new("RGB", (TILE, TILE), tuple(int(c) for c in shades[0]))
    pen = ImageDraw.Draw(tile)
    for _ in range(int(rng.integers(1, 4))):
        x, y, radius = *rng.uniform(0.25 * TILE, 0.75 * TILE, 2), rng.uniform(0.12, 0.4) * TILE
        draw_leaf(pen, rng, (x, y), radius, tuple(int(c) for c in shades[rng.integers(1, 5)]))
    u, v = _turned(rng, size, rng.uniform(6, 28))
    row, column = (np.floor(axis % 1 * TILE).astype(np.int64) for axis in (v + 0.5 * np.floor(u), u))
    return np.asarray(np.asarray(tile, np.float32)[row, column] / 255, np.float32)


def waves(rng: Random, size: int) -> Picture:
    """The sum of a few plane waves of one length, in steps of colour: a quasi-crystal."""
    pitch = rng.uniform(6, 30)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / np.float32(pitch)
    total = np.zeros((size, size), np.float32)
    count = int(rng.integers(2, 6))
    for angle in rng.uniform(0, np.pi) + np.arange(count) * np.pi / count:
        total += np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 2 * np.pi))
    sharp = rng.uniform(0.5, 4)
    return colourise(np.asarray(0.5 + 0.5 * np.tanh(sharp * total / count), np.float32), rng)


PATTERNS: dict[str, Texture] = {"stripes": stripes, "checks": checks, "stamps": stamps, "waves": waves}
