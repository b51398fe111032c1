"""A strip of pictures that shows how a tracker did: frames of some sequences, with its masks and the right ones."""

from __future__ import annotations

import numpy as np
from PIL import Image as pillow
from PIL import ImageDraw

from ..frame import Image
from ..sinks.drawing import Color, fit_text, font
from .mask_scores import Mask, boundary, dilate
from .track import Follows
from .track_report import TrackReport
from .track_sequence import Labels, TrackSequence, objects_of

PICTURES = 5
ROWS = 5
WIDTH = 320
"""Of each picture, pixels."""
GAP, HEADER, TITLE = 6, 84, 30
BACKGROUND: Color = (24, 25, 28)
BRIGHT: Color = (236, 237, 240)
DIM: Color = (150, 153, 161)
FOUND: Color = (255, 72, 190)
"""Fills what the tracker found."""
REAL: Color = (255, 255, 255)
"""Outlines what is there."""


def strip_of(tracker: Follows, sequences: list[TrackSequence], report: TrackReport) -> pillow.Image:
    """Follow some sequences once more, and draw frames of them: the worst one, the best one, and some between.

    Args:
        tracker: Is reset before and after.
        sequences: Those that were measured.
        report: What was measured.

    Raises:
        SourceError: A frame cannot be read.
    """
    ranked = sorted(zip(report.sequences, sequences, strict=True), key=lambda pair: pair[0].score("tracker").jf)
    chosen = [ranked[round(at)] for at in np.linspace(0, len(ranked) - 1, min(ROWS, len(ranked)))]
    rows = []
    for result, sequence in chosen:
        scores = (f"{name} {result.score(name).jf:.2f}" for name in ("tracker", "template", "frozen"))
        rows.append(_row(f"{result.name}: J&F {', '.join(scores)}", _frames(tracker, sequence)))
    height = HEADER + sum(row.height for row in rows)
    picture = pillow.new("RGB", (rows[0].width + 2 * GAP, height + GAP), BACKGROUND)
    pen = ImageDraw.Draw(picture)
    width = picture.width - 4 * GAP
    pen.text((2 * GAP, 14), fit_text(f"{report.bundle} on {report.source}", font(24), width), BRIGHT, font(24))
    says = "filled: what the tracker found; white line: what is there; from the worst sequence to the best"
    pen.text((2 * GAP, 48), fit_text(says, font(16), width), DIM, font(16))
    top = HEADER
    for row in rows:
        picture.paste(row, (GAP, top))
        top += row.height
    return picture


def _frames(tracker: Follows, sequence: TrackSequence) -> list[tuple[int, Image]]:
    """Numbers of a few frames, and how they look with all masks."""
    wanted = {min(round(at), len(sequence) - 1) for at in np.linspace(0, len(sequence), PICTURES)}
    pictures = []
    tracker.reset()
    for number, (image, labels) in enumerate(sequence.frames()):
        if number == 0:
            for item in objects_of(labels):
                tracker.prompt(image, item, mask=labels == item)
            first = objects_of(labels)
        objects = tracker.track(image)
        if number in wanted:
            pictures.append((number, _overlaid(image, labels, first, [item.mask for item in objects])))
    tracker.reset()
    return pictures


def _overlaid(image: Image, labels: Labels, objects: list[int], found: list[Mask]) -> Image:
    picture = image.copy()
    for mask in found:
        picture[mask] = (0.45 * picture[mask] + 0.55 * np.array(FOUND)).astype(np.uint8)
    thickness = max(0, round(image.shape[1] / WIDTH) - 1)
    for item in objects:
        picture[dilate(boundary(labels == item), thickness)] = REAL
    return picture


def _row(title: str, pictures: list[tuple[int, Image]]) -> pillow.Image:
    shape = pictures[0][1].shape
    height = round(WIDTH * shape[0] / shape[1])
    row = pillow.new("RGB", (len(pictures) * (WIDTH + GAP) - GAP, TITLE + height + GAP), BACKGROUND)
    pen = ImageDraw.Draw(row)
    pen.text((GAP, TITLE - 6), fit_text(title, font(17), row.width - 2 * GAP), BRIGHT, font(17), anchor="ls")
    for index, (number, image) in enumerate(pictures):
        left = index * (WIDTH + GAP)
        row.paste(pillow.fromarray(image).resize((WIDTH, height), pillow.Resampling.BOX), (left, TITLE))
        pen.text((left + 6, TITLE + 4), f"frame {number}", BRIGHT, font(15), stroke_width=2, stroke_fill=BACKGROUND)
    return row
