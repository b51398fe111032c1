"""Drafts of the scenes of rendered sequences: an object, look-alikes that cross its way, and things in front of it.

The object swings through the picture on a smooth path. Every look-alike has its own, laid so that at one moment it
passes near the object, before or behind it. Curtains and fences move across the object's path so that they meet it at a
given moment; how wide a curtain is decides for how long the object is hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .track_scene import FRAMES, HEIGHT, TEXTURE_REACH, WIDTH, Camera, Item, Light, Motion, Random, Scene, Values
from .track_shapes import SHAPES, Outline, area_of, curtain, fence, reach_of
from .track_textures import TEXTURES, Paint, Tones, random_tones

OBJECT_AREA = (0.028, 0.1)
"""Part of the picture that the object takes at its middle size."""
MOST_REACH = 62.0
PITCH = (9.0, 26.0)
"""Of the textures of objects, pixels."""
GROUND_PITCH = (14.0, 60.0)
GROUND_SIDE = 640
LENGTH = 560.0
"""Of curtains and fences, pixels: more than the picture's diagonal, wherever they stand."""

_TIMES = np.arange(FRAMES, dtype=np.float64)
_SIZE = np.array([WIDTH, HEIGHT], np.float64)


@dataclass(frozen=True)
class _Look:
    """What makes an object look as it does."""

    outline: Outline
    family: str
    tones: Tones

    def paint(self, rng: Random, size: float) -> Paint:
        """Another sample of the same pattern in the same colours, for an object of so many pixels a unit."""
        side = max(32, round(2 * TEXTURE_REACH * reach_of(self.outline) * size))
        return Paint(self.family, self.tones, side, rng.uniform(*PITCH), _seed(rng))


def draft_scene(rng: Random, disappears: bool) -> Scene:
    """A scene at random; it need not have the properties that are asked for.

    Args:
        rng: Decides everything else.
        disappears: Whether something passes that hides the object wholly.
    """
    look = _Look(_any_shape(rng), _any_texture(rng), random_tones(rng))
    size = _size_of(rng, look.outline)
    target = _object(rng, look, size, _wander(rng, size * reach_of(look.outline)))
    alikes = [_look_alike(rng, kind, look, target) for kind in _kinds(rng)]
    in_front, *behind = alikes
    items = [*behind, target, in_front, *_occluders(rng, target, disappears)]
    return Scene(
        grounds=_grounds(rng, look.family),
        border=rng.standard_normal((4, 4)).astype(np.float32),
        items=tuple(items),
        target=len(behind),
        camera=_camera(rng),
        light=_light(rng),
    )


def _any_shape(rng: Random) -> Outline:
    return SHAPES[str(rng.choice(list(SHAPES)))](rng)


def _any_texture(rng: Random, *other_than: str) -> str:
    return str(rng.choice([name for name in TEXTURES if name not in other_than]))


def _seed(rng: Random) -> int:
    return int(rng.integers(1 << 32))


def _size_of(rng: Random, outline: Outline) -> float:
    """Pixels for each unit of the shape, so that it takes a share of the picture drawn from `OBJECT_AREA`."""
    share = np.exp(rng.uniform(*np.log(OBJECT_AREA)))
    return float(min(np.sqrt(share * WIDTH * HEIGHT / area_of(outline)), MOST_REACH / reach_of(outline)))


def _object(rng: Random, look: _Look, size: float, centre: Values) -> Item:
    motion = Motion(
        centre=centre,
        size=size * np.exp(_swing(rng, rng.uniform(0.08, 0.22))),
        angle=rng.uniform(0, 2 * np.pi) + rng.uniform(-0.02, 0.02) * _TIMES + _swing(rng, rng.uniform(0, 0.4)),
        squash=np.exp(_swing(rng, rng.uniform(0, 0.15))),
        phase=rng.uniform(0, 2 * np.pi) + rng.uniform(0.1, 0.35) * _TIMES,
    )
    return Item(look.outline, look.paint(rng, size), motion, bend=rng.uniform(0.03, 0.09))


def _kinds(rng: Random) -> list[str]:
    """How each look-alike resembles the object: a twin, one in its pattern, one in its shape, and up to two more."""
    more = rng.choice(["twin", "pattern", "shape"], int(rng.integers(0, 3)))
    kinds = ["twin", "pattern", "shape", *map(str, more)]
    rng.shuffle(kinds)
    return kinds


def _look_alike(rng: Random, kind: str, look: _Look, target: Item) -> Item:
    outline = _any_shape(rng) if kind == "pattern" else look.outline
    family, tones = look.family, look.tones
    if kind == "shape":
        family, tones = _any_texture(rng, look.family), random_tones(rng)
    size = float(target.motion.size.mean()) * rng.uniform(0.75, 1.15)
    if kind == "pattern":
        size *= np.sqrt(area_of(look.outline) / area_of(outline))
    size = min(size, MOST_REACH / reach_of(outline))
    reach = target.reach + size * reach_of(outline)
    moment, direction = int(rng.integers(12, FRAMES - 5)), rng.uniform(0, 2 * np.pi)
    aside = rng.uniform(0.4, 0.95) * reach * np.array([np.cos(direction), np.sin(direction)])
    path = _passing(rng, target.motion.centre[moment] + aside, moment)
    item = _object(rng, _Look(outline, family, tones), size, path)
    return Item(item.outline, item.paint, item.motion, item.bend, is_look_alike=True)


def _wander(rng: Random, reach: float) -> Values:
    """A smooth path through the picture that keeps an object of this reach mostly inside."""
    room = np.maximum(_SIZE / 2 - 0.85 * reach, 10)
    paths = []
    for half, length in zip(room, _SIZE, strict=True):
        speed = rng.uniform(1.0, 3.0)  # pixels a frame, at most about
        wide = half * rng.uniform(0.4, 0.85)
        path = wide * np.sin(speed / wide * _TIMES + rng.uniform(0, 2 * np.pi)) + _swing(rng, 0.15 * half, 2.0)
        paths.append(length / 2 + path)
    return np.stack(paths, axis=1)


def _passing(rng: Random, point: Values, moment: int) -> Values:
    """A smooth path that stays near the picture and passes a point at a moment."""
    paths = []
    for at, length in zip(point, _SIZE, strict=True):
        middle, half = length / 2, max(length * rng.uniform(0.35, 0.5), abs(at - length / 2) + 5)
        start = np.arcsin((at - middle) / half)
        speed = rng.uniform(1.0, 4.0) * rng.choice([-1, 1])
        paths.append(middle + half * np.sin(start + speed / half * (_TIMES - moment)))
    return np.stack(paths, axis=1)


def _occluders(rng: Random, target: Item, disappears: bool) -> list[Item]:
    """Things that pass in front: a curtain if the object is to disappear, else a fence; and sometimes another fence."""
    first = int(rng.integers(22, 50))
    moments = [first, int(rng.integers(first + 25, FRAMES - 8))]
    kinds = ["curtain" if disappears else "fence"]
    if rng.random() < 0.5:
        kinds.insert(int(rng.integers(2)), "fence")
    else:
        moments = [int(rng.choice(moments))]
    return [_occluder(rng, kind, target, moment) for kind, moment in zip(kinds, moments, strict=True)]


def _occluder(rng: Random, kind: str, target: Item, moment: int) -> Item:
    direction = rng.uniform(0, 2 * np.pi)
    normal = np.array([np.cos(direction), np.sin(direction)])
    own = float((target.motion.centre[moment] - target.motion.centre[moment - 1]) @ normal)
    speed = -np.copysign(rng.uniform(6.0, 10.0), own)  # against the object's own motion
    reach = float(target.motion.size[moment]) * reach_of(target.outline)
    if kind == "curtain":
        outline = curtain(rng, LENGTH, 2.1 * reach + abs(speed - own) * rng.uniform(4, 10))
    else:
        outline = fence(rng, LENGTH, reach * rng.uniform(1.0, 2.2))
    centre = target.motion.centre[moment] + normal * (speed * (_TIMES - moment))[:, None]
    still = np.ones(FRAMES)
    paint = Paint(_any_texture(rng), random_tones(rng), round(LENGTH), rng.uniform(*GROUND_PITCH), _seed(rng))
    return Item(outline, paint, Motion(centre, still, direction * still, still, 0 * still))


def _grounds(rng: Random, family: str) -> tuple[Paint, ...]:
    """One or two textures, none of them the object's."""
    return tuple(
        Paint(_any_texture(rng, family), random_tones(rng), GROUND_SIDE, rng.uniform(*GROUND_PITCH), _seed(rng))
        for _ in range(int(rng.integers(1, 3)))
    )


def _camera(rng: Random) -> Camera:
    shake = rng.normal(0, rng.uniform(0, 0.8), (FRAMES, 2))
    drift = rng.uniform(-0.9, 0.9, 2) * (_TIMES - FRAMES / 2)[:, None]
    sway = np.stack([_swing(rng, rng.uniform(0, 12)) for _ in range(2)], axis=1)
    return Camera(
        roll=_swing(rng, rng.uniform(0, 0.07)),
        zoom=np.exp(_swing(rng, rng.uniform(0, 0.05))),
        shake=shake,
        pan=GROUND_SIDE / 2 + drift + sway,
    )


def _light(rng: Random) -> Light:
    brighter = _swing(rng, rng.uniform(0.05, 0.2)) + np.linspace(0, rng.uniform(-0.25, 0.15), FRAMES)
    tint = np.stack([_swing(rng, rng.uniform(0, 0.05)) for _ in range(3)], axis=1)
    slope = np.stack([_swing(rng, rng.uniform(0, 0.18)) for _ in range(2)], axis=1)
    return Light(gain=np.exp(brighter[:, None] + tint), slope=slope, noise=float(rng.uniform(2, 7)))


def _swing(rng: Random, reach: float, swings: float = 1.0) -> Values:
    """`[frames]`: to and fro around 0, about so often in a sequence."""
    rate = 2 * np.pi * swings * rng.uniform(0.5, 1.5) / FRAMES
    return np.asarray(reach * np.sin(rate * _TIMES + rng.uniform(0, 2 * np.pi)), np.float64)
