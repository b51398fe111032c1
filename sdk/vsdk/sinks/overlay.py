"""What is drawn over each frame of an annotated video, straight into its YUV planes.

A label with the scene's index, the time and the frame number; a strip along the bottom edge that fills up in the
scenes' colours; and a border that flashes up when a scene begins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image as pillow
from PIL import ImageDraw

from .drawing import DARK, DIM, WHITE, clock, font, scene_color
from .planes import Planes

FLASH_SECONDS = 0.5
FIRST_SCALE_SECONDS = 10.0


class Overlay:
    """Draws on the frames of one video, in order.

    Args:
        width: Of the video, pixels, even.
        height: Of the video, pixels, even.
        duration: Length of the video in seconds, for the strip; when it is None or too short, the strip shows the
            time so far on a scale that doubles whenever it is full.
    """

    def __init__(self, width: int, height: int, duration: float | None = None) -> None:
        self._size = max(13, min(width, height) // 26)
        self._border = _even(max(4, min(width, height) // 60))
        self._scale = duration if duration else FIRST_SCALE_SECONDS
        self._strip = np.empty((_even(max(6, height // 72)), width, 4), np.uint8)
        self._strip[:] = (*DARK, 170)
        self._reached = 0
        self._scene = 0

    def draw(self, planes: Planes, *, number: int, time: float, scene: int, scene_start: float) -> None:
        """Draw on one frame.

        Args:
            planes: The picture; it is drawn into.
            number: Frame number.
            time: Seconds since the beginning.
            scene: Index of the scene that the frame belongs to.
            scene_start: When that scene began, in seconds.
        """
        strip = self._advance(time, scene)
        strip_top = planes.height - strip.shape[0]
        label = self._label(number, time, scene)[:strip_top, : planes.width]
        margin = self._border * 2
        left = margin if margin + label.shape[1] <= planes.width else 0
        planes.blend(label, left, max(0, strip_top - label.shape[0] - margin))
        since = time - scene_start
        if scene > 0 and 0 <= since < FLASH_SECONDS:
            self._flash(planes, scene, 1 - since / FLASH_SECONDS)
        planes.blend(strip, 0, strip_top)

    def _advance(self, time: float, scene: int) -> npt.NDArray[np.uint8]:
        """The strip, filled up to `time`, with a white head."""
        width = self._strip.shape[1]
        while time > self._scale:
            self._strip[:, : width // 2] = self._strip[:, ::2][:, : width // 2]
            self._strip[:, width // 2 :] = (*DARK, 170)
            self._scale *= 2
            self._reached //= 2
        position = min(int(time / self._scale * width), width - 1)
        if scene != self._scene:
            self._strip[:, self._reached : self._reached + 2] = (*DARK, 255)
            self._reached += 2
            self._scene = scene
        self._strip[:, self._reached : position + 1] = (*scene_color(scene), 235)
        self._reached = max(self._reached, position + 1)
        strip = self._strip.copy()
        strip[:, max(0, position - 1) : position + 2] = (*WHITE, 255)
        return strip

    def _label(self, number: int, time: float, scene: int) -> npt.NDArray[np.uint8]:
        """RGBA: the scene in large type on its colour, then time and frame."""
        large, small = font(self._size), font(max(12, self._size * 3 // 4))
        title, rest = f"Scene {scene}", f"{clock(time)}   frame {number}"
        room = round(small.getlength(f"0{clock(time)}   frame 00000"))  # so that the box does not jump with each digit
        pad = self._size // 2
        bar = max(6, self._size // 3)
        width = bar + pad * 4 + round(large.getlength(title) + max(room, small.getlength(rest)))
        height = self._size * 2
        image = pillow.new("RGBA", (_even(width), _even(height)), (0, 0, 0, 0))
        draw = ImageDraw.Draw(image)
        draw.rectangle((0, 0, width, height), (*DARK, 175))
        draw.rectangle((0, 0, bar, height), (*scene_color(scene), 255))
        draw.text((bar + pad, height // 2), title, WHITE, large, anchor="lm")
        draw.text((bar + pad * 3 + large.getlength(title), height // 2), rest, DIM, small, anchor="lm")
        return np.asarray(image)

    def _flash(self, planes: Planes, scene: int, strength: float) -> None:
        color, edge = scene_color(scene), self._border
        width, height = planes.width, planes.height
        planes.tint(color, strength, 0, 0, width, edge)
        planes.tint(color, strength, 0, height - edge, width, edge)
        planes.tint(color, strength, 0, edge, edge, height - 2 * edge)
        planes.tint(color, strength, width - edge, edge, edge, height - 2 * edge)


def _even(number: int) -> int:
    return number // 2 * 2
