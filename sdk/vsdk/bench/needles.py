"""Needles: what the needle-in-a-video-haystack test hides, and what a memory has to name later.

A needle is a badge: a square of one colour in a larger square of another, with a black and white border. The ordered
pair of colours is its class. Everything else about it (size, place, turn, roundness, shade, grain) differs from
instance to instance.

Sizes are fractions of the picture's side, so that a needle looks the same to encoders of any input size. Training and
test draw from different grains and from different seeds: no test needle has been seen in training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image as pillow
from PIL import ImageDraw

from ..frame import Image

Way = Literal["overlay", "splice"]
Kind = Literal["image", "video"]
Random = np.random.Generator
Field = npt.NDArray[np.float32]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (217, 31, 31), "yellow": (242, 224, 51), "green": (38, 166, 51),
    "cyan": (38, 204, 217), "blue": (38, 64, 217), "pink": (242, 128, 179),
}  # fmt: skip
CLASSES: tuple[tuple[str, str], ...] = tuple(permutations(COLOURS, 2))
"""Colour inside, colour around it; the class of a needle is its index here."""
WAYS: tuple[Way, ...] = ("overlay", "splice")
KINDS: tuple[Kind, ...] = ("image", "video")

SIZES: dict[Way, tuple[float, float]] = {"overlay": (0.5, 0.7), "splice": (0.55, 0.8)}
"""Side of the badge, as a fraction of the picture's."""
SHUTTER = 1 / 15
"""Seconds for which one frame of a moving needle is exposed."""
EXPOSURES = 4
"""Moments that are averaged over the shutter's time."""
OVERSAMPLING = 2


def class_name(label: int) -> str:
    """Such as `red in blue`."""
    inside, around = CLASSES[label]
    return f"{inside} in {around}"


def _speckle(rng: Random, side: int) -> Field:
    return rng.standard_normal((side, side)).astype(np.float32)


def _blocks(rng: Random, side: int) -> Field:
    coarse = rng.standard_normal((8, 8)).astype(np.float32)
    return np.kron(coarse, np.ones((-(-side // 8),) * 2, np.float32))[:side, :side]


def _stripes(rng: Random, side: int) -> Field:
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    angle, waves = rng.uniform(0, np.pi), rng.uniform(5, 16)
    return np.asarray(np.sin(2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle))), np.float32)


def _mottle(rng: Random, side: int) -> Field:
    coarse = pillow.fromarray(rng.standard_normal((6, 6)).astype(np.float32))
    return np.asarray(coarse.resize((side, side), pillow.Resampling.BICUBIC), np.float32)


Grain = Literal["speckle", "blocks", "stripes", "mottle"]
GRAINS: dict[Grain, Callable[[Random, int], Field]] = {
    "speckle": _speckle, "blocks": _blocks, "stripes": _stripes, "mottle": _mottle,
}  # fmt: skip
TRAINING_GRAINS: tuple[Grain, ...] = ("speckle", "blocks")
TEST_GRAINS: tuple[Grain, ...] = ("stripes", "mottle")
Split = Literal["training", "test"]
_FIRST_SEED: dict[Split, int] = {"training": 0, "test": 1 << 40}


@dataclass(frozen=True)
class Needle:
    """One instance.

    Attributes:
        label: Its class, an index of `CLASSES`.
        way: `overlay` draws the badge over the running scene; `splice` replaces the scene's frame by the needle's own.
        kind: An `image` stands still; a `video` drifts and turns during its second, and its frame is motion-blurred.
        split: Which grains and seeds it is made of.
        seed: Decides everything else; not negative.
    """

    label: int
    way: Way
    kind: Kind
    split: Split
    seed: int

    def show(self, frame: Image, moment: float = 0.5) -> Image:
        """The picture in which the needle is seen.

        Args:
            frame: The haystack's picture, square, uint8 `[side, side, 3]`; not changed.
            moment: Which moment of the needle's second, 0..1; an `image` looks the same at each.

        Returns:
            uint8 `[side, side, 3]`.
        """
        rng = np.random.default_rng(_FIRST_SEED[self.split] + self.seed)
        side = frame.shape[0]
        grains = TRAINING_GRAINS if self.split == "training" else TEST_GRAINS
        badge = _Badge(rng, self.label, SIZES[self.way], grains, side)
        ground = frame if self.way == "overlay" else _own_ground(rng, grains, side)
        if self.kind == "image":
            return _to_picture(badge.over(ground, 0.0))
        moments = moment + np.linspace(-0.5, 0.5, EXPOSURES) * SHUTTER
        seen = [badge.over(ground, float(at) - 0.5) for at in moments]
        return _to_picture(np.mean(seen, axis=0, dtype=np.float32))


class _Badge:
    """A drawn badge with its place and its motion."""

    def __init__(
        self, rng: Random, label: int, sizes: tuple[float, float], grains: tuple[Grain, ...], side: int
    ) -> None:
        length = rng.uniform(*sizes) * side
        inside, around = (_shade(rng, COLOURS[name]) for name in CLASSES[label])
        grain = GRAINS[grains[int(rng.integers(len(grains)))]]
        self._image = _drawn(rng, round(length * OVERSAMPLING), inside, around, grain)
        reach = max((side - length) / 2, 0.04 * side)
        self._centre = side / 2 + rng.uniform(-reach, reach, 2)
        self._turn = rng.uniform(-12, 12)
        self._drift = rng.uniform(-0.2, 0.2, 2) * side
        self._spin = rng.uniform(-40, 40)

    def over(self, ground: Image, seconds: float) -> npt.NDArray[np.float32]:
        """The badge over a picture, so many seconds before or after the middle of its time."""
        turned = self._image.rotate(self._turn + self._spin * seconds, pillow.Resampling.BILINEAR, expand=True)
        size = max(1, turned.width // OVERSAMPLING)
        small = turned.resize((size, size), pillow.Resampling.BOX)
        x, y = self._centre + self._drift * seconds - size / 2
        picture = pillow.fromarray(ground)
        picture.paste(small.convert("RGB"), (round(x), round(y)), small.getchannel("A"))
        return np.asarray(picture, np.float32)


def _drawn(rng: Random, side: int, inside: Field, around: Field, grain: Callable[[Random, int], Field]) -> pillow.Image:
    """The badge itself, RGBA, `side` pixels wide: border, surround, centre."""
    image = pillow.new("RGBA", (side, side), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    round_corners = rng.uniform(0, 0.18) * side
    border = rng.uniform(0.025, 0.045) * side
    pen.rounded_rectangle((0, 0, side - 1, side - 1), round_corners, fill=(250, 250, 250, 255))
    pen.rounded_rectangle(_inset(side, border), round_corners * 0.9, fill=(12, 12, 12, 255))
    pen.rounded_rectangle(_inset(side, 2 * border), round_corners * 0.8, fill=(*_ink(around), 255))
    middle = (0.5 - rng.uniform(0.22, 0.27)) * side
    pen.rounded_rectangle(_inset(side, middle), round_corners * 0.5, fill=(*_ink(inside), 255))
    pixels = np.array(image)
    worn = pixels[..., :3] + grain(rng, side)[..., None] * rng.uniform(0, 12)
    pixels[..., :3] = np.clip(worn, 0, 255)
    return pillow.fromarray(pixels, "RGBA")


def _inset(side: int, margin: float) -> tuple[float, float, float, float]:
    return margin, margin, side - 1 - margin, side - 1 - margin


def _shade(rng: Random, colour: tuple[int, int, int]) -> Field:
    """The colour in the light of its day."""
    return (np.array(colour) * rng.uniform(0.85, 1.08) + rng.normal(0, 6, 3)).astype(np.float32)


def _ink(colour: Field) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in np.clip(colour, 0, 255))
    return red, green, blue


def _own_ground(rng: Random, grains: tuple[Grain, ...], side: int) -> Image:
    """What surrounds the badge in a picture of its own: a nearly grey ramp with a grain."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    light = rng.uniform(60, 200) + (x * np.cos(angle) + y * np.sin(angle)) * rng.uniform(0, 120)
    light += GRAINS[grains[int(rng.integers(len(grains)))]](rng, side) * rng.uniform(0, 25)
    return _to_picture(light[..., None] + rng.normal(0, 10, 3).astype(np.float32))


def _to_picture(values: npt.NDArray[np.float32]) -> Image:
    picture: Image = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    return picture
