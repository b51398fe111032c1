"""Random scripts: clips of several shots such as real edits have, with every choice drawn from one generator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from .clips import Join, Kind, Script
from .shot import Camera, Look, Shot, Size, Sprite
from .sprites import COLOURS

Pace = Literal["short", "medium", "long"]
Motion = Literal["still", "hand", "slow", "fast"]

SHOT_FRAMES: dict[Pace, tuple[int, int]] = {"short": (10, 16), "medium": (20, 60), "long": (70, 140)}
MOTIONS: tuple[Motion, ...] = ("still", "hand", "slow", "fast")


@dataclass(frozen=True)
class Style:
    """What a random script is drawn from.

    Attributes:
        places: What the shots show: each a set of texture names that are mixed, or the name of one place.
        shapes: Names of sprite shapes.
        joins: Kinds of transition, as often as they are named.
        paces: Lengths of shots, as often as they are named.
        motions: Ways in which the camera moves, as often as they are named.
        frames: Length of the clip, at least; the last shot may exceed it.
        dissolve: Range of a dissolve's length.
        kinship: Chance that a shot shares textures and colours with the one before.
        near: Chance that something large moves through a shot, close to the camera.
        size: Picture size.
    """

    places: tuple[tuple[str, ...], ...]
    shapes: tuple[str, ...]
    joins: tuple[Kind, ...] = ("cut",)
    paces: tuple[Pace, ...] = ("short", "medium", "medium", "medium", "long")
    motions: tuple[Motion, ...] = MOTIONS
    frames: int = 220
    dissolve: tuple[int, int] = (12, 60)
    kinship: float = 0.3
    near: float = 0.2
    size: Size = (320, 180)


def random_script(seed: int, style: Style) -> Script:
    """The script number `seed` of a style."""
    rng = np.random.default_rng(seed)
    shots, joins = [random_shot(rng, style, None)], list[Join]()
    while sum(shot.frames for shot in shots) + sum(join.length for join in joins) < style.frames:
        joins.append(random_join(rng, style))
        shots.append(random_shot(rng, style, shots[-1]))
    return Script(tuple(shots), tuple(joins), style.size)


def random_join(rng: np.random.Generator, style: Style) -> Join:
    """One transition of the kinds that the style has."""
    kind: Kind = style.joins[rng.integers(len(style.joins))]
    if kind == "dissolve":
        return Join(kind, int(rng.integers(style.dissolve[0], style.dissolve[1] + 1)))
    if kind == "fade":
        return Join(kind, int(rng.integers(6, 25)), int(rng.integers(1, 9)), white=bool(rng.random() < 0.25))
    if kind == "wipe":
        return Join(kind, int(rng.integers(8, 26)), turn=float(rng.choice(4) * np.pi / 2 + rng.normal(0, 0.2)))
    return Join()


def random_shot(rng: np.random.Generator, style: Style, before: Shot | None) -> Shot:
    """One shot, at times akin to the one before."""
    frames = int(rng.integers(*SHOT_FRAMES[style.paces[rng.integers(len(style.paces))]], endpoint=True))
    akin = before is not None and rng.random() < style.kinship
    shot = Shot(
        seed=int(rng.integers(1 << 31)),
        frames=frames,
        textures=style.places[rng.integers(len(style.places))],
        camera=random_camera(rng, style.motions[rng.integers(len(style.motions))], frames / 25),
        sprites=tuple(random_sprite(rng, style, frames / 25) for _ in range(int(rng.integers(0, 5)))),
        look=random_look(rng) if rng.random() < 0.7 else None,
        foreground=bool(rng.random() < 0.2),
        softness=float(rng.choice([0.0, 0.0, 0.0, 0.006])),
    )
    if rng.random() < style.near:
        shot = replace(shot, sprites=(*shot.sprites, _near_object(rng, style, frames / 25)))
    if akin and before is not None:
        shot = replace(shot, textures=before.textures, look=before.look)
    return shot


def random_look(rng: np.random.Generator) -> Look:
    """Colours from nearly grey to vivid, from dim to bright, from misty to hard."""
    mean = rng.uniform(0.2, 0.65) + rng.normal(0, rng.choice([0.0, 0.02, 0.08]), 3)
    deviation = rng.uniform(0.08, 0.28) * np.exp(rng.normal(0, 0.1, 3))
    red, green, blue = (float(value) for value in np.clip(mean, 0.05, 0.9))
    spread = (float(deviation[0]), float(deviation[1]), float(deviation[2]))
    return Look((red, green, blue), spread, float(rng.uniform(0.1, 1.0)))


def random_camera(rng: np.random.Generator, motion: Motion, seconds: float) -> Camera:
    """A camera on a tripod, in a hand, or on the move: at most about one picture width a second."""
    if motion == "still":
        return Camera()
    shake = float(rng.uniform(0.004, 0.03)) if motion == "hand" or rng.random() < 0.3 else 0.0
    if motion == "hand":
        return Camera(shake=shake, roll=(0.0, float(rng.normal(0, 0.03))), lasts=seconds)
    begins = float(rng.uniform(0, 0.3) * seconds)
    lasts = float(max(rng.uniform(0.5, 1.0) * seconds, 0.4))
    fastest = 0.25 if motion == "slow" else 1.0
    # A soft start and end: the fastest moment is 1.5 times the mean.
    distance = min(rng.uniform(0.3, 1.0) * fastest / 1.5 * lasts, 2.2)
    angle = rng.choice([0, np.pi, rng.uniform(0, 2 * np.pi)])
    zoom = (1.0, float(np.exp(rng.normal(0, 0.25)))) if rng.random() < 0.4 else (1.0, 1.0)
    roll = (float(rng.normal(0, 0.05)), float(rng.normal(0, 0.1))) if rng.random() < 0.2 else (0.0, 0.0)
    travel = (float(distance * np.cos(angle)), float(0.5 * distance * np.sin(angle)))
    return Camera(travel, zoom, roll, shake, begins, lasts)


def random_sprite(rng: np.random.Generator, style: Style, seconds: float) -> Sprite:
    """Something that moves through the shot and is to be seen about the middle of it."""
    speed = rng.uniform(0, 0.5)
    angle = rng.uniform(0, 2 * np.pi)
    velocity = (float(speed * np.cos(angle)), float(speed * np.sin(angle)))
    middle = rng.uniform(0.15, 0.85, 2)
    return Sprite(
        shape=str(rng.choice(style.shapes)),
        colour=str(rng.choice(tuple(COLOURS))),
        radius=float(np.exp(rng.uniform(np.log(0.05), np.log(0.25)))),
        start=(float(middle[0] - velocity[0] * seconds / 2), float(middle[1] - velocity[1] * seconds / 2)),
        velocity=velocity,
        sway=float(rng.uniform(0, 0.06)),
        spin=float(rng.normal(0, 0.8)),
        growth=float(np.exp(rng.normal(0, 0.15))),
        followed=bool(rng.random() < 0.5),
    )


def _near_object(rng: np.random.Generator, style: Style, seconds: float) -> Sprite:
    """Something large that goes through the whole picture within the shot, out of focus."""
    crossing = float(min(rng.uniform(0.4, 2.0), max(seconds, 0.4)))
    forward = rng.choice([-1.0, 1.0])
    radius = float(rng.uniform(0.35, 0.8))
    way = 1 + 2 * radius * 0.6
    middle = float(rng.uniform(0.2, 0.8) * seconds)
    velocity = float(forward * way / crossing)
    return Sprite(
        shape=str(rng.choice(style.shapes)),
        colour=str(rng.choice(tuple(COLOURS))),
        radius=radius,
        start=(0.5 - velocity * middle, float(rng.uniform(0.3, 0.8))),
        velocity=(velocity, 0.0),
        softness=float(rng.uniform(0.0, 0.12)),
    )
