"""Clips of moving objects with exact masks, drawn by chance, that the tracker is trained and watched on.

Training uses the shapes SHAPES (plus "bar" for occluders; any of them may have round holes and may bend) and the
textures TEXTURES (the processes of `nano.textures`, those of `patterns`, and plain colour). HELD_OUT_SHAPES and, as
textures, coloured sprites on plain ground are for validation only. A benchmark should use none of the first two. No
photographs are used.

A scene is a moving background, two to four objects that look alike, some others, and what passes in front of them.
Objects turn, grow, shrink, shear, bend, leave the picture and come back; the picture may be dim, noisy, blurred,
coarse or compressed. All is drawn in a world of the video's aspect and squeezed into a square, as a tracker's input is.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from ..sprites import COLOURS, shape_mask
from ..sprites import SHAPES as SPRITES
from ..textures import PROCESSES, backdrop, layout_mask, palette
from . import shapes
from .patterns import PATTERNS
from .shapes import Random, Silhouette

SHAPES = ("blob", "ellipse", "rectangle", "polygon", "discs", "ribbon", "joined")
NATURAL_OR_REGULAR = {**PROCESSES, **PATTERNS}
TEXTURES = (*NATURAL_OR_REGULAR, "plain")
HELD_OUT_SHAPES = ("gear", "crescent", "star")
SIDE = 128
ASPECTS = (4 / 3, 4 / 3, 4 / 3, 16 / 9, 16 / 9, 1.0, 0.75)

Pictures = npt.NDArray[np.uint8]
Track = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Clip:
    """A clip.

    Attributes:
        pictures: `[frames, side, side, 3]` uint8, RGB.
        owners: `[frames, side, side]` uint8: the number of the object that is seen at a pixel, 0 for the background.
        objects: Numbers 1 to `objects` are objects; 1 is the one that the scene is about.
    """

    pictures: Pictures
    owners: Pictures
    objects: int


@dataclass
class Bank:
    """Textures to draw with: drawing one takes longer than drawing an object, so they are kept and slowly renewed.

    Attributes:
        rng: What they are drawn from.
        held_out: Whether objects have the textures that are not trained on.
    """

    rng: Random
    held_out: bool = False
    textures: list[Tensor] = field(default_factory=list)
    backdrops: list[Tensor] = field(default_factory=list)

    def renew(self, count: int = 300) -> None:
        """Fill the bank up to its size, or replace one of the textures and backdrops."""
        for kept, draw, side in ((self.textures, self._texture, SIDE), (self.backdrops, self._backdrop, 2 * SIDE)):
            kept.append(draw(side))
            while len(kept) < count:
                kept.append(draw(side))
            if len(kept) > count:
                kept[int(self.rng.integers(count))] = kept.pop()

    def _backdrop(self, side: int) -> Tensor:
        picture = backdrop(self.rng, side)
        if self.rng.random() < 0.4:
            mask = layout_mask(self.rng, side)[..., None] if self.rng.random() < 0.6 else np.ones((1, 1, 1), np.float32)
            regular = PATTERNS[str(self.rng.choice(list(PATTERNS)))](self.rng, side)
            picture = picture * (1 - mask) + regular * mask
        return _image(picture)

    def _texture(self, side: int) -> Tensor:
        rng = self.rng
        if self.held_out:
            return _image(_sprites(rng, side))
        name = TEXTURES[int(rng.integers(len(TEXTURES)))]
        if name == "plain":
            return _image(np.broadcast_to(palette(rng, 1), (side, side, 3)))
        picture = NATURAL_OR_REGULAR[name](rng, side)
        if rng.random() < 0.3:
            other = NATURAL_OR_REGULAR[str(rng.choice(list(NATURAL_OR_REGULAR)))](rng, side)
            split = np.arange(side)[:, None, None] < side * rng.uniform(0.3, 0.7)
            picture = np.where(split, picture, other)
        return _image(picture)


def _image(picture: npt.NDArray[np.float32]) -> Tensor:
    return torch.tensor(np.ascontiguousarray(picture), dtype=torch.float32).clamp(0, 1).permute(2, 0, 1)[None]


def _sprites(rng: Random, side: int) -> npt.NDArray[np.float32]:
    """Small coloured figures strewn on plain ground."""
    colours = np.array(list(COLOURS.values()), np.float32)
    picture = np.broadcast_to(rng.choice(colours), (side, side, 3)).copy()
    small = side // 4
    for _ in range(int(rng.integers(12, 40))):
        y, x = rng.integers(0, side - small, 2)
        ink = shape_mask(SPRITES[int(rng.integers(len(SPRITES)))], small)[..., None]
        place = picture[y : y + small, x : x + small]
        place[:] = place * (1 - ink) + rng.choice(colours) * ink
    return picture


@dataclass(frozen=True)
class Look:
    """What objects that look alike share: outline, texture, the part of it that is seen, and radius (height is 2)."""

    outline: Silhouette
    texture: Tensor
    window: tuple[float, float, float]
    radius: float


@dataclass(frozen=True)
class Actor:
    """An object and what it does: all tracks have one row a frame."""

    look: Look
    place: Track
    linear: Track
    light: Track
    slant: tuple[float, float]


def draw_look(rng: Random, bank: Bank, aspect: float, share: tuple[float, float]) -> Look:
    """An appearance; `share` is the range of the part of the picture that it covers."""
    names = HELD_OUT_SHAPES if bank.held_out else SHAPES
    outline: Silhouette = getattr(shapes, names[int(rng.integers(len(names)))])(rng)
    if not bank.held_out and rng.random() < 0.2:
        outline = shapes.with_holes(rng, outline)
    if rng.random() < 0.5:
        outline = shapes.bending(rng, outline)
    radius = float(np.sqrt(np.exp(rng.uniform(*np.log(share))) * 4 * aspect / 2.2))
    return _dress(rng, bank, outline, radius)


def _dress(rng: Random, bank: Bank, outline: Silhouette, radius: float) -> Look:
    texture = bank.textures[int(rng.integers(len(bank.textures)))]
    zoom = min(1.2 * radius * rng.uniform(0.35, 1), 1.0)
    x, y = rng.uniform(-0.6, 0.6, 2)
    return Look(outline, texture, (float(x), float(y), float(zoom)), radius)


def wander(rng: Random, frames: int, speed: float, smooth: float) -> Track:
    """`[frames, 2]`: a walk whose velocity has that size and slowly turns; it starts at 0."""
    velocity = rng.normal(0, speed * 0.7, 2)
    steps = np.zeros((frames, 2))
    for frame in range(1, frames):
        velocity = smooth * velocity + np.sqrt(1 - smooth**2) * rng.normal(0, speed * 0.7, 2)
        steps[frame] = velocity
    return np.cumsum(steps, 0)


def fold(track: Track, reach: Track) -> Track:
    """Reflect a track at `reach` on both sides."""
    return np.abs((track - reach) % (4 * reach) - 2 * reach) - reach


def draw_actor(rng: Random, look: Look, place: Track) -> Actor:
    """Give a look something to do along a way."""
    frames = len(place)
    time = np.arange(frames)
    turn = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.05) * time * (rng.random() < 0.7)
    turn = turn + rng.uniform(0, 0.4) * np.sin(rng.uniform(0.02, 0.3) * time)
    growth = rng.uniform(np.log(0.6), np.log(1.6)) * (rng.random() < 0.7)
    size = np.exp(growth * (np.sin(rng.uniform(0.02, 0.12) * time + rng.uniform(-1.5, 1.5))) * 0.7)
    squash = 1 - rng.uniform(0, 0.4) * np.sin(rng.uniform(0.02, 0.15) * time) ** 2 * (rng.random() < 0.5)
    shear = rng.normal(0, 0.2) * np.sin(rng.uniform(0.02, 0.15) * time + rng.uniform(0, 6)) * (rng.random() < 0.5)
    cos, sin = np.cos(turn) * size * look.radius, np.sin(turn) * size * look.radius
    linear = np.stack([cos * squash, -sin + shear * cos, sin * squash, cos + shear * sin], -1).reshape(frames, 2, 2)
    light = 1 + rng.uniform(0, 0.3) * np.sin(rng.uniform(0.02, 0.3) * time + rng.uniform(0, 6)) * (rng.random() < 0.5)
    slant = rng.normal(0, 0.2, 2) * (rng.random() < 0.5)
    return Actor(look, place, linear, light, (float(slant[0]), float(slant[1])))


def cast_scene(rng: Random, bank: Bank, frames: int, aspect: float, camera: Track) -> list[Actor]:
    """The actors from back to front by number, the first being the one that the scene is about."""
    pace = float(np.exp(rng.uniform(np.log(0.004), np.log(0.06))))
    share = (0.012, 0.15)
    frame = np.array([aspect, 1.0])

    def way(start: Track | None = None) -> Track:
        begin = rng.uniform(-0.8, 0.8, 2) * frame if start is None else start
        track = begin + wander(rng, frames, pace * rng.uniform(0.3, 1.5), rng.uniform(0.8, 0.99))
        return fold(track - camera * rng.uniform(0, 1), frame * rng.uniform(0.7, 1.3))

    def crossing(track: Track) -> Track:
        """A straight way that meets another at some frame."""
        meet = int(rng.integers(0, frames))
        offset = rng.normal(0, 0.05, 2)
        speed = rng.normal(0, max(pace, 0.01), 2)
        return track[meet] + offset + speed * (np.arange(frames)[:, None] - meet)

    main = draw_look(rng, bank, aspect, share)
    actors = [draw_actor(rng, main, way())]
    for _ in range(int(rng.choice([0, 1, 2, 3, 4], p=[0.1, 0.2, 0.3, 0.25, 0.15]))):
        twin = main
        if rng.random() < 0.4:  # Alike in texture only, or in shape only.
            other = draw_look(rng, bank, aspect, share)
            shape_only = rng.random() < 0.4
            outline, dress = (main, other) if shape_only else (other, main)
            twin = Look(outline.outline, dress.texture, dress.window, main.radius * float(rng.uniform(0.8, 1.2)))
        elif rng.random() < 0.5:
            x, y = rng.uniform(-0.6, 0.6, 2)
            twin = Look(main.outline, main.texture, (float(x), float(y), main.window[2]), main.radius)
        actors.append(draw_actor(rng, twin, crossing(actors[0].place) if rng.random() < 0.3 else way()))
    for _ in range(int(rng.integers(0, 3))):
        actors.append(draw_actor(rng, draw_look(rng, bank, aspect, share), way()))
    for _ in range(int(rng.choice([0, 1, 2], p=[0.35, 0.45, 0.2]))):
        if rng.random() < 0.4:
            look = _dress(rng, bank, shapes.bar(rng), float(rng.uniform(0.6, 1.5)))
        else:
            look = draw_look(rng, bank, aspect, (0.04, 0.25))
        actors.append(draw_actor(rng, look, crossing(actors[0].place)))
    return actors


def draw_clip(rng: Random, bank: Bank, frames: int) -> Clip:
    """A clip of so many frames, drawn with the textures of a bank, on one thread."""
    aspect = float(rng.choice(ASPECTS))
    shake = rng.normal(0, rng.choice([0.0, 0.0, 0.01]), (frames, 2))
    camera = wander(rng, frames, float(rng.choice([0.0, 0.005, 0.02, 0.04])), 0.97) + shake
    actors = cast_scene(rng, bank, frames, aspect, camera)
    canvas = draw_background(rng, bank, frames, aspect, camera)
    owners = torch.zeros(frames, SIDE, SIDE, dtype=torch.uint8)
    # Occluders come last and stay in front; who is in front among the others is drawn by chance.
    for index in sorted(range(len(actors)), key=lambda i: i if i >= len(actors) - 2 else rng.random() - 1):
        draw_object(canvas, owners, actors[index], index + 1, aspect)
    return Clip(spoil(rng, canvas), owners.numpy(), len(actors))


def draw_background(rng: Random, bank: Bank, frames: int, aspect: float, camera: Track) -> Tensor:
    """`[frames, side, side, 3]` in 0..1."""
    texture = bank.backdrops[int(rng.integers(len(bank.backdrops)))]
    zoom = rng.uniform(0.5, 0.85) * np.exp(rng.normal(0, 0.1) * np.linspace(0, 1, frames) * (rng.random() < 0.5))
    angle = rng.normal(0, 0.15) * np.linspace(0, 1, frames) * (rng.random() < 0.3)
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    shift = rng.uniform(-0.4, 0.4, 2) + camera * zoom[:, None]
    matrix = np.stack([cos * aspect, -sin, shift[:, 0], sin * aspect, cos, shift[:, 1]], -1).reshape(frames, 2, 3)
    grid = functional.affine_grid(torch.tensor(matrix, dtype=torch.float32), [frames, 3, SIDE, SIDE], False)
    return _sample(texture, grid)


def _sample(texture: Tensor, grid: Tensor) -> Tensor:
    """`[frames, height, width, 3]`; one texture for all frames, so the frames are sampled as one tall picture."""
    frames, height, width, _ = grid.shape
    tall = grid.reshape(1, frames * height, width, 2)
    found = functional.grid_sample(texture, tall, padding_mode="reflection", align_corners=False)
    return found[0].permute(1, 2, 0).reshape(frames, height, width, 3)


def draw_object(canvas: Tensor, owners: Tensor, actor: Actor, number: int, aspect: float) -> None:
    """Put an actor in front of what is in `canvas` `[frames, side, side, 3]` and `owners` `[frames, side, side]`."""
    frames, scale = len(canvas), np.array([SIDE / 2 / aspect, SIDE / 2])
    reach = 1.7 * float(np.abs(actor.linear).sum(-1).max()) * scale.max()
    window = int(min(2 * np.ceil(reach) + 2, SIDE))
    centre = (actor.place + np.array([aspect, 1.0])) * scale
    start = np.clip(np.round(centre - window / 2), 0, SIDE - window).astype(np.int64)
    inverse = torch.tensor(np.linalg.inv(actor.linear), dtype=torch.float32)
    pixels = torch.arange(window) + 0.5
    x = ((torch.tensor(start[:, 0:1]) + pixels - torch.tensor(centre[:, 0:1])) / scale[0]).float()[:, None, :]
    y = ((torch.tensor(start[:, 1:2]) + pixels - torch.tensor(centre[:, 1:2])) / scale[1]).float()[:, :, None]
    entry = inverse[:, :, :, None, None]
    u, v = entry[:, 0, 0] * x + entry[:, 0, 1] * y, entry[:, 1, 0] * x + entry[:, 1, 1] * y
    time = torch.arange(frames, dtype=torch.float32)[:, None, None]
    size = torch.tensor(np.sqrt(np.abs(np.linalg.det(actor.linear)) * scale.prod()), dtype=torch.float32)
    cover = (actor.look.outline(u, v, time) * size[:, None, None] + 0.5).clamp(0, 1)

    left, top, zoom = actor.look.window
    colour = _sample(actor.look.texture, torch.stack([left + zoom * u, top + zoom * v], -1))
    light = torch.tensor(actor.light, dtype=torch.float32)[:, None, None] + actor.slant[0] * u + actor.slant[1] * v
    colour = (colour * light[..., None]).clamp(0, 1)

    frame = torch.arange(frames)[:, None, None]
    rows = (torch.tensor(start[:, 1:2]) + torch.arange(window))[:, :, None]
    columns = (torch.tensor(start[:, 0:1]) + torch.arange(window))[:, None, :]
    behind = canvas[frame, rows, columns]
    canvas[frame, rows, columns] = behind + (colour - behind) * cover[..., None]
    seen = owners[frame, rows, columns]
    owners[frame, rows, columns] = torch.where(cover > 0.5, torch.full_like(seen, number), seen)


def spoil(rng: Random, canvas: Tensor) -> Pictures:
    """What cameras and codecs do: exposure that drifts, blur, coarseness, noise, compression."""
    frames = len(canvas)
    time = np.arange(frames)
    gain = rng.uniform(0.6, 1.2) * (1 + rng.uniform(0, 0.25) * np.sin(rng.uniform(0.02, 0.3) * time))
    picture = (canvas * torch.tensor(gain, dtype=torch.float32)[:, None, None, None]).clamp(0, 1)
    if rng.random() < 0.4:
        picture = picture ** float(np.exp(rng.normal(0, 0.3)))
    picture = picture.permute(0, 3, 1, 2)
    if rng.random() < 0.3:
        coarse = int(rng.integers(72, 120))
        small = functional.interpolate(picture, (coarse, coarse), mode="bilinear", align_corners=False)
        picture = functional.interpolate(small, (SIDE, SIDE), mode="bilinear", align_corners=False)
    if rng.random() < 0.3:
        side = float(rng.uniform(0.1, 0.35))
        kernel = torch.tensor([side, 1 - 2 * side, side])
        kernel = (kernel[:, None] * kernel).expand(3, 1, 3, 3)
        picture = functional.conv2d(functional.pad(picture, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    if rng.random() < 0.6:
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 31)))
        picture = picture + torch.randn(picture.shape, generator=generator) * float(rng.uniform(0, 0.05))
    made = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    if rng.random() < 0.3:
        quality = int(rng.integers(30, 85))
        made = np.stack([_compress(one, quality) for one in made])
    return np.ascontiguousarray(made)


def _compress(picture: Pictures, quality: int) -> Pictures:
    packed = io.BytesIO()
    Image.fromarray(picture).save(packed, "JPEG", quality=quality)
    return np.asarray(Image.open(packed))
