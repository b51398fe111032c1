"""What is drawn over each frame of an annotated video, straight into its YUV planes.

A label with the scene's index, the time and the frame number; a strip along the bottom edge that fills up in the
scenes' colours; and a border that flashes up when a scene begins.
"""

from __future__ import annotations

import av
import numpy as np
import numpy.typing as npt
from av.video.plane import VideoPlane
from PIL import Image as pillow
from PIL import ImageDraw

from .drawing import Color, clock, font, scene_color

Plane = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]

FLASH_SECONDS = 0.5
FIRST_SCALE_SECONDS = 10.0
DARK = (18, 18, 20)
WHITE = (255, 255, 255)
DIM = (196, 198, 204)

# ITU-R BT.709, 8 bits, limited range: luma from 16 to 235, chroma from 16 to 240.
_RED, _GREEN, _BLUE = 0.2126, 0.7152, 0.0722
_LUMA = np.array([_RED, _GREEN, _BLUE])
_TO_YUV = np.stack(
    [
        _LUMA * 219 / 255,
        (np.array([0, 0, 1]) - _LUMA) / (2 * (1 - _BLUE)) * 224 / 255,
        (np.array([1, 0, 0]) - _LUMA) / (2 * (1 - _RED)) * 224 / 255,
    ]
).astype(np.float32)
_OFFSET = np.array([16, 128, 128], np.float32)


class Planes:
    """The three planes of a YUV 4:2:0 frame in BT.709, limited range, to draw into.

    Args:
        frame: `yuv420p` with even width and height; drawing changes it.
    """

    def __init__(self, frame: av.VideoFrame) -> None:
        self.frame = frame
        self.width, self.height = frame.width, frame.height
        half = self.height // 2, self.width // 2
        shapes = ((self.height, self.width), half, half)
        self.y, self.u, self.v = (_view(*each) for each in zip(frame.planes, shapes, strict=True))

    def blend(self, patch: npt.NDArray[np.uint8], left: int, top: int) -> None:
        """Lay an RGBA patch, uint8 `[height, width, 4]`, over the picture; all numbers even."""
        alpha = patch[..., 3:] * np.float32(1 / 255)
        yuv = patch[..., :3].astype(np.float32) @ _TO_YUV.T + _OFFSET
        self._mix(yuv * alpha, alpha, left, top)

    def tint(self, color: Color, opacity: float, left: int, top: int, width: int, height: int) -> None:
        """Lay a rectangle of one colour over the picture; all positions and sizes even."""
        yuv = np.array(color, np.float32) @ _TO_YUV.T + _OFFSET
        alpha = np.full((height, width, 1), opacity, np.float32)
        self._mix(yuv * alpha, alpha, left, top)

    def _mix(self, weighted: Values, alpha: Values, left: int, top: int) -> None:
        """picture * (1 - alpha) + weighted; chroma takes the mean of each 2x2 pixels."""
        height, width = alpha.shape[:2]
        _mix_plane(self.y[top : top + height, left : left + width], weighted[..., 0], alpha[..., 0])
        left, top, height, width = left // 2, top // 2, height // 2, width // 2
        coarse_alpha = _halved(alpha)[..., 0]
        coarse = _halved(weighted)
        for channel, plane in ((1, self.u), (2, self.v)):
            _mix_plane(plane[top : top + height, left : left + width], coarse[..., channel], coarse_alpha)


def _view(plane: VideoPlane, shape: tuple[int, int]) -> Plane:
    """The plane's memory as an array, without the padding at the end of its rows."""
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: shape[0], : shape[1]]


def _mix_plane(plane: Plane, weighted: Values, alpha: Values) -> None:
    plane[...] = plane * (1 - alpha) + weighted + 0.5  # the cast to 8 bits cuts off: 0.5 rounds


def _halved(values: Values) -> Values:
    return (values[0::2, 0::2] + values[0::2, 1::2] + values[1::2, 0::2] + values[1::2, 1::2]) * np.float32(0.25)


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
