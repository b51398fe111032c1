"""Line charts as PNG, drawn with Pillow: enough to see how something grows, without another dependency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image as pillow
from PIL import ImageDraw

from ..sinks.drawing import Color, fit_text, font

WIDTH, HEIGHT = 1400, 840
LEFT, RIGHT, TOP, BOTTOM = 130, 60, 180, 110
BACKGROUND = (24, 25, 28)
GRID = (48, 50, 56)
BRIGHT = (236, 237, 240)
DIM = (150, 153, 161)
COLORS: tuple[Color, ...] = ((92, 190, 255), (255, 158, 87), (126, 214, 137), (232, 121, 183))


@dataclass(frozen=True)
class Curve:
    """One line of a chart: its name, and its points from left to right."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Axis:
    """What an axis says, and whether it is logarithmic (all values must then be above 0)."""

    label: str
    log: bool = False


def line_chart(title: str, remark: str, curves: Sequence[Curve], x: Axis, y: Axis) -> pillow.Image:
    """Draw curves into one pair of axes.

    Args:
        title: First line.
        remark: Smaller, below it: how to read the picture.
        curves: At least one, each with at least one point.
        x, y: The axes; linear ones start at zero.
    """
    picture = pillow.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    draw.text((LEFT, 36), fit_text(title, font(32), WIDTH - LEFT - RIGHT), BRIGHT, font(32))
    draw.text((LEFT, 84), fit_text(remark, font(19), WIDTH - LEFT - RIGHT), DIM, font(19))
    across = _Scale(x, [value for curve in curves for value in curve.x], LEFT, WIDTH - RIGHT)
    upward = _Scale(y, [value for curve in curves for value in curve.y], HEIGHT - BOTTOM, TOP)
    for tick in across.ticks():
        place = across.place(tick)
        draw.line((place, TOP, place, HEIGHT - BOTTOM), GRID)
        draw.text((place, HEIGHT - BOTTOM + 12), _number(tick), DIM, font(18), anchor="ma")
    for tick in upward.ticks():
        place = upward.place(tick)
        draw.line((LEFT, place, WIDTH - RIGHT, place), GRID)
        draw.text((LEFT - 14, place), _number(tick), DIM, font(18), anchor="rm")
    draw.text(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 44), x.label, BRIGHT, font(20), anchor="mm")
    draw.text((LEFT, TOP - 24), y.label, BRIGHT, font(20), anchor="ls")
    for number, curve in enumerate(curves):
        color = COLORS[number % len(COLORS)]
        points = [(across.place(a), upward.place(b)) for a, b in zip(curve.x, curve.y, strict=True)]
        draw.line(points, color, 4, joint="curve")
        for left, top in points:
            draw.ellipse((left - 5, top - 5, left + 5, top + 5), color)
    _legend(draw, [curve.name for curve in curves])
    return picture


def _legend(draw: ImageDraw.ImageDraw, names: Sequence[str]) -> None:
    """Names with their colours, from the right edge to the left, above the picture's frame."""
    right = WIDTH - RIGHT
    for number in reversed(range(len(names))):
        left = right - font(20).getlength(names[number])
        draw.text((left, TOP - 24), names[number], BRIGHT, font(20), anchor="ls")
        draw.rectangle((left - 30, TOP - 34, left - 12, TOP - 30), COLORS[number % len(COLORS)])
        right = round(left) - 60


class _Scale:
    """Where values of an axis lie, in pixels."""

    def __init__(self, axis: Axis, values: Sequence[float], first: int, last: int) -> None:
        self._log = axis.log
        self._first, self._last = first, last
        if axis.log:
            self._low, self._high = math.floor(math.log10(min(values))), math.log10(max(values) * 1.05)
        else:
            self._low, self._high = 0, max(values) * 1.05
        if self._high <= self._low:
            self._high = self._low + 1

    def place(self, value: float) -> float:
        value = math.log10(value) if self._log else value
        return self._first + (value - self._low) / (self._high - self._low) * (self._last - self._first)

    def ticks(self) -> list[float]:
        """Powers of ten, or about six round numbers."""
        if self._log:
            return [10.0**power for power in range(math.ceil(self._low), math.floor(self._high) + 1)]
        step = 10 ** math.floor(math.log10(self._high / 3))
        step *= next(factor for factor in (1, 2, 5, 10) if self._high / (step * factor) <= 6)
        return [step * count for count in range(math.floor(self._high / step) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:g}"
