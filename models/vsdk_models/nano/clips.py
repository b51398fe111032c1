"""Rendered clips whose scene boundaries are known exactly.

A `Script` is a row of shots with a join between each two. `render` draws it; `Script.transitions` is the truth. A
`Clip` is any sequence of frames with its truth, rendered or real; `disturbances.py` makes clips out of clips.

Nothing here imports torch: the demo renders its clip on machines that do not have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from .shot import Shot, ShotPainter, Size

Frame = npt.NDArray[np.uint8]
"""One picture, RGB, uint8 `[height, width, 3]`."""
Kind = Literal["cut", "dissolve", "fade", "wipe"]


@dataclass(frozen=True)
class Transition:
    """A change of scene.

    Attributes:
        kind: How the scene changes.
        first: A cut: number of the first frame of the new scene. Else the first frame that shows the change.
        last: A cut: the same as `first`. Else the last frame that shows the change; the one after it shows only the
            new scene.
    """

    kind: Kind
    first: int
    last: int

    def later(self, frames: int) -> Transition:
        """The same change, some frames later."""
        return replace(self, first=self.first + frames, last=self.last + frames)


@dataclass(frozen=True)
class Join:
    """How one shot gives way to the next.

    Attributes:
        kind: A cut takes no frames; the others show both shots for some frames, in which both go on moving.
        frames: A dissolve or wipe: its length. A fade: its length out and again its length in.
        hold: A fade: how many frames of plain colour lie between.
        white: A fade: through white instead of black.
        turn: A wipe: direction in which the new shot comes in, radians.
    """

    kind: Kind = "cut"
    frames: int = 0
    hold: int = 1
    white: bool = False
    turn: float = 0.0

    @property
    def length(self) -> int:
        """How many frames the clip gets longer by."""
        if self.kind == "cut":
            return 0
        return self.frames if self.kind != "fade" else 2 * self.frames + self.hold


@dataclass(frozen=True)
class Script:
    """A clip before it is drawn.

    Attributes:
        shots: One or more.
        joins: One fewer than shots.
        size: Width and height in pixels.
        frame_rate: Frames a second.
    """

    shots: tuple[Shot, ...]
    joins: tuple[Join, ...]
    size: Size = (320, 180)
    frame_rate: float = 25.0

    def __post_init__(self) -> None:
        if len(self.joins) != len(self.shots) - 1:
            raise ValueError(f"{len(self.shots)} shots need {len(self.shots) - 1} joins, not {len(self.joins)}")

    @property
    def frames(self) -> int:
        """Length of the clip."""
        return sum(shot.frames for shot in self.shots) + sum(join.length for join in self.joins)

    @property
    def transitions(self) -> list[Transition]:
        """The truth."""
        found, position = [], 0
        for shot, join in zip(self.shots[:-1], self.joins, strict=True):
            position += shot.frames
            found.append(Transition(join.kind, position, position + max(join.length - 1, 0)))
            position += join.length
        return found


def render(script: Script) -> Iterator[Frame]:
    """The frames of a script, in order; each array belongs to the caller."""
    painter, start = ShotPainter(script.shots[0], script.size, script.frame_rate), 0
    for number, shot in enumerate(script.shots):
        for index in range(start, start + shot.frames):
            yield np.array(painter.draw(index))
        if number == len(script.joins):
            return
        join = script.joins[number]
        coming = ShotPainter(script.shots[number + 1], script.size, script.frame_rate)
        for step in range(join.length):
            yield np.array(_joined(painter, coming, join, start + shot.frames, step))
        painter, start = coming, _frames_before_solo(join)


def _frames_before_solo(join: Join) -> int:
    """How many frames of the new shot a join has used up."""
    return join.frames if join.kind != "cut" else 0


def _joined(old: ShotPainter, new: ShotPainter, join: Join, ending: int, step: int) -> Image.Image:
    """Frame `step` of a join; `ending` is the frame of the old shot at step 0."""
    part = (step + 1) / (join.frames + 1)
    if join.kind == "dissolve":
        return Image.blend(old.draw(ending + step), new.draw(step), part)
    if join.kind == "wipe":
        picture = old.draw(ending + step)
        picture.paste(new.draw(step), (0, 0), _wipe_mask(picture.size, join.turn, part))
        return picture
    plain = Image.new("RGB", old.size, (255, 255, 255) if join.white else (0, 0, 0))
    if step < join.frames:
        return Image.blend(old.draw(ending + step), plain, part)
    if step < join.frames + join.hold:
        return plain
    back = step - join.frames - join.hold
    return Image.blend(plain, new.draw(back), (back + 1) / (join.frames + 1))


def _wipe_mask(size: Size, turn: float, part: float) -> Image.Image:
    """Where the new shot is to be seen once `part` of a wipe is over; its edge is soft over a few pixels."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    across = (x / width - 0.5) * np.cos(turn) + (y / height - 0.5) * np.sin(turn)
    reach = (abs(np.cos(turn)) + abs(np.sin(turn))) / 2
    edge = -reach + 2 * reach * part
    return Image.fromarray((np.clip((edge - across) * width / 4 + 0.5, 0, 1) * 255).astype(np.uint8))


@dataclass(frozen=True)
class Clip:
    """Frames with their truth.

    Attributes:
        name: For tables and file names.
        size: Width and height in pixels.
        frames: How many.
        open: Gives the frames from the first on, each time it is called.
        transitions: The truth.
        ignored: Intervals of frame numbers (both inclusive) in which a detection is neither right nor wrong.
    """

    name: str
    size: Size
    frames: int
    open: Callable[[], Iterator[Frame]]
    transitions: tuple[Transition, ...]
    ignored: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, script: Script, name: str) -> Clip:
        """The clip that a script describes."""
        return cls(name, script.size, script.frames, lambda: render(script), tuple(script.transitions))
