"""Haystacks: the long videos in which a needle is hidden, one picture a second.

Drawn ones are made of processes of their own: nothing here is used in training `nano`, whose scenes come from
`vsdk_models.nano.textures`. Real ones come from a video file, which is repeated until it is long enough; each
repetition starts a little later, so that it does not show the same frames again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image as pillow
from PIL import ImageDraw, ImageFilter

from vsdk_runtimes.errors import SourceEmptyError

from ..frame import Image
from ..sources.opening import open_source
from .needles import COLOURS

Random = np.random.Generator
Picture = npt.NDArray[np.float32]
"""Float32 `[side, side, 3]` in 0..255."""

GROUND = 2.5
"""Side of a scene's place, in picture sides: the camera moves over it."""
SECONDS = (5, 40)
"""Shortest and longest scene."""
PHASE = 0.37
"""Seconds by which each repetition of a real haystack starts later."""


def drawn_haystack(seed: int, seconds: int, side: int) -> list[Image]:
    """A video of changing scenes with moving one-coloured objects, uint8 `[side, side, 3]` for each second."""
    rng = np.random.default_rng((7, seed))
    pictures: list[Image] = []
    while len(pictures) < seconds:
        pictures += _scene(rng, int(rng.integers(*SECONDS)), side)
    return pictures[:seconds]


def real_haystack(
    path: str | os.PathLike[str], seconds: int, resize: Callable[[Image], Image], offset: float = 0.0
) -> list[Image]:
    """One picture a second of a video file, repeated as often as it takes.

    Args:
        path: The file.
        seconds: How many pictures.
        resize: Makes a frame what the encoder takes.
        offset: Seconds into the file at which the first repetition starts.

    Raises:
        SourceError: The file cannot be read, or is empty.
    """
    pictures: list[Image] = []
    start = offset
    while len(pictures) < seconds:
        before = len(pictures)
        for frame in _one_a_second(path, start, seconds - before):
            pictures.append(resize(frame))
        if len(pictures) == before:
            if start == 0.0:
                raise SourceEmptyError(f"{path} has no frames", hint="Name a video file that plays.")
            start = 0.0  # shorter than the offset
            continue
        start = (start + PHASE) % 1.0
    return pictures


def _one_a_second(path: str | os.PathLike[str], start: float, most: int) -> Iterator[Image]:
    due, left = start, most
    with open_source(str(path)) as source:
        while left and (frame := source.read()) is not None:
            if float(frame.time) >= due:
                yield frame.image
                due, left = due + 1.0, left - 1


def _scene(rng: Random, seconds: int, side: int) -> list[Image]:
    """One place seen by a slow camera, with objects that move through the picture."""
    width = round(GROUND * side)
    place = pillow.fromarray(_place(rng, width).clip(0, 255).astype(np.uint8))
    scale = rng.uniform(1.0, 1.5)
    room = width - scale * side
    camera, pan = rng.uniform(0, room, 2), rng.uniform(-0.05, 0.05, 2) * side
    objects = [_Object(rng, side) for _ in range(int(rng.integers(0, 4)))]
    light, drift = rng.uniform(0.75, 1.2), rng.uniform(-0.015, 0.015)
    noise = rng.uniform(0, 8)
    pictures = []
    for second in range(seconds):
        left, top = np.clip(camera + pan * second + rng.normal(0, 0.01 * side, 2), 0, room)
        box = (left, top, left + scale * side, top + scale * side)
        view = place.resize((side, side), pillow.Resampling.BILINEAR, box=box)
        for item in objects:
            item.draw(view, float(second))
        values = np.asarray(view, np.float32) * (light + drift * second)
        values += rng.standard_normal(values.shape).astype(np.float32) * noise
        pictures.append(values.clip(0, 255).astype(np.uint8))
    return pictures


class _Object:
    """A flat shape of one colour, every other one in a colour that needles have too."""

    def __init__(self, rng: Random, side: int) -> None:
        named = list(COLOURS.values())
        colour = named[int(rng.integers(len(named)))] if rng.random() < 0.5 else tuple(rng.uniform(0, 255, 3))
        self._fill = tuple(int(value) for value in colour)
        self._side = side
        self._radius = rng.uniform(0.06, 0.2) * side
        self._start, self._velocity = rng.uniform(0, side, 2), rng.uniform(-0.12, 0.12, 2) * side
        self._corners = int(rng.integers(2, 7))
        self._turn, self._spin = rng.uniform(0, 2 * np.pi), rng.uniform(-1, 1)

    def draw(self, view: pillow.Image, second: float) -> None:
        span = self._side + 2 * self._radius
        x, y = (self._start + self._velocity * second) % span - self._radius
        pen, r = ImageDraw.Draw(view), self._radius
        if self._corners == 2:
            pen.ellipse((x - r, y - 0.7 * r, x + r, y + 0.7 * r), fill=self._fill)
            return
        angles = self._turn + self._spin * second + 2 * np.pi / self._corners * np.arange(self._corners)
        pen.polygon([(x + r * float(np.cos(a)), y + r * float(np.sin(a))) for a in angles], fill=self._fill)


def _place(rng: Random, width: int) -> Picture:
    """One process, or two of them side by side or one above the other."""
    picture = _process(rng, width)
    if rng.random() < 0.5:
        y, x = np.mgrid[0:width, 0:width].astype(np.float32) / width - 0.5
        angle = rng.uniform(0, 2 * np.pi)
        other = x * np.cos(angle) + y * np.sin(angle) > rng.uniform(-0.2, 0.2)
        picture = np.where(other[..., None], _process(rng, width), picture)
    return picture


def _process(rng: Random, width: int) -> Picture:
    return PROCESSES[int(rng.integers(len(PROCESSES)))](rng, width)


def _tones(rng: Random, count: int) -> Picture:
    """`[count, 3]` related colours, from nearly grey to vivid as real places are."""
    base = rng.uniform(30, 225, 3)
    grey = base.mean()
    base = grey + (base - grey) * rng.uniform(0.1, 1.0)
    spread = rng.normal(0, rng.uniform(5, 45), (count, 3)) + rng.normal(0, rng.uniform(10, 50), (count, 1))
    return np.asarray(np.clip(base + spread, 0, 255), np.float32)


def _smooth(rng: Random, width: int, cells: int) -> Picture:
    """Smooth noise `[width, width]` around 0 with deviation near 1."""
    coarse = pillow.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((width, width), pillow.Resampling.BICUBIC), np.float32)


def _waves(rng: Random, width: int) -> Picture:
    """Sums of plane waves, one set a channel."""
    y, x = np.mgrid[0:width, 0:width].astype(np.float32) / width
    picture = np.tile(_tones(rng, 1), (width, width, 1))
    for across, down, phase in rng.uniform((-12, -12, 0), (12, 12, 6.3), (5, 3)).astype(np.float32):
        picture += np.sin(across * x + down * y + phase)[..., None] * rng.uniform(-30, 30, 3).astype(np.float32)
    return picture


def _terraces(rng: Random, width: int) -> Picture:
    """Contour lines of a smooth height: maps, fields, camouflage."""
    height = _smooth(rng, width, int(rng.integers(4, 12)))
    steps = int(rng.integers(3, 9))
    level = np.clip(((height + 2) / 4 * steps).astype(np.int64), 0, steps - 1)
    return _tones(rng, steps)[level]


def _strokes(rng: Random, width: int) -> Picture:
    """Thick brush strokes over one another: grass, hair, clutter."""
    tones = _tones(rng, 8)
    image = pillow.new("RGB", (width, width), _ink(tones[0]))
    pen = ImageDraw.Draw(image)
    lean, reach = rng.uniform(0, np.pi), rng.uniform(0.05, 0.4) * width
    for x, y in rng.uniform(0, width, (int(rng.integers(80, 400)), 2)):
        angle, length = lean + rng.normal(0, 0.4), reach * rng.uniform(0.3, 1)
        ends = (x, y, x + length * float(np.cos(angle)), y + length * float(np.sin(angle)))
        pen.line(ends, fill=_ink(tones[int(rng.integers(8))]), width=int(rng.integers(2, 14)))
    return np.asarray(image, np.float32)


def _dots(rng: Random, width: int) -> Picture:
    """A lattice of discs: crowds, lamps, fabric."""
    tones = _tones(rng, 6)
    image = pillow.new("RGB", (width, width), _ink(tones[0]))
    pen = ImageDraw.Draw(image)
    pitch, size = rng.uniform(0.04, 0.14) * width, rng.uniform(0.2, 0.55)
    for row, y in enumerate(np.arange(0, width + pitch, pitch)):
        for x in np.arange((row % 2) * pitch / 2, width + pitch, pitch):
            r = pitch * size * rng.uniform(0.6, 1)
            pen.ellipse((x - r, y - r, x + r, y + r), fill=_ink(tones[int(rng.integers(1, 6))]))
    return np.asarray(image, np.float32)


def _weave(rng: Random, width: int) -> Picture:
    """Two crossing sets of bands: cloth, fences, corridors."""
    y, x = np.mgrid[0:width, 0:width].astype(np.float32) / width
    angle = rng.uniform(0, np.pi)
    u, v = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    one, two = (np.sin(2 * np.pi * rng.uniform(4, 22) * axis + rng.uniform(0, 6)) for axis in (u, v))
    tones = _tones(rng, 3)
    over = (one * two > 0)[..., None]
    picture = np.where(one[..., None] > rng.uniform(-0.5, 0.5), tones[0], np.where(over, tones[1], tones[2]))
    return np.asarray(picture * (1 + 0.15 * _smooth(rng, width, 5)[..., None]), np.float32)


def _beams(rng: Random, width: int) -> Picture:
    """Light that falls in wedges through haze, out of focus."""
    tones = _tones(rng, 5)
    image = pillow.new("RGB", (width, width), _ink(tones[0]))
    pen = ImageDraw.Draw(image)
    for number in range(int(rng.integers(4, 12))):
        corner, spread = rng.uniform(-0.2, 1.2, 2) * width, rng.uniform(0.05, 0.3)
        angle, far = rng.uniform(0, 2 * np.pi), 2 * width
        sides = [(float(np.cos(angle + turn)) * far, float(np.sin(angle + turn)) * far) for turn in (-spread, spread)]
        points = [(float(corner[0]), float(corner[1]))] + [(corner[0] + dx, corner[1] + dy) for dx, dy in sides]
        pen.polygon(points, fill=_ink(tones[number % 5]))
    return np.asarray(image.filter(ImageFilter.BoxBlur(width * rng.uniform(0.002, 0.02))), np.float32)


def _ink(colour: Picture) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in colour)
    return red, green, blue


PROCESSES: tuple[Callable[[Random, int], Picture], ...] = (_waves, _terraces, _strokes, _dots, _weave, _beams)
