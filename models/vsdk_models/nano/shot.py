"""One shot: a place, a camera that moves over it, and what moves through it.

Lengths on the picture are given in picture widths or heights, times in seconds, so that a shot looks the same at any
size and length. Only NumPy and Pillow are needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from .places import PLACES
from .sprites import COLOURS, shape_mask
from .textures import PROCESSES, Picture, backdrop, spectral_noise

Size = tuple[int, int]
"""Width and height in pixels."""

MARGIN = 0.02
"""Picture widths of backdrop beyond the farthest place that the camera looks at."""
FINEST_TEXTURE = 1024
"""Textures are computed up to this side and enlarged beyond it: their cost grows with the area."""


@dataclass(frozen=True)
class Camera:
    """Where the camera looks.

    Attributes:
        travel: How far the view moves, in picture widths (right, down).
        zoom: View scale at the start and the end; 1 shows a picture width of backdrop, 2 shows two.
        roll: Turn at the start and the end, radians.
        shake: Amplitude of a hand's trembling, picture widths.
        begins: When the move starts, seconds.
        lasts: How long it takes, seconds; it starts and ends softly.
    """

    travel: tuple[float, float] = (0.0, 0.0)
    zoom: tuple[float, float] = (1.0, 1.0)
    roll: tuple[float, float] = (0.0, 0.0)
    shake: float = 0.0
    begins: float = 0.0
    lasts: float = 1.0

    def progress(self, seconds: float) -> float:
        """How much of the move is done, 0..1."""
        part = min(max((seconds - self.begins) / self.lasts, 0.0), 1.0)
        return part * part * (3 - 2 * part)


@dataclass(frozen=True)
class Sprite:
    """A flat textured object with a straight path and a sway.

    Attributes:
        shape: A name of `sprites.SHAPES`.
        colour: A name of `sprites.COLOURS`.
        radius: Half its side, picture heights.
        start: Place at second 0, as fractions of width and height; may lie outside.
        velocity: Widths and heights a second.
        sway: Amplitude of a slow oscillation, picture heights.
        spin: Turn in radians a second.
        growth: Factor on its size each second.
        softness: Blur, as a fraction of its radius.
        followed: Whether the camera follows it: it then moves on the picture, and else in the place.
    """

    shape: str
    colour: str
    radius: float
    start: tuple[float, float]
    velocity: tuple[float, float] = (0.0, 0.0)
    sway: float = 0.0
    spin: float = 0.0
    growth: float = 1.0
    softness: float = 0.0
    followed: bool = True


@dataclass(frozen=True)
class Look:
    """Colour statistics of a place; shots with the same ones look alike.

    Attributes:
        mean: Of each channel, 0..1.
        deviation: Standard deviation of each channel.
        saturation: How much of the colours' difference from grey is kept, 0..1; most real video has little.
    """

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    saturation: float = 1.0


@dataclass(frozen=True)
class Shot:
    """What one camera position shows.

    Attributes:
        seed: Decides the place and all detail.
        frames: Frames in which this shot alone is to be seen; transitions come on top.
        textures: Names of `textures.PROCESSES` that the place is made of, or one name of `places.PLACES`.
        camera: How the view moves.
        sprites: What moves through it.
        look: Colour statistics; None keeps those of the textures.
        foreground: Whether something near stands in the place and passes faster than the background (parallax).
        softness: Blur of the place, picture widths: a lens out of focus.
    """

    seed: int
    frames: int
    textures: tuple[str, ...] = tuple(PROCESSES)
    camera: Camera = Camera()
    sprites: tuple[Sprite, ...] = ()
    look: Look | None = None
    foreground: bool = False
    softness: float = 0.0


def to_image(picture: Picture) -> Image.Image:
    """A picture in 0..1 as an 8-bit RGB image."""
    return Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8))


def place(rng: np.random.Generator, textures: tuple[str, ...], side: int) -> Picture:
    """The backdrop `[side, side, 3]` of a shot."""
    drawn = min(side, FINEST_TEXTURE)
    painted = PLACES.get(textures[0])
    picture = painted(rng, drawn) if painted is not None else backdrop(rng, drawn + drawn % 2, textures)
    if drawn == side:
        return picture[:side, :side]
    enlarged = np.asarray(to_image(picture).resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
    # What enlarging cannot bring back: structure at the scale of a pixel.
    grain = spectral_noise(rng, FINEST_TEXTURE, 0.7)
    tiled = np.tile(grain, (-(-side // FINEST_TEXTURE),) * 2)[:side, :side]
    return np.asarray(enlarged * (0.93 + 0.14 * tiled[..., None]), np.float32)


def graded(picture: Picture, look: Look | None) -> Picture:
    """The picture with the colour statistics of a look."""
    if look is None:
        return picture
    grey = picture.mean(-1, keepdims=True)
    muted = grey + (picture - grey) * look.saturation
    mean, deviation = muted.mean((0, 1)), muted.std((0, 1)) + 1e-3
    return np.asarray((muted - mean) / deviation * look.deviation + look.mean, np.float32)


class _Layer:
    """A picture larger than the view, looked at through a moving, turning window."""

    def __init__(self, image: Image.Image, size: Size, mask: Image.Image | None = None) -> None:
        self.image, self.size, self.mask = image, size, mask

    def view(self, centre: tuple[float, float], scale: float, roll: float) -> Image.Image:
        """The window around `centre` (pixels from the layer's middle), `scale` layer pixels to a pixel."""
        return self._sample(self.image, centre, scale, roll)

    def paste_on(self, canvas: Image.Image, centre: tuple[float, float], scale: float, roll: float) -> None:
        """Draw the window over `canvas` where the mask says so."""
        assert self.mask is not None
        mask = self._sample(self.mask, centre, scale, roll)
        if mask.getbbox() is not None:
            canvas.paste(self._sample(self.image, centre, scale, roll), (0, 0), mask)

    def _sample(self, image: Image.Image, centre: tuple[float, float], scale: float, roll: float) -> Image.Image:
        width, height = self.size
        x, y = image.width / 2 + centre[0], image.height / 2 + centre[1]
        if roll == 0:
            half_width, half_height = width / 2 * scale, height / 2 * scale
            # Rounding must not carry the view over the edge, which Pillow refuses.
            left, top = max(x - half_width, 0.0), max(y - half_height, 0.0)
            box = (left, top, min(x + half_width, float(image.width)), min(y + half_height, float(image.height)))
            return image.resize(self.size, Image.Resampling.BILINEAR, box=box)  # three times faster than transform
        cosine, sine = math.cos(roll) * scale, math.sin(roll) * scale
        offset_x = x - cosine * width / 2 + sine * height / 2
        offset_y = y - sine * width / 2 - cosine * height / 2
        matrix = (cosine, -sine, offset_x, sine, cosine, offset_y)
        return image.transform(self.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


class ShotPainter:
    """Draws the frames of one shot in any order.

    Args:
        shot: What to draw.
        size: Picture size.
        frame_rate: Frames a second.
    """

    def __init__(self, shot: Shot, size: Size, frame_rate: float) -> None:
        self.shot, self.size, self.frame_rate = shot, size, frame_rate
        self.random = np.random.default_rng(shot.seed)
        self._tremble = self.random.uniform(0, 2 * np.pi, (3, 3)), self.random.uniform(0.6, 5.0, (3, 3))
        camera = shot.camera
        self._rolls = any(camera.roll) or camera.shake > 0
        reach = max(camera.zoom) * (1 + abs(max(camera.roll, key=abs))) + 4 * camera.shake + 2 * MARGIN
        self._middle = (-camera.travel[0] / 2, -camera.travel[1] / 2)
        self._background = _Layer(self._backdrop(reach), size)
        self._foreground = self._near_layer(reach) if shot.foreground else None
        self._bodies = [self._body(sprite) for sprite in shot.sprites]

    def draw(self, index: int) -> Image.Image:
        """Frame `index` of the shot, as an RGB image."""
        seconds = index / self.frame_rate
        camera, width = self.shot.camera, self.size[0]
        done = camera.progress(seconds)
        dx, dy, turn = self._shake(seconds)
        roll = camera.roll[0] + (camera.roll[1] - camera.roll[0]) * done + turn if self._rolls else 0.0
        zoom = camera.zoom[0] * (camera.zoom[1] / camera.zoom[0]) ** done
        moved = (camera.travel[0] * done + dx, camera.travel[1] * done + dy)
        centre = ((self._middle[0] + moved[0]) * width, (self._middle[1] + moved[1]) * width)
        canvas = self._background.view(centre, zoom, roll)
        for sprite, (body, mask) in zip(self.shot.sprites, self._bodies, strict=True):
            self._add(canvas, sprite, body, mask, seconds, moved)
        if self._foreground is not None:
            self._foreground.paste_on(canvas, (1.6 * centre[0], centre[1]), zoom, roll)
        return canvas

    def _shake(self, seconds: float) -> tuple[float, float, float]:
        """Displacement (picture widths) and turn (radians) of a trembling hand: a few slow sines."""
        phase, rate = self._tremble
        waves = np.sin(2 * np.pi * rate * seconds + phase).mean(1) * self.shot.camera.shake
        return float(waves[0]), float(waves[1]), float(waves[2])

    def _backdrop(self, reach: float) -> Image.Image:
        width, height = self.size
        travel = self.shot.camera.travel
        across = math.ceil((abs(travel[0]) + reach) * width)
        down = math.ceil(abs(travel[1]) * width + reach * max(height, 0.6 * width))
        side = max(across, down)
        image = to_image(graded(place(self.random, self.shot.textures, side), self.shot.look))
        if self.shot.softness > 0:
            image = image.filter(ImageFilter.BoxBlur(self.shot.softness * width))
        return image

    def _near_layer(self, reach: float) -> _Layer:
        """Pillars or a hedge that stand nearer than the rest."""
        rng, (width, height) = self.random, self.size
        camera = self.shot.camera
        across = math.ceil((1.7 * abs(camera.travel[0]) + reach) * width)
        down = math.ceil((abs(camera.travel[1]) + reach) * max(height, width))
        side = max(across, down)
        texture = Image.fromarray((place(rng, self.shot.textures, 256) * 180).astype(np.uint8)).resize((across, down))
        small = spectral_noise(rng, 256, 1.6)
        y, x = np.mgrid[0:256, 0:256].astype(np.float32) / 256 * side / width  # picture widths
        if rng.random() < 0.5:
            pitch = rng.uniform(0.5, 1.5)
            edge = rng.uniform(0.03, 0.12) - np.abs(np.mod(x + rng.random() * pitch, pitch) - pitch / 2)
        else:
            edge = y - side / width / 2 - height / width * (rng.uniform(0.15, 0.4)) + 0.3 * (small - 0.5)
        cover = np.clip(edge * 256 * width / side + 0.5, 0, 1)
        mask = Image.fromarray((cover * 255).astype(np.uint8)).resize((across, down), Image.Resampling.BICUBIC)
        return _Layer(texture, self.size, mask.filter(ImageFilter.BoxBlur(width / 200)))

    def _body(self, sprite: Sprite) -> tuple[Image.Image, Image.Image]:
        """Colour and coverage of a sprite at its first size."""
        side = max(16, math.ceil(2 * sprite.radius * self.size[1]))
        name = "clouds" if sprite.softness else str(self.random.choice(("clouds", "marble", "cells")))
        grain = PROCESSES[name](self.random, 64).mean(-1, keepdims=True) - 0.5
        light = np.linspace(0.12, -0.12, 64, dtype=np.float32)[:, None, None]
        colour = np.asarray(COLOURS[sprite.colour], np.float32) + 0.35 * grain + light
        body = to_image(colour).resize((side, side), Image.Resampling.BICUBIC)
        mask = Image.fromarray((shape_mask(sprite.shape, side) * 255).astype(np.uint8))
        if sprite.softness > 0:
            mask = mask.filter(ImageFilter.GaussianBlur(sprite.softness * side / 2))
        return body, mask

    def _add(
        self,
        canvas: Image.Image,
        sprite: Sprite,
        body: Image.Image,
        mask: Image.Image,
        seconds: float,
        moved: tuple[float, float],
    ) -> None:
        """Draw a sprite over the canvas, at sub-pixel positions, only where it can be seen."""
        width, height = canvas.size
        radius = sprite.radius * height * sprite.growth**seconds
        x = (sprite.start[0] + sprite.velocity[0] * seconds) * width
        y = (sprite.start[1] + sprite.velocity[1] * seconds) * height
        y += sprite.sway * height * math.sin(2.1 * seconds + sprite.start[0] * 7)
        if not sprite.followed:
            x, y = x - moved[0] * width, y - moved[1] * width
        angle = sprite.spin * seconds
        half = radius * (abs(math.cos(angle)) + abs(math.sin(angle))) + 1
        left, top = max(math.floor(x - half), 0), max(math.floor(y - half), 0)
        right, bottom = min(math.ceil(x + half), width), min(math.ceil(y + half), height)
        if left >= right or top >= bottom:
            return
        zoom = mask.width / 2 / radius
        cosine, sine = math.cos(angle) * zoom, math.sin(angle) * zoom
        offset_x = mask.width / 2 + cosine * (left - x) + sine * (top - y)
        offset_y = mask.width / 2 - sine * (left - x) + cosine * (top - y)
        matrix = (cosine, sine, offset_x, -sine, cosine, offset_y)
        box = (right - left, bottom - top)
        drawn = body.transform(box, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
        cover = mask.transform(box, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
        canvas.paste(drawn, (left, top), cover)
