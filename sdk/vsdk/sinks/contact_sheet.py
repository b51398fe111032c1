"""The contact sheet: a video on one page, one picture a scene."""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass

from PIL import Image as pillow
from PIL import ImageDraw

from ..events import End, Event, Scene, Start
from ..frame import Image
from .drawing import clock, duration, fit_text, font, scene_color
from .file_sink import FileSink, check_writable, replacing

MAX_PICTURES = 512
PICTURE_EDGE = 480

WIDTH = 1600
MARGIN = 40
GAP = 16
MAX_COLUMNS = 12
BACKGROUND = (24, 25, 28)
EMPTY = (38, 40, 45)
BRIGHT = (236, 237, 240)
DIM = (150, 153, 161)


@dataclass(frozen=True)
class _Cell:
    """One scene of the sheet, with its picture as JPEG so that hundreds of them stay small in memory."""

    index: int
    start: float
    end: float
    jpeg: bytes | None
    aspect: float | None


class ContactSheet(FileSink):
    """Draws a PNG with a picture of each scene, its index, times and length, and a bar of the scenes' proportions.

    The file is written when the sink is closed, and appears whole. Memory is bounded: of more than `MAX_PICTURES`
    scenes every second one is kept, of twice as many every fourth, and so on; the sheet says so.

    Args:
        path: The PNG file, which is replaced.

    Raises:
        SinkError: The file cannot be written there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        with self._failures_named():
            self._target = check_writable(self.path)
        self._cells: list[_Cell] = []
        self._stride = 1
        self._scenes = 0
        self._end = 0.0
        self._source = ""
        self._bundle = ""
        self._remark = ""

    def _take_event(self, event: Event) -> None:
        if isinstance(event, Start):
            self._source, self._bundle = event.source, event.bundle
        elif isinstance(event, End):
            if event.reason != "end":
                self._remark = f"stopped early ({event.reason})"
        elif isinstance(event, Scene):
            self._take_scene(event)

    def _take_scene(self, scene: Scene) -> None:
        if self._scenes % self._stride == 0:
            jpeg, aspect = _compressed(scene.picture) if scene.picture is not None else (None, None)
            self._cells.append(_Cell(scene.index, scene.start, scene.end, jpeg, aspect))
        self._scenes += 1
        self._end = scene.end
        if len(self._cells) > MAX_PICTURES:
            self._cells = self._cells[::2]
            self._stride *= 2

    def _finish(self) -> None:
        sheet = self._draw()
        with replacing(self._target) as file:
            sheet.save(file, "PNG")

    def _draw(self) -> pillow.Image:
        grid = _Grid.of(self._cells)
        sheet = pillow.new("RGB", (WIDTH, grid.top + grid.height + MARGIN), BACKGROUND)
        draw = ImageDraw.Draw(sheet)
        self._draw_title(draw)
        self._draw_timeline(draw, grid.top - 44)
        for place, cell in enumerate(self._cells):
            grid.draw(sheet, draw, place, cell)
        return sheet

    def _draw_title(self, draw: ImageDraw.ImageDraw) -> None:
        inner = WIDTH - 2 * MARGIN
        title = fit_text(self._source or "no source", font(34), inner)
        draw.text((MARGIN, MARGIN - 6), title, BRIGHT, font(34))
        plural = "" if self._scenes == 1 else "s"
        parts = [f"{self._scenes} scene{plural}" if self._scenes else "No scenes were found"]
        if self._cells:
            parts.append(duration(self._end - self._cells[0].start))
        if self._stride > 1:
            parts.append(f"showing one of every {self._stride}")
        parts += [part for part in (self._bundle, self._remark) if part]
        draw.text((MARGIN, MARGIN + 42), fit_text("  ·  ".join(parts), font(19), inner), DIM, font(19))

    def _draw_timeline(self, draw: ImageDraw.ImageDraw, top: int) -> None:
        """A bar over the whole length of the video, one colour a scene."""
        left, right = MARGIN, WIDTH - MARGIN
        draw.rounded_rectangle((left, top, right - 1, top + 13), 4, EMPTY)
        if not self._cells or self._end <= self._cells[0].start:
            return
        begin = self._cells[0].start
        pixels = (right - left) / (self._end - begin)
        ends = [cell.start for cell in self._cells[1:]] + [self._end]
        for cell, end in zip(self._cells, ends, strict=True):
            x0 = left + (cell.start - begin) * pixels
            x1 = left + (end - begin) * pixels
            if x1 - x0 > 6 and end < self._end:
                x1 -= 2  # a hair line between scenes, where there is room for it
            draw.rectangle((round(x0), top, max(round(x0), round(x1) - 1), top + 13), scene_color(cell.index))


@dataclass(frozen=True)
class _Grid:
    """Where pictures go: all cells have one size; pictures keep their aspect within it."""

    columns: int
    rows: int
    width: int
    picture_height: int
    text: int
    top: int = MARGIN + 144

    @classmethod
    def of(cls, cells: list[_Cell]) -> _Grid:
        """Few scenes get large pictures, many get small ones; the page keeps its width."""
        aspects = [cell.aspect for cell in cells if cell.aspect is not None]
        aspect = min(max(aspects[0] if aspects else 16 / 9, 0.5), 2.4)
        # About as many rows as columns, measured in the pictures' own shape; never fewer than three columns.
        columns = min(max(3, round(math.sqrt(len(cells) * 1.3 / aspect * 16 / 9))), MAX_COLUMNS)
        width = (WIDTH - 2 * MARGIN - (columns - 1) * GAP) // columns
        text = min(max(width // 15, 12), 20)
        return cls(columns, math.ceil(len(cells) / columns), width, round(width / aspect), text)

    @property
    def caption(self) -> int:
        return round(self.text * 3.2) + 8

    @property
    def height(self) -> int:
        return max(0, self.rows * (self.picture_height + self.caption + GAP) - GAP)

    def draw(self, sheet: pillow.Image, draw: ImageDraw.ImageDraw, place: int, cell: _Cell) -> None:
        """Picture, a line in the scene's colour, then index and length, then times."""
        row, column = divmod(place, self.columns)
        left = MARGIN + column * (self.width + GAP)
        top = self.top + row * (self.picture_height + self.caption + GAP)
        bottom = top + self.picture_height
        draw.rectangle((left, top, left + self.width - 1, bottom - 1), EMPTY)
        if cell.jpeg is not None:
            picture = _fitted(cell.jpeg, self.width, self.picture_height)
            inset = (self.width - picture.width) // 2, (self.picture_height - picture.height) // 2
            sheet.paste(picture, (left + inset[0], top + inset[1]))
        else:
            draw.text((left + self.width / 2, (top + bottom) / 2), "no picture", DIM, font(self.text), anchor="mm")
        draw.rectangle((left, bottom, left + self.width - 1, bottom + 3), scene_color(cell.index))
        face, small = font(self.text), font(max(self.text - 2, 11))
        line = bottom + 8
        draw.text((left, line), str(cell.index), BRIGHT, face)
        draw.text((left + self.width, line), duration(cell.end - cell.start), BRIGHT, face, anchor="ra")
        times = f"{clock(cell.start)} - {clock(cell.end)}"
        if small.getlength(times) > self.width:
            times = clock(cell.start)
        draw.text((left, line + round(self.text * 1.45)), times, DIM, small)


def _compressed(picture: Image) -> tuple[bytes, float]:
    """JPEG of at most `PICTURE_EDGE` pixels, and width over height."""
    image = pillow.fromarray(picture)
    image.thumbnail((PICTURE_EDGE, PICTURE_EDGE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue(), picture.shape[1] / picture.shape[0]


def _fitted(jpeg: bytes, width: int, height: int) -> pillow.Image:
    """The picture, as large as fits."""
    image = pillow.open(io.BytesIO(jpeg))
    scale = min(width / image.width, height / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, pillow.Resampling.LANCZOS)
