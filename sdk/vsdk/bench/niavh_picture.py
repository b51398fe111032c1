"""The heat-maps of a needle test as one picture: a panel for each contender, lengths across, depths down."""

from __future__ import annotations

from itertools import pairwise

from PIL import Image as pillow
from PIL import ImageDraw

from ..sinks.drawing import Color, font
from .niavh_report import NiavhReport

Box = tuple[int, int, int, int]

BACKGROUND: Color = (24, 25, 28)
BRIGHT: Color = (236, 237, 240)
DIM: Color = (150, 153, 161)
RAMP: tuple[tuple[float, Color], ...] = (
    (0.0, (158, 42, 54)), (0.25, (222, 116, 84)), (0.5, (248, 218, 150)), (0.75, (124, 196, 146)),
    (1.0, (34, 142, 112)),
)  # fmt: skip
"""From wrong (red) to right (green); light in the middle, so that it also reads in grey and without red and green."""

TITLES = {
    "memory": "memory bridge, cache and retrieval",
    "no_retrieval": "the bridge without retrieval",
    "last_n": "the last {window} frames",
    "mean": "{window} running means",
}
CELL_WIDTH, CELL_HEIGHT = 17, 19
MARGIN, GAP = 44, 40
HEADER, PANEL_HEADER, AXIS, LEFT = 96, 58, 40, 62
TICKS = 6


def picture_of(report: NiavhReport) -> pillow.Image:
    """The picture: four panels, two by two."""
    across = max(LEFT + CELL_WIDTH * len(report.lengths), 420)
    down = PANEL_HEADER + CELL_HEIGHT * len(report.depths) + AXIS
    size = (2 * MARGIN + 2 * across + GAP, HEADER + 2 * down + GAP + MARGIN + 26)
    image = pillow.new("RGB", size, BACKGROUND)
    pen = ImageDraw.Draw(image)
    pen.text((MARGIN, 26), "A needle shown for one second, asked for at the end", BRIGHT, font(26))
    pen.text((MARGIN, 62), _subtitle(report), DIM, font(15))
    for number, name in enumerate(TITLES):
        corner = (MARGIN + (number % 2) * (across + GAP), HEADER + number // 2 * (down + GAP))
        _panel(pen, report, name, corner)
    _legend(pen, (MARGIN + LEFT, size[1] - MARGIN), report)
    return image


def _subtitle(report: NiavhReport) -> str:
    needles = len(report.outcomes)
    return (
        f"{needles} needles of {report.classes} classes in videos of {min(report.lengths)} to {max(report.lengths)} s "
        f"at one frame a second; haystacks: {report.haystack}; bundle {report.bundle} {report.digest[:8]}"
    )


def _panel(pen: ImageDraw.ImageDraw, report: NiavhReport, name: str, corner: tuple[int, int]) -> None:
    x, y = corner
    rate = report.rate(name)
    low, high = rate.bounds
    pen.text((x + LEFT, y + 2), TITLES[name].format(window=report.window), BRIGHT, font(18))
    figures = f"{100 * rate.accuracy:.1f} %  ({100 * low:.1f} to {100 * high:.1f})"
    pen.text((x + LEFT, y + 27), f"{figures}, {report.floats[name]:,} floats", DIM, font(15))
    left, top = x + LEFT, y + PANEL_HEADER
    for cell in report.cells:
        column, row = report.lengths.index(cell.length), report.depths.index(cell.depth)
        pen.rectangle(_cell((left, top), column, row), fill=color_of(cell.rates[name].accuracy))
    _trained(pen, report, (left, top))
    _axes(pen, report, (left, top))


def _cell(origin: tuple[int, int], column: int, row: int) -> Box:
    x, y = origin[0] + column * CELL_WIDTH, origin[1] + row * CELL_HEIGHT
    return x, y, x + CELL_WIDTH - 2, y + CELL_HEIGHT - 2


def _trained(pen: ImageDraw.ImageDraw, report: NiavhReport, origin: tuple[int, int]) -> None:
    """A line behind the last column that is not longer than the videos of training."""
    columns = sum(length <= report.trained_length for length in report.lengths)
    if 0 < columns < len(report.lengths):
        x = origin[0] + columns * CELL_WIDTH - 1
        bottom = origin[1] + len(report.depths) * CELL_HEIGHT
        for y in range(origin[1] - 6, bottom + 4, 7):
            pen.line((x, y, x, min(y + 3, bottom + 4)), fill=BRIGHT, width=1)


def _axes(pen: ImageDraw.ImageDraw, report: NiavhReport, origin: tuple[int, int]) -> None:
    left, top = origin
    small = font(13)
    bottom = top + len(report.depths) * CELL_HEIGHT
    for column in _spread(len(report.lengths)):
        x = left + column * CELL_WIDTH + CELL_WIDTH // 2
        pen.text((x, bottom + 6), f"{report.lengths[column]} s", DIM, small, anchor="ma")
    for row in _spread(len(report.depths)):
        y = top + row * CELL_HEIGHT + CELL_HEIGHT // 2
        pen.text((left - 8, y), f"{report.depths[row]} %", DIM, small, anchor="rm")


def _spread(count: int) -> list[int]:
    """At most `TICKS` of so many positions, with the first and the last."""
    ticks = min(TICKS, count)
    return sorted({round(tick * (count - 1) / max(ticks - 1, 1)) for tick in range(ticks)})


def _legend(pen: ImageDraw.ImageDraw, corner: tuple[int, int], report: NiavhReport) -> None:
    x, y = corner
    small = font(13)
    for step in range(101):
        pen.rectangle((x + 2 * step, y - 10, x + 2 * step + 1, y), fill=color_of(step / 100))
    pen.text((x - 8, y - 5), "wrong", DIM, small, anchor="rm")
    pen.text((x + 210, y - 5), "right", DIM, small, anchor="lm")
    says = (
        f"across: length of the video; down: where in it the needle was; dashed: the longest video in training "
        f"({report.trained_length} s); a guess is right in {100 * report.chance:.1f} %"
    )
    pen.text((x + 264, y - 5), says, DIM, small, anchor="lm")


def color_of(share: float) -> Color:
    """The colour of a share of right answers, 0..1."""
    for (below, one), (above, other) in pairwise(RAMP):
        if share <= above:
            part = (share - below) / (above - below)
            red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
            return red, green, blue
    return RAMP[-1][1]
