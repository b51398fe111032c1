"""Shapes of the objects in rendered sequences: things with gaps, strokes, handles and limbs.

None of them is among the shapes that `nano` is trained or validated with (blobs, ellipses, boxes, polygons of few
corners, chains of discs, gears, crescents, stars, and the flat symbols of its scenes): a tracker that has only learnt
those fails here.

A shape is a function of a phase, in radians, because some of them move their limbs: it gives pieces in a coordinate
system in which the shape reaches about 1 from the origin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image as pillow
from PIL import ImageDraw

Random = np.random.Generator
Points = npt.NDArray[np.float64]
"""Float64 `[points, 2]`: x to the right, y down."""

STEP = 0.25
"""How far apart the points of a line are at most, so that it can be bent."""


@dataclass(frozen=True)
class Piece:
    """A part of a shape.

    Attributes:
        points: Corners of a polygon, or the middle of a stroke from one end to the other.
        stroke: Width of the stroke; 0 for a polygon.
        cut: Whether it is taken away from the pieces before it.
    """

    points: Points
    stroke: float = 0.0
    cut: bool = False


Outline: TypeAlias = Callable[[float], tuple[Piece, ...]]
Shape = Callable[[Random], Outline]


def open_ring(rng: Random) -> Outline:
    """A thick ring with a gap."""
    gap = rng.uniform(0.8, 1.5)
    angles = np.linspace(gap / 2, 2 * np.pi - gap / 2, 24)
    return _rigid(Piece(_polar(np.full(24, 0.78), angles), stroke=rng.uniform(0.36, 0.46)))


GLYPHS: dict[str, tuple[tuple[tuple[float, float], ...], ...]] = {
    "A": (((-0.65, 0.8), (0, -0.8), (0.65, 0.8)), ((-0.4, 0.25), (0.4, 0.25))),
    "E": (((0.55, -0.8), (-0.5, -0.8), (-0.5, 0.8), (0.55, 0.8)), ((-0.5, 0), (0.4, 0))),
    "H": (((-0.55, -0.8), (-0.55, 0.8)), ((0.55, -0.8), (0.55, 0.8)), ((-0.55, 0), (0.55, 0))),
    "K": (((-0.5, -0.8), (-0.5, 0.8)), ((0.6, -0.8), (-0.45, 0.1)), ((-0.15, -0.1), (0.6, 0.8))),
    "M": (((-0.7, 0.8), (-0.7, -0.75), (0, 0.25), (0.7, -0.75), (0.7, 0.8)),),
    "R": (((-0.5, 0.8), (-0.5, -0.8), (0.35, -0.75), (0.5, -0.35), (0.3, 0.05), (-0.5, 0.1)), ((0, 0.1), (0.6, 0.8))),
    "S": (((0.55, -0.65), (0.1, -0.85), (-0.5, -0.55), (-0.3, -0.1), (0.3, 0.1), (0.5, 0.5), (0, 0.85), (-0.6, 0.6)),),
    "Y": (((-0.65, -0.8), (0, 0), (0.65, -0.8)), ((0, 0), (0, 0.85))),
    "4": (((0.3, 0.85), (0.3, -0.8), (-0.65, 0.3), (0.7, 0.3)),),
}  # fmt: skip


def glyph(rng: Random) -> Outline:
    """A letter or a digit, written with a thick pen."""
    name = list(GLYPHS)[int(rng.integers(len(GLYPHS)))]
    pen = rng.uniform(0.36, 0.46)
    return _rigid(*(Piece(_dense(np.array(line)), stroke=pen) for line in GLYPHS[name]))


def leaf(rng: Random) -> Outline:
    """A spindle with a serrated edge, on a stalk."""
    along = np.linspace(-1, 0.8, 37)
    width = rng.uniform(0.45, 0.6) * np.sin(np.pi * (along + 1) / 1.8) ** rng.uniform(0.7, 1.1)
    serrated = width * (1 - rng.uniform(0.15, 0.3) * (np.arange(37) % 4 / 3))
    edge = np.concatenate([np.stack([along, serrated], 1), np.stack([along, -serrated], 1)[::-1]])
    stalk = np.array([(0.7, 0.0), (1.0, rng.uniform(-0.2, 0.2))])
    return _rigid(Piece(edge), Piece(_dense(stalk), stroke=0.13))


def figure(rng: Random) -> Outline:
    """A walking figure: its arms and legs swing."""
    limb, swing = rng.uniform(0.2, 0.27), rng.uniform(0.3, 0.6)
    trunk = np.array([(-0.32, -0.48), (0.32, -0.48), (0.22, 0.2), (-0.22, 0.2)])
    head = _circle(0.21) + np.array([0.0, -0.78])

    def pieces(phase: float) -> tuple[Piece, ...]:
        turn = swing * np.sin(phase)
        limbs = [
            (np.array([x, y]), side * turn + side * lean, length)
            for x, y, lean, length in ((0.1, 0.1, 0.12, 0.82), (0.28, -0.4, 0.35, 0.62))
            for x, side in ((x, 1.0), (-x, -1.0))
        ]
        drawn = [
            Piece(_dense(np.stack([start, start + length * np.array([np.sin(angle), np.cos(angle)])])), stroke=limb)
            for start, angle, length in limbs
        ]
        return Piece(_dense(trunk)), Piece(head), *drawn

    return pieces


def key(rng: Random) -> Outline:
    """A key: a loop, a shaft and two or three bits."""
    pen = rng.uniform(0.3, 0.36)
    loop = _polar(np.full(16, 0.33), np.linspace(0, 2 * np.pi, 16)) + np.array([-0.58, 0.0])
    shaft = np.array([(-0.25, 0.0), (0.95, 0.0)])
    bits = [
        Piece(_dense(np.array([(x, 0.0), (x, length)])), stroke=pen * 0.85)
        for x, length in zip((0.9, 0.55, 0.2), rng.uniform(0.35, 0.55, int(rng.integers(2, 4))), strict=False)
    ]
    return _rigid(Piece(loop, stroke=pen), Piece(_dense(shaft), stroke=pen), *bits)


def spiral(rng: Random) -> Outline:
    """A spiral of about one and a half turns."""
    angles = np.linspace(0, 2 * np.pi * rng.uniform(1.3, 1.7), 30)
    return _rigid(Piece(_polar(np.linspace(0.1, 0.87, 30), angles), stroke=rng.uniform(0.26, 0.3)))


def fish(rng: Random) -> Outline:
    """A fish that beats its tail."""
    along = np.linspace(-1, 0.55, 24)
    width = rng.uniform(0.34, 0.46) * np.sin(np.pi * (along + 1.02) / 1.75) ** 0.7
    body = np.concatenate([np.stack([along, width], 1), np.stack([along, -width], 1)[::-1]])
    tail = np.array([(0.4, 0.0), (0.98, -0.5), (0.8, 0.0), (0.98, 0.5)])
    fin = np.array([(-0.35, -0.3), (0.1, -0.72), (0.22, -0.25)])
    beat = rng.uniform(0.15, 0.3)

    def pieces(phase: float) -> tuple[Piece, ...]:
        def bent(points: Points) -> Points:
            away = beat * np.sin(phase) * np.clip(points[:, 0] + 0.2, 0, None) ** 2
            return np.asarray(points + np.stack([np.zeros_like(away), away], 1))

        return Piece(bent(body)), Piece(bent(_dense(tail, closed=True))), Piece(bent(_dense(fin, closed=True)))

    return pieces


def branch(rng: Random) -> Outline:
    """A twig with side shoots."""
    pen = rng.uniform(0.27, 0.34)
    trunk = np.array([(rng.uniform(-0.15, 0.15), 0.95), (0.0, 0.2), (rng.uniform(-0.2, 0.2), -0.95)])
    drawn = [Piece(_dense(trunk), stroke=pen)]
    for number, y in enumerate((0.45, 0.1, -0.3)[: int(rng.integers(2, 4))]):
        side, reach = (-1) ** number, rng.uniform(0.55, 0.8)
        shoot = np.array([(0.0, y), (side * reach * 0.6, y - 0.15), (side * reach, y - rng.uniform(0.4, 0.6))])
        drawn.append(Piece(_dense(shoot), stroke=pen))
    return _rigid(*drawn)


def anchor(rng: Random) -> Outline:
    """An anchor: a loop, a shank with a bar, and two curved arms."""
    pen = rng.uniform(0.26, 0.33)
    arms = _polar(np.full(12, rng.uniform(0.65, 0.78)), np.linspace(0.15, np.pi - 0.15, 12)) + np.array([0.0, 0.12])
    lines = (np.array([(0.0, -0.5), (0.0, 0.8)]), np.array([(-0.42, -0.3), (0.42, -0.3)]))
    loop = _polar(np.full(12, 0.18), np.linspace(0, 2 * np.pi, 12)) + np.array([0.0, -0.72])
    return _rigid(Piece(loop, stroke=pen * 0.8), *(Piece(_dense(each), stroke=pen) for each in (*lines, arms)))


def mug(rng: Random) -> Outline:
    """A mug with a handle."""
    waist = rng.uniform(0.4, 0.55)
    body = np.array([(-0.68, -0.75), (0.5, -0.75), (waist, 0.0), (0.42, 0.8), (-0.6, 0.8), (-0.18 - waist, 0.0)])
    handle = _polar(np.full(12, rng.uniform(0.32, 0.4)), np.linspace(-1.4, 1.4, 12)) + np.array([0.45, -0.02])
    return _rigid(Piece(_dense(body, closed=True)), Piece(handle, stroke=0.2))


def shell(rng: Random) -> Outline:
    """A fan with a scalloped rim."""
    ribs, spread = int(rng.integers(5, 9)), rng.uniform(0.95, 1.25)
    angles = np.linspace(-spread, spread, 8 * ribs + 1) - np.pi / 2
    rim = 1.35 + 0.18 * np.abs(np.sin(np.linspace(0, np.pi * ribs, 8 * ribs + 1)))
    hinge = np.array([(0.22, 0.75), (0.3, 0.92), (-0.3, 0.92), (-0.22, 0.75)])
    return _rigid(Piece(np.concatenate([_polar(rim, angles) + np.array([0.0, 0.7]), hinge])))


def puzzle(rng: Random) -> Outline:
    """A piece of a jigsaw: a square whose sides have a knob or a hole each."""
    half, knob = 0.62, rng.uniform(0.2, 0.26)
    square = half * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    pieces = [Piece(_dense(square, closed=True))]
    for x, y in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        out = bool(rng.random() < 0.5)
        pieces.append(Piece(_circle(knob) + np.array([x, y]) * (half + (0.6 if out else -0.6) * knob), cut=not out))
    return _rigid(*pieces)


SHAPES: dict[str, Shape] = {
    "open_ring": open_ring, "glyph": glyph, "leaf": leaf, "figure": figure, "key": key,
    "spiral": spiral, "fish": fish, "branch": branch, "anchor": anchor,
    "mug": mug, "shell": shell, "puzzle": puzzle,
}  # fmt: skip


def curtain(rng: Random, length: float, width: float) -> Outline:
    """A long upright band with waving edges, in pixels: all that passes behind it is hidden."""
    along = np.linspace(-length / 2, length / 2, 60)
    left, right = (3 * np.sin(along / rng.uniform(8, 30) + rng.uniform(0, 6)) + width / 2 for _ in range(2))
    return _rigid(Piece(np.concatenate([np.stack([-left, along], 1), np.stack([right, along], 1)[::-1]])))


def fence(rng: Random, length: float, width: float) -> Outline:
    """Upright bars on two rails, in pixels: what passes behind it is hidden in parts."""
    pitch = rng.uniform(16, 30)
    across = np.arange(-width / 2, width / 2 + 1, pitch)
    bars = [Piece(np.array([(x, -length / 2), (x, length / 2)]), stroke=pitch * 0.55) for x in across]
    rails = [Piece(np.array([(across[0], y), (across[-1], y)]), stroke=8.0) for y in (-30.0, 30.0)]
    return _rigid(*bars, *rails)


def draw_coverage(
    pieces: tuple[Piece, ...], size: tuple[int, int], matrix: Points, offset: Points, oversampling: int
) -> pillow.Image:
    """How much of each pixel a shape covers, as a greyscale picture of 0..255.

    Args:
        pieces: The shape.
        size: Width and height of the picture.
        matrix: `[2, 2]`, from the shape's coordinates to pixels.
        offset: `[2]`, where the shape's origin lies, pixels.
        oversampling: How many samples a pixel has each way.
    """
    image = pillow.new("L", (size[0] * oversampling, size[1] * oversampling))
    pen = ImageDraw.Draw(image)
    scale = oversampling * abs(float(np.linalg.det(matrix))) ** 0.5
    for piece in pieces:
        points = (piece.points @ matrix.T + offset) * oversampling - 0.5
        flat, ink = points.ravel().tolist(), 0 if piece.cut else 255
        if not piece.stroke:
            pen.polygon(flat, fill=ink)
            continue
        width = piece.stroke * scale
        pen.line(flat, fill=ink, width=max(1, round(width)), joint="curve")
        for x, y in (points[0], points[-1]):
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=ink)
    return image.reduce(oversampling)


def reach_of(outline: Outline) -> float:
    """How far a shape reaches from its origin."""
    return max(float(np.hypot(*piece.points.T).max()) + piece.stroke / 2 for piece in outline(0.0))


def area_of(outline: Outline) -> float:
    """The area of a shape, to about a percent."""
    side = 120
    matrix, offset = np.eye(2) * side / 3, np.array([side / 2, side / 2])
    coverage = np.asarray(draw_coverage(outline(0.0), (side, side), matrix, offset, 2), np.float64)
    return float(coverage.sum()) / 255 * (3 / side) ** 2


def _rigid(*pieces: Piece) -> Outline:
    return lambda phase: pieces


def _polar(radii: npt.NDArray[np.float64], angles: npt.NDArray[np.float64]) -> Points:
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _circle(radius: float) -> Points:
    return _polar(np.full(32, radius), np.linspace(0, 2 * np.pi, 32, endpoint=False))


def _dense(points: Points, *, closed: bool = False) -> Points:
    """The same line with points at most `STEP` apart."""
    if closed:
        points = np.concatenate([points, points[:1]])
    parts = [points[:1]]
    for start, end in pairwise(points):
        count = max(1, int(np.ceil(np.hypot(*(end - start)) / STEP)))
        parts.append(start + (end - start) * (np.arange(1, count + 1) / count)[:, None])
    return np.concatenate(parts)
