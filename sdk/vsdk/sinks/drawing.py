"""What the pictures of all sinks share: colours of scenes and objects, how times are written, and the typeface."""

from __future__ import annotations

import colorsys
from functools import lru_cache
from typing import cast

from PIL import ImageFont

Color = tuple[int, int, int]

DARK = (18, 18, 20)
WHITE = (255, 255, 255)
DIM = (196, 198, 204)

GOLDEN_RATIO = 0.618033988749895

OBJECT_COLORS: tuple[Color, ...] = (
    (86, 180, 233),  # sky blue
    (230, 159, 0),  # orange
    (0, 158, 115),  # bluish green
    (204, 121, 167),  # reddish purple
    (240, 228, 66),  # yellow
    (213, 94, 0),  # vermilion
    (0, 114, 178),  # blue
)
"""Colours that colour-blind people can tell apart: Okabe and Ito, "Color Universal Design", 2008; black is left out."""


def scene_color(index: int) -> Color:
    """The colour that marks a scene; neighbours are far apart on the colour wheel."""
    red, green, blue = colorsys.hls_to_rgb((0.56 + index * GOLDEN_RATIO) % 1.0, 0.62, 0.62)
    return round(red * 255), round(green * 255), round(blue * 255)


def object_color(number: int) -> Color:
    """The colour that marks a tracked object."""
    return OBJECT_COLORS[(number - 1) % len(OBJECT_COLORS)]


def clock(seconds: float) -> str:
    """A time as people write it: `0:07.5`, `12:03.0`, `1:02:03.4`."""
    tenths = round(abs(seconds) * 10)
    sign = "-" if seconds < 0 and tenths else ""
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    rest = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{sign}{hours}:{minutes:02d}:{rest}" if hours else f"{sign}{minutes}:{rest}"


def duration(seconds: float) -> str:
    """A length of time: `0.8 s`, `42.0 s`, and `1:15.0` from a minute on."""
    return f"{seconds:.1f} s" if round(seconds, 1) < 60 else clock(seconds)


@lru_cache(maxsize=32)
def font(size: int) -> ImageFont.FreeTypeFont:
    """The typeface that Pillow brings along, in pixels."""
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))


def fit_text(text: str, face: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, or as much of its beginning as fits into `width` pixels, with dots."""
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..." if text else ""
