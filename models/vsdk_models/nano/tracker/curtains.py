"""Things that are drawn in front of a clip while the training reads it: a curtain that hides everything for a while, or
a fence that hides parts of it.

They are patterned with a picture of another clip, which moves along, and are laid so that they meet an object at some
frame.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .video import Pictures, Track

Cover = npt.NDArray[np.float32]


def centre_of(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """x and y of the middle of a mask that is not empty."""
    y, x = np.nonzero(mask)
    return np.array([x.mean(), y.mean()])


def draw_curtain(
    rng: np.random.Generator, pictures: Pictures, owners: Pictures, number: int, pattern: Pictures
) -> tuple[Pictures, Pictures]:
    """A copy of a clip with something passing in front.

    Args:
        rng: Decides what, when and how fast.
        pictures: `[frames, side, side, 3]`.
        owners: `[frames, side, side]`.
        number: The object that it meets.
        pattern: `[side, side, 3]`, what it looks like.
    """
    frames, side = owners.shape[:2]
    shown = [frame for frame in range(frames) if (owners[frame] == number).any()]
    moment = int(rng.choice(shown[len(shown) // 4 :]))
    mask = owners[moment] == number
    reach = float(np.sqrt(mask.sum() / np.pi))
    direction = rng.uniform(0, 2 * np.pi)
    normal = np.array([np.cos(direction), np.sin(direction)])
    speed = float(rng.uniform(1.5, 6))
    place = centre_of(mask) + normal * (speed * (np.arange(frames) - moment))[:, None]
    if rng.random() < 0.6:
        cover = _band(place, normal, side, width=2 * reach + speed * float(rng.uniform(1, 12)))
    else:
        cover = _bars(place, normal, side, reach * float(rng.uniform(0.7, 1.6)), float(rng.uniform(0.25, 0.6)))
    tall = np.concatenate([pattern, pattern[::-1]])
    tile = np.concatenate([tall, tall[:, ::-1]], 1)
    shifts = np.round(place - place[0]).astype(np.int64)
    rolled = np.stack([np.roll(tile, (y, x), (0, 1))[:side, :side] for x, y in shifts])
    mixed = pictures + (rolled.astype(np.float32) - pictures) * cover[..., None]
    return mixed.astype(np.uint8), np.where(cover > 0.5, 0, owners).astype(np.uint8)


def _distance(place: Track, normal: Track, side: int) -> Cover:
    """`[frames, side, side]`: how far every pixel is from the middle of the curtain, along its way."""
    pixels = np.arange(side)
    along = normal[0] * pixels + normal[1] * pixels[:, None]
    return (along - (place @ normal)[:, None, None]).astype(np.float32)


def _band(place: Track, normal: Track, side: int, width: float) -> Cover:
    return np.clip(width / 2 - np.abs(_distance(place, normal, side)) + 0.5, 0, 1)


def _bars(place: Track, normal: Track, side: int, period: float, part: float) -> Cover:
    """A fence of five bars."""
    period = max(period, 6.0)
    distance = _distance(place, normal, side)
    within = np.abs((distance + period / 2) % period - period / 2)
    return np.clip(period * part / 2 - within + 0.5, 0, 1) * (np.abs(distance) < 2.5 * period)
