"""What is drawn over each frame of a video of tracked objects, straight into its YUV planes.

Each object has a colour: its mask is filled with it, translucent, within a line around it; a trail that fades shows
where its centroid was; a tag beside it carries its number and score. Objects that are out of sight are listed in a
corner.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image as pillow
from PIL import ImageDraw

from ..events import Mask
from ..tracking.rle import MaskArray, decode_rle
from .drawing import DARK, DIM, WHITE, Color, font, object_color
from .planes import Plane, Planes
from .video_writer import Place

Rgba = npt.NDArray[np.uint8]
"""A picture to lay over another one, uint8 `[height, width, 4]`."""

FILL = 0.38
"""Opacity of the inside of a mask."""
TRAIL_SECONDS = 1.5
TRAIL_POINTS = 128

Spot = tuple[float, float, float]
"""Time in seconds, x and y in pixels of the video."""


class TrackedOverlay:
    """Draws on the frames of one video, in order.

    Args:
        width: Of the video, pixels, even.
        height: Of the video, pixels, even.
    """

    def __init__(self, width: int, height: int) -> None:
        self._type = max(13, min(width, height) // 32)
        self._reach = 1 if min(width, height) < 600 else 2
        self._contour = _contour_table(self._reach)
        self._trails: dict[int, deque[Spot]] = {}

    def draw(self, planes: Planes, place: Place, time: float, masks: Sequence[Mask]) -> None:
        """Draw on one frame.

        Args:
            planes: The picture; it is drawn into.
            place: Where the frame lies in the picture.
            time: Its time in seconds.
            masks: The objects on it, present ones and others.
        """
        shapes = {mask.object: _Shape.of(mask, place) for mask in masks if mask.box is not None}
        for number, shape in shapes.items():
            self._fill(planes, shape, object_color(number))
        for number, trail in self._followed(time, shapes).items():
            self._draw_trail(planes, trail, time, object_color(number))
        taken: list[Place] = []
        for mask in masks:
            if mask.object in shapes:
                tag = _tag(mask.object, f"{mask.score:.2f}", self._type)
                taken.append(_lay_beside(planes, tag, shapes[mask.object], taken))
        hidden = tuple(mask.object for mask in masks if mask.object not in shapes)
        if hidden:
            margin = _even(self._type)
            _lay(planes, _corner(hidden, self._type), margin, margin)

    def _fill(self, planes: Planes, shape: _Shape, color: Color) -> None:
        """The inside and the line around it in one go, from how much of each pixel's neighbourhood is inside."""
        reach = self._reach
        left, top = _even(shape.left - reach), _even(shape.top - reach)
        height, width = shape.inside.shape
        # One more pixel than the line needs, where the corner has to move to an even place.
        ground = np.zeros((_even(height + 2 * reach + 3), _even(width + 2 * reach + 3)), np.uint8)
        ground[shape.top - top :, shape.left - left :][:height, :width] = shape.inside
        _paint(planes, color, self._contour[_neighbours(ground, reach)], left, top)

    def _followed(self, time: float, shapes: dict[int, _Shape]) -> dict[int, deque[Spot]]:
        """The trails with this frame's places, without those that have faded."""
        for number, shape in shapes.items():
            x, y = shape.centroid()
            self._trails.setdefault(number, deque(maxlen=TRAIL_POINTS)).append((time, x, y))
        for number, trail in list(self._trails.items()):
            while trail and trail[0][0] < time - TRAIL_SECONDS:
                trail.popleft()
            if not trail:
                del self._trails[number]
        return self._trails

    def _draw_trail(self, planes: Planes, trail: Sequence[Spot], time: float, color: Color) -> None:
        """A line that grows paler and thinner with age, drawn at twice its size so that it has smooth edges."""
        thick = self._reach * 2
        spots = np.array(trail)
        left, top = (_even(int(low) - 2 * thick) for low in spots[:, 1:].min(axis=0))
        right, bottom = (int(high) + 2 * thick for high in spots[:, 1:].max(axis=0))
        sheet = pillow.new("L", (2 * _even(right - left + 2), 2 * _even(bottom - top + 2)))
        draw = ImageDraw.Draw(sheet)
        places = [(2 * (x - left), 2 * (y - top)) for _, x, y in trail]
        fresh = [1 - (time - then) / TRAIL_SECONDS for then, _, _ in trail]
        for (start, end), strength in zip(pairwise(places), fresh[1:], strict=True):
            draw.line((start, end), round(255 * strength), max(2, round(2 * thick * strength)))
        if trail[-1][0] == time:
            x, y = places[-1]
            draw.ellipse((x - 2 * thick, y - 2 * thick, x + 2 * thick, y + 2 * thick), 255)
        _paint(planes, _lighter(color), np.asarray(sheet.reduce(2)), left, top)


class _Shape:
    """A mask in pixels of the video: what lies inside, and where its upper left corner is."""

    def __init__(self, inside: MaskArray, left: int, top: int) -> None:
        self.inside, self.left, self.top = inside, left, top

    @classmethod
    def of(cls, event: Mask, place: Place) -> _Shape:
        """The mask of an event that has a box, which may have come from JSON."""
        assert event.box is not None
        mask = decode_rle(event.rle) if event.mask is None else event.mask
        x0, y0, x1, y1 = (int(edge) for edge in event.box)
        height, width = mask.shape
        if (width, height) == (place.width, place.height):
            return cls(mask[y0:y1, x0:x1], place.left + x0, place.top + y0)
        across, down = place.width / width, place.height / height
        left, top = int(x0 * across), int(y0 * down)
        size = max(1, int(np.ceil(x1 * across)) - left), max(1, int(np.ceil(y1 * down)) - top)
        # Of the mask, only what can reach the smaller or larger picture of the box is resized.
        x0, y0, x1, y1 = max(0, x0 - 2), max(0, y0 - 2), min(width, x1 + 2), min(height, y1 + 2)
        part = pillow.fromarray(mask[y0:y1, x0:x1].astype(np.uint8) * 255)
        edges = left / across - x0, top / down - y0, (left + size[0]) / across - x0, (top + size[1]) / down - y0
        window = max(0.0, edges[0]), max(0.0, edges[1]), min(part.width, edges[2]), min(part.height, edges[3])
        resized = part.resize(size, pillow.Resampling.BILINEAR, box=window)
        return cls(np.asarray(resized) >= 128, place.left + left, place.top + top)

    def centroid(self) -> tuple[float, float]:
        """The mean of its pixels; the middle where a tiny mask has none left."""
        height, width = self.inside.shape
        columns = np.count_nonzero(self.inside, axis=0)
        count = int(columns.sum())
        if not count:
            return self.left + width / 2, self.top + height / 2
        rows = np.count_nonzero(self.inside, axis=1)
        x, y = columns @ np.arange(width) / count, rows @ np.arange(height) / count
        return self.left + float(x) + 0.5, self.top + float(y) + 0.5


def _neighbours(ground: Plane, reach: int) -> Plane:
    """How many of the (2 reach + 1)² pixels around each are set; `ground` has a margin of `reach` that is not."""
    for axis in (0, 1):
        total = ground.copy()
        for step in range(1, reach + 1):
            ahead, behind = _shifted(ground, total, step, axis)
            ahead[0][...] += ahead[1]
            behind[0][...] += behind[1]
        ground = total
    return ground


def _shifted(ground: Plane, total: Plane, step: int, axis: int) -> tuple[tuple[Plane, Plane], tuple[Plane, Plane]]:
    """Pairs of views: a part of `total`, and the part of `ground` that lies `step` further on, or back."""
    if axis == 0:
        return (total[:-step], ground[step:]), (total[step:], ground[:-step])
    return (total[:, :-step], ground[:, step:]), (total[:, step:], ground[:, :-step])


def _contour_table(reach: int) -> Plane:
    """Opacity by the number of neighbours inside: the line where about half are, the filling where more are."""
    inside = np.linspace(0, 1, (2 * reach + 1) ** 2 + 1)
    line = np.clip(1.5 * (1 - np.abs(2 * inside - 1)), 0, 1)
    return np.asarray(np.round(255 * (line + (1 - line) * FILL * inside)), np.uint8)


@lru_cache(maxsize=256)
def _tag(number: int, score: str, size: int) -> Rgba:
    """The object's number in large type and its score in small type on its colour."""
    color = object_color(number)
    ink = DARK if _is_light(color) else WHITE
    large, small = font(size), font(max(11, size * 3 // 4))
    pad = max(3, size // 3)
    width = 3 * pad + large.getlength(str(number)) + small.getlength("0.00")
    image = pillow.new("RGBA", (_even(round(width) + 1), _even(round(size * 1.5))), (*color, 0))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, image.width - 1, image.height - 1), pad, (*color, 235))
    draw.text((pad, image.height // 2), str(number), ink, large, anchor="lm")
    draw.text((image.width - pad, image.height // 2), score, ink, small, anchor="rm")
    return np.asarray(image)


@lru_cache(maxsize=64)
def _corner(hidden: tuple[int, ...], size: int) -> Rgba:
    """A list of the objects that cannot be seen."""
    title, face, pad = "out of sight", font(max(12, size * 7 // 8)), max(4, size // 2)
    widths = [face.getlength(str(number)) for number in hidden]
    chip = max(6, size // 2)
    width = round(2 * pad + face.getlength(title) + sum(widths) + len(hidden) * (chip + 2 * pad))
    image = pillow.new("RGBA", (_even(width), _even(size * 2)), (*DARK, 0))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, image.width - 1, image.height - 1), pad, (*DARK, 185))
    middle = image.height // 2
    draw.text((pad, middle), title, DIM, face, anchor="lm")
    x = pad + face.getlength(title)
    for number, length in zip(hidden, widths, strict=True):
        x += pad * 3 // 2
        draw.rectangle((x, middle - chip // 2, x + chip - 1, middle + (chip - 1) // 2), (*object_color(number), 255))
        x += chip + pad // 2
        draw.text((x, middle), str(number), WHITE, face, anchor="lm")
        x += length
    return np.asarray(image)


def _lay_beside(planes: Planes, tag: Rgba, shape: _Shape, taken: Sequence[Place]) -> Place:
    """Lay the tag over the shape, or under it or into it where it would leave the picture or cover another tag."""
    height, width = tag.shape[:2]
    bottom = shape.top + shape.inside.shape[0]
    left = _even(max(0, min(shape.left, planes.width - width)))
    lowest = max(0, planes.height - height)
    choices = [
        Place(left, _even(max(0, min(top, lowest))), width, height)
        for top in (shape.top - height - 4, bottom + 4, shape.top + 4, bottom - height - 4)
        if 0 <= top <= lowest
    ]
    choices = choices or [Place(left, _even(min(max(0, shape.top), lowest)), width, height)]
    chosen = next((each for each in choices if not any(_overlap(each, other) for other in taken)), choices[0])
    _lay(planes, tag, chosen.left, chosen.top)
    return chosen


def _overlap(one: Place, other: Place) -> bool:
    across = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    down = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    return across > 0 and down > 0


def _lay(planes: Planes, patch: Rgba, left: int, top: int) -> None:
    """As much of an RGBA patch as fits into the picture; its corner, which lies inside, is even."""
    patch = patch[: planes.height - top, : planes.width - left]
    if patch.size:
        planes.blend(patch, left, top)


def _paint(planes: Planes, color: Color, alpha: Plane, left: int, top: int) -> None:
    """`Planes.paint` of as much as lies in the picture."""
    skip_x, skip_y = max(0, -left), max(0, -top)
    left, top = left + skip_x, top + skip_y
    alpha = alpha[skip_y : skip_y + planes.height - top, skip_x : skip_x + planes.width - left]
    if alpha.size and left < planes.width and top < planes.height:
        planes.paint(color, alpha, left, top)


def _lighter(color: Color) -> Color:
    red, green, blue = ((value + 2 * 255) // 3 for value in color)
    return red, green, blue


def _is_light(color: Color) -> bool:
    return 0.2126 * color[0] + 0.7152 * color[1] + 0.0722 * color[2] > 110


def _even(number: int) -> int:
    """The largest even number up to this one, also below zero."""
    return number // 2 * 2
