"""A comparison with PyTorch as one picture: a bar for each contender, as long as it is fast."""

from __future__ import annotations

from PIL import Image as pillow
from PIL import ImageDraw

from vsdk.bench.chart import BACKGROUND, BRIGHT, COLORS, DIM, GRID
from vsdk.sinks.drawing import fit_text, font

from .report import Against

WIDTH, MARGIN, LEFT, BAR, GAP = 1400, 60, 400, 30, 14
_TITLE, _GROUP = 130, 56


def picture_of(report: Against) -> pillow.Image:
    """The picture: a group of bars for each component, lengths as ratios to the first of the group."""
    groups = [(component, report.of(component)) for component in report.components()]
    height = _TITLE + sum(_GROUP + len(rows) * (BAR + GAP) for _, rows in groups) + MARGIN
    image = pillow.new("RGB", (WIDTH, height), BACKGROUND)
    draw = ImageDraw.Draw(image)
    clock = "processor" if report.busy and report.device == "cpu" else "wall"
    title = f"{report.bundle} beside {report.checkpoint}"
    says = f"times as fast as PyTorch eager, by the fastest of {len(report.rows[0].wall.seconds)} runs in turn"
    load = f"{clock} time, {report.threads} thread(s) each, load {report.load_before:.2f} on {report.cores} cores"
    draw.text((MARGIN, 30), fit_text(title, font(30), WIDTH - 2 * MARGIN), BRIGHT, font(30))
    draw.text((MARGIN, 78), fit_text(f"{says}; {load}", font(18), WIDTH - 2 * MARGIN), DIM, font(18))
    longest = max(report.ratio(row, clock) for row in report.rows)
    room = WIDTH - MARGIN - LEFT - 220
    top = _TITLE
    for component, rows in groups:
        draw.text((MARGIN, top + 14), component, BRIGHT, font(22))
        draw.line((MARGIN, top + 46, WIDTH - MARGIN, top + 46), GRID)
        top += _GROUP
        for number, row in enumerate(rows):
            ratio = report.ratio(row, clock)
            length = max(2, round(room * ratio / longest))
            middle = top + BAR / 2
            draw.text((LEFT - 14, middle), row.contender, DIM, font(18), anchor="rm")
            draw.rectangle((LEFT, top, LEFT + length, top + BAR), COLORS[number % len(COLORS)])
            least = 1e3 * getattr(row, clock).least
            draw.text((LEFT + length + 12, middle), f"{ratio:.2f}x  {least:.1f} ms", BRIGHT, font(18), anchor="lm")
            top += BAR + GAP
    return image
