"""Rendered sequences to judge trackers on: an object among its look-alikes, behind things, under changing light.

Every sequence has exact masks, and what makes it hard is known, because it is built in and then checked:

* the object takes 2 to 15 % of the picture on every frame on which nothing covers it;
* at least three look-alikes (of the same pattern and colours, or of the same shape, or both) come near it;
* on a fifth to three fifths of the frames it is partly or fully covered, in two of three sequences fully for a while;
* it turns, changes its size and is deformed; the camera pans, rolls, zooms and shakes; the light drifts.

A draft that lacks one of them is thrown away, and the next one is drawn. Neither shapes nor textures are those that
`nano` is trained with. Pictures are anti-aliased; a pixel belongs to an object if at least half of it is covered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from vsdk_runtimes.errors import InputError

from ..frame import Image
from .track_draft import draft_scene
from .track_scene import FRAMES, HEIGHT, WIDTH, Scene
from .track_sequence import Labels

AREA = (0.02, 0.15)
"""Least and largest part of the picture that the object takes while nothing covers it."""
LOOK_ALIKES = 3
OCCLUDED = 0.1
"""Part of the object that is hidden, from which on a frame counts as one with an occlusion."""
OCCLUDED_FRAMES = (0.2, 0.6)
"""Least and largest share of such frames."""
HIDDEN_FRAMES = 3
"""Frames without a visible pixel, in sequences in which it disappears."""
VISIBLE_FRAMES = 0.6
"""On so many of the frames at least half of the object is to be seen."""


@dataclass(frozen=True)
class Properties:
    """What makes a sequence hard.

    Attributes:
        area: Part of the picture that the object takes on each frame, with what covers it taken away, 0..1.
        visible: How much of it is visible on each frame, 0..1.
        near: For each look-alike how near it comes: the distance of the centres over the sum of the reaches.
        disappears: Whether the object was meant to vanish for some frames.
    """

    area: tuple[float, ...]
    visible: tuple[float, ...]
    near: tuple[float, ...]
    disappears: bool

    @property
    def look_alikes(self) -> int:
        """How many come near."""
        return sum(distance <= 1 for distance in self.near)

    @property
    def occluded(self) -> float:
        """Share of the frames on which the object is partly or fully covered."""
        return float(np.mean(np.array(self.visible) < 1 - OCCLUDED))

    @property
    def hidden(self) -> int:
        """Frames without a visible pixel of the object."""
        return self.visible.count(0.0)

    @property
    def hold(self) -> bool:
        """Whether everything is as stated above."""
        visible = np.array(self.visible)
        free = np.array(self.area)[visible >= 1 - OCCLUDED]
        return (
            self.visible[0] == 1
            and AREA[0] <= free.min()
            and free.max() <= AREA[1]
            and self.look_alikes >= LOOK_ALIKES
            and OCCLUDED_FRAMES[0] <= self.occluded <= OCCLUDED_FRAMES[1]
            and (not self.disappears or self.hidden >= HIDDEN_FRAMES)
            and float(np.mean(visible >= 0.5)) >= VISIBLE_FRAMES
        )


class RenderedSequence:
    """One sequence of 100 frames of 320 x 240; the object is number 1.

    It is rendered anew each time it is read, always the same; nothing is kept.

    Args:
        seed: Of all sequences of a test.
        number: Which of them.

    Raises:
        InputError: One of them is negative.
    """

    def __init__(self, seed: int, number: int) -> None:
        if seed < 0 or number < 0:
            raise InputError(f"there is no rendered sequence {number} of seed {seed}", hint="Count from 0.")
        self._key = seed, number
        self._disappears = number % 3 != 2
        self.name = f"rendered-{seed}-{number:03d}"

    def __len__(self) -> int:
        return FRAMES

    @property
    def scored(self) -> range:
        """All frames but the first, whose mask is the prompt."""
        return range(1, FRAMES)

    def properties(self) -> Properties:
        """What makes it hard, measured on its masks."""
        return self._scene()[1]

    def frames(self) -> Iterator[tuple[Image, Labels]]:
        """See `TrackSequence.frames`."""
        scene, _ = self._scene()
        noise = np.random.default_rng((*self._key, 0))
        for number in range(FRAMES):
            yield scene.render(number, noise)

    def _scene(self) -> tuple[Scene, Properties]:
        """The first draft that is as it should be."""
        for attempt in count(1):
            scene = draft_scene(np.random.default_rng((*self._key, attempt)), self._disappears)
            whole, seen = scene.target_pixels(0)
            if (
                whole == seen and (properties := measure_properties(scene, self._disappears)).hold
            ):  # most drafts fail on the first frame
                return scene, properties
        raise AssertionError("drafts do not end")


def rendered_sequences(number: int, seed: int = 0) -> list[RenderedSequence]:
    """So many sequences.

    Raises:
        InputError: None at all, or a negative seed.
    """
    if number < 1:
        raise InputError(f"{number} rendered sequences are no test", hint="Ask for at least one.")
    return [RenderedSequence(seed, each) for each in range(number)]


def measure_properties(scene: Scene, disappears: bool) -> Properties:
    """Measure a scene on the masks that its frames have; `disappears` says what is asked of it."""
    area, visible = [], []
    for number in range(FRAMES):
        whole, seen = scene.target_pixels(number)
        area.append(seen / (WIDTH * HEIGHT))
        visible.append(seen / whole if whole else 0.0)
    return Properties(tuple(area), tuple(visible), tuple(scene.nearness()), disappears)
