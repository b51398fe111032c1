"""Sprites: small flat objects with a shape and a colour, the things that move through nano's training scenes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

SHAPES = (
    "disc", "ring", "square", "triangle", "star", "plus", "diamond", "crescent",
    "heart", "arrow", "hexagon", "half_disc", "corner", "tee", "zigzag", "bar",
)  # fmt: skip
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.12, 0.12), "orange": (0.95, 0.5, 0.1), "yellow": (0.95, 0.88, 0.2), "green": (0.15, 0.65, 0.2),
    "cyan": (0.15, 0.8, 0.85), "blue": (0.15, 0.25, 0.85), "purple": (0.5, 0.15, 0.7), "pink": (0.95, 0.5, 0.7),
    "brown": (0.45, 0.28, 0.12), "white": (0.95, 0.95, 0.95), "grey": (0.5, 0.5, 0.5), "black": (0.06, 0.06, 0.06),
}  # fmt: skip


def _regular(corners: int, turn: float = -90.0, inner: float | None = None) -> list[tuple[float, float]]:
    """Corners of a regular polygon, or of a star when `inner` gives the ratio of its notches."""
    count = corners if inner is None else 2 * corners
    radii = [1.0 if inner is None or i % 2 == 0 else inner for i in range(count)]
    angles = np.radians(turn + 360.0 / count * np.arange(count))
    return [(float(r * np.cos(a)), float(r * np.sin(a))) for r, a in zip(radii, angles, strict=True)]


_POLYGONS: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "triangle": _regular(3),
    "star": _regular(5, inner=0.42),
    "plus": [(-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3), (0.3, 1), (-0.3, 1), (-0.3, 0.3),
             (-1, 0.3), (-1, -0.3), (-0.3, -0.3)],
    "diamond": [(0, -1), (0.6, 0), (0, 1), (-0.6, 0)],
    "arrow": [(-1, -0.3), (0.1, -0.3), (0.1, -0.8), (1, 0), (0.1, 0.8), (0.1, 0.3), (-1, 0.3)],
    "hexagon": _regular(6),
    "corner": [(-0.9, -0.9), (-0.2, -0.9), (-0.2, 0.2), (0.9, 0.2), (0.9, 0.9), (-0.9, 0.9)],
    "tee": [(-0.9, -0.9), (0.9, -0.9), (0.9, -0.3), (0.3, -0.3), (0.3, 0.9), (-0.3, 0.9), (-0.3, -0.3), (-0.9, -0.3)],
    "zigzag": [(-1, -0.8), (0.3, -0.8), (0.1, -0.1), (1, -0.1), (-0.4, 1), (0, 0.2), (-0.9, 0.2)],
    "bar": [(-1, -0.32), (1, -0.32), (1, 0.32), (-1, 0.32)],
}  # fmt: skip


def shape_mask(name: str, size: int = 64) -> npt.NDArray[np.float32]:
    """The coverage `[size, size]` in 0..1 of a named shape that fills its square, with smooth edges."""
    big = size * 4
    image = Image.new("L", (big, big), 0)
    pen = ImageDraw.Draw(image)

    def box(radius: float, dx: float = 0.0, dy: float = 0.0) -> tuple[float, float, float, float]:
        middle = big / 2
        reach = radius * middle
        return (
            middle + dx * middle - reach,
            middle + dy * middle - reach,
            middle + dx * middle + reach,
            middle + dy * middle + reach,
        )

    def polygon(points: list[tuple[float, float]]) -> None:
        pen.polygon([((x + 1) * big / 2, (y + 1) * big / 2) for x, y in points], fill=255)

    match name:
        case "disc":
            pen.ellipse(box(0.95), fill=255)
        case "ring":
            pen.ellipse(box(0.95), fill=255)
            pen.ellipse(box(0.5), fill=0)
        case "crescent":
            pen.ellipse(box(0.95), fill=255)
            pen.ellipse(box(0.8, 0.45), fill=0)
        case "half_disc":
            pen.pieslice(box(0.95, 0.0, 0.3), 180, 360, fill=255)
        case "heart":
            pen.ellipse(box(0.5, -0.45, -0.4), fill=255)
            pen.ellipse(box(0.5, 0.45, -0.4), fill=255)
            polygon([(-0.9, -0.2), (0.9, -0.2), (0, 0.95)])
        case _:
            polygon(_POLYGONS[name])
    coverage = np.asarray(image.resize((size, size), Image.Resampling.BOX), dtype=np.float32)
    return np.asarray(coverage / 255, dtype=np.float32)
