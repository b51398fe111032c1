"""The scene of a rendered sequence: a ground, items on paths, a camera and a light; and how a frame is drawn.

Items are drawn from back to front: a shape, filled with a texture that moves with it, is laid over the picture, and its
pixels take the item's label. Times are frame numbers, lengths are pixels of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from PIL import Image as pillow

from ..frame import Image
from .track_sequence import Labels
from .track_shapes import Outline, Piece, draw_coverage, reach_of
from .track_textures import Paint

WIDTH, HEIGHT, FRAMES = 320, 240, 100
TARGET = 1
"""The object's number in the labels."""
OVERSAMPLING = 3
TEXTURE_REACH = 1.3
"""How far an item's texture reaches, in reaches of its shape."""

Random = np.random.Generator
Values = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.floating]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Motion:
    """Where an item is on each frame, before the camera moves.

    Attributes:
        centre: `[frames, 2]`.
        size: `[frames]`, pixels for each unit of the shape.
        angle: `[frames]`, radians.
        squash: `[frames]`, how much wider than high it appears.
        phase: `[frames]`, radians, of limbs and of the deformation.
    """

    centre: Values
    size: Values
    angle: Values
    squash: Values
    phase: Values

    def matrix(self, number: int) -> Values:
        """`[2, 2]`, from the shape's coordinates to pixels."""
        cos, sin = np.cos(self.angle[number]), np.sin(self.angle[number])
        stretch = np.array([self.squash[number], 1 / self.squash[number]])
        return np.asarray(np.array([[cos, -sin], [sin, cos]]) * stretch * self.size[number])


@dataclass(frozen=True)
class Item:
    """A thing in the scene.

    Attributes:
        outline: Its shape.
        paint: What fills it.
        motion: How it moves.
        bend: How far its shape is bent by waves, in the shape's units.
        is_look_alike: Whether it resembles the object.
    """

    outline: Outline
    paint: Paint
    motion: Motion
    bend: float = 0.0
    is_look_alike: bool = False

    @property
    def reach(self) -> float:
        """How far it reaches from its centre on average."""
        return reach_of(self.outline) * float(self.motion.size.mean())

    def pieces(self, number: int) -> tuple[Piece, ...]:
        """Its shape on a frame, deformed."""
        phase = float(self.motion.phase[number])
        pieces = self.outline(phase)
        if not self.bend:
            return pieces
        return tuple(Piece(_waved(piece.points, self.bend, phase), piece.stroke, piece.cut) for piece in pieces)


@dataclass(frozen=True)
class Camera:
    """How the picture moves as a whole.

    Attributes:
        roll, zoom: `[frames]`, of items and ground.
        shake: `[frames, 2]`.
        pan: `[frames, 2]`, where the middle of the picture is on the ground, pixels of the ground.
    """

    roll: Values
    zoom: Values
    shake: Values
    pan: Values

    def matrix(self, number: int) -> Values:
        """`[2, 2]`: turning and zooming about the middle of the picture."""
        cos, sin = np.cos(self.roll[number]), np.sin(self.roll[number])
        return np.asarray(np.array([[cos, -sin], [sin, cos]]) * self.zoom[number])


@dataclass(frozen=True)
class Light:
    """How bright the picture is.

    Attributes:
        gain: `[frames, 3]`, of each channel.
        slope: `[frames, 2]`, how the light falls off across the picture.
        noise: Standard deviation of the sensor's noise.
    """

    gain: Values
    slope: Values
    noise: float

    def shine(self, picture: pillow.Image, number: int, rng: Random) -> Image:
        """The picture as the sensor sees it."""
        values = np.asarray(picture, np.float32) * self.gain[number].astype(np.float32)
        across, down = (
            (slope * np.linspace(-1, 1, length)).astype(np.float32)
            for slope, length in zip(self.slope[number], (WIDTH, HEIGHT), strict=True)
        )
        values *= (1 + across[None, :] + down[:, None])[..., None]
        values += rng.standard_normal(values.shape, np.float32) * np.float32(self.noise)
        return np.asarray(values.clip(0, 255, out=values), np.uint8)


@dataclass(frozen=True)
class Scene:
    """All that a sequence is drawn from.

    Attributes:
        grounds: What is behind everything: a paint, or two with a border between them.
        border: Smooth noise, float32 `[n, n]`: where it is positive, the second ground is seen.
        items: From back to front.
        target: Which of them is the object.
        camera, light: How they are seen.
    """

    grounds: tuple[Paint, ...]
    border: npt.NDArray[np.float32]
    items: tuple[Item, ...]
    target: int
    camera: Camera
    light: Light

    @cached_property
    def ground(self) -> pillow.Image:
        """The picture behind everything."""
        ground = self.grounds[0].picture.copy()
        for other in self.grounds[1:]:
            smooth = pillow.fromarray(self.border).resize(ground.size, pillow.Resampling.BICUBIC)
            share = (np.clip(np.asarray(smooth) * 40, 0, 1) * 255).astype(np.uint8)
            ground.paste(other.picture, (0, 0), pillow.fromarray(share))
        return ground

    def render(self, number: int, noise: Random) -> tuple[Image, Labels]:
        """One frame: uint8 `[240, 320, 3]`, and uint8 `[240, 320]` with `TARGET` where the object is visible.

        Args:
            number: Which frame.
            noise: Source of the sensor's noise.
        """
        matrix = self.camera.matrix(number)
        inverse = np.linalg.inv(matrix)
        start = self.camera.pan[number] - inverse @ (_MIDDLE + self.camera.shake[number])
        picture = _sampled(self.ground, (WIDTH, HEIGHT), inverse, start)
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        for index, item in enumerate(self.items):
            placed = self._placed(item, number)
            if placed is None:
                continue
            box, coverage, matrix, offset = placed
            inverse = np.linalg.inv(matrix)
            scale = item.paint.side / (2 * TEXTURE_REACH * reach_of(item.outline))
            middle = np.full(2, item.paint.side / 2)
            fill = _sampled(item.paint.picture, coverage.size, inverse * scale, middle - inverse @ offset * scale)
            picture.paste(fill, box[:2], coverage)
            _part(labels, box)[_covered(coverage)] = TARGET if index == self.target else 0
        return self.light.shine(picture, number, noise), labels

    def target_pixels(self, number: int) -> tuple[int, int]:
        """How many pixels of the object are inside the picture on a frame, and how many of them are visible."""
        mask = np.zeros((HEIGHT, WIDTH), np.bool_)
        whole = 0
        for item in self.items[self.target :]:
            placed = self._placed(item, number)
            if placed is not None:
                box, coverage, _, _ = placed
                _part(mask, box)[_covered(coverage)] = item is self.items[self.target]
            if item is self.items[self.target]:
                whole = int(np.count_nonzero(mask))
        return whole, int(np.count_nonzero(mask))

    def nearness(self) -> Iterator[float]:
        """For each look-alike, its least distance from the object, over the sum of the two reaches."""
        target = self.items[self.target]
        for item in self.items:
            if item.is_look_alike:
                apart = np.hypot(*(item.motion.centre - target.motion.centre).T)
                yield float(apart.min()) / (item.reach + target.reach)

    def _placed(self, item: Item, number: int) -> tuple[Box, pillow.Image, Values, Values] | None:
        """The box of the picture that an item touches, what it covers of it, and how it got there.

        Returns:
            Box; coverage, as large as the box; matrix and offset from the shape's coordinates to pixels of the box.
            None if it is outside the picture.
        """
        view = self.camera.matrix(number)
        matrix = view @ item.motion.matrix(number)
        centre = view @ (item.motion.centre[number] - _MIDDLE) + _MIDDLE + self.camera.shake[number]
        pieces = item.pieces(number)
        widest = max(piece.stroke for piece in pieces) * float(item.motion.size[number] * self.camera.zoom[number])
        points = np.concatenate([piece.points for piece in pieces]) @ matrix.T + centre
        low = np.floor(points.min(0) - widest / 2 - 1).astype(int).clip(0)
        high = np.ceil(points.max(0) + widest / 2 + 1).astype(int).clip(None, (WIDTH, HEIGHT))
        if (high <= low).any():
            return None
        box = int(low[0]), int(low[1]), int(high[0]), int(high[1])
        offset = centre - low
        size = box[2] - box[0], box[3] - box[1]
        return box, draw_coverage(pieces, size, matrix, offset, OVERSAMPLING), matrix, offset


_MIDDLE = np.array([WIDTH / 2, HEIGHT / 2])


def _sampled(texture: pillow.Image, size: tuple[int, int], matrix: Matrix, offset: Matrix) -> pillow.Image:
    """A picture whose pixel at `(x, y)` is the texture's at `matrix @ (x, y) + offset`."""
    (a, b), (d, e) = matrix.tolist()
    c, f = offset.tolist()
    return texture.transform(size, pillow.Transform.AFFINE, (a, b, c, d, e, f), pillow.Resampling.BILINEAR)


def _covered(coverage: pillow.Image) -> npt.NDArray[np.bool_]:
    return np.asarray(coverage) >= 128


def _part(whole: npt.NDArray[np.generic], box: Box) -> npt.NDArray[np.generic]:
    return whole[box[1] : box[3], box[0] : box[2]]


def _waved(points: Values, bend: float, phase: float) -> Values:
    x, y = points.T
    return points + bend * np.stack([np.sin(2.3 * y + phase), np.sin(2.9 * x + 1.3 * phase + 1.0)], 1)
