"""The picture of a video as its encoder takes it, to draw into: three planes, YUV 4:2:0, BT.709."""

from __future__ import annotations

import av
import numpy as np
import numpy.typing as npt
from av.video.plane import VideoPlane

from .drawing import Color

Plane = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]

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

    def paint(self, color: Color, alpha: Plane, left: int, top: int) -> None:
        """Lay one colour over the picture, as strongly as `alpha` says, uint8 `[height, width]`; all numbers even."""
        height, width = alpha.shape
        opacity = alpha.astype(np.uint16)
        opacity += opacity >> 7  # 255 becomes 256, so that dividing by it is a shift
        yuv = np.array(color, np.float32) @ _TO_YUV.T + _OFFSET
        luma, *chroma = (np.uint16(round(float(value))) for value in yuv)
        _paint_plane(self.y[top : top + height, left : left + width], luma, opacity)
        coarse = opacity[0::2, 0::2] + opacity[0::2, 1::2]
        coarse += opacity[1::2, 0::2]
        coarse += opacity[1::2, 1::2]
        coarse += 2
        coarse >>= 2
        left, top, height, width = left // 2, top // 2, height // 2, width // 2
        for plane, value in zip((self.u, self.v), chroma, strict=True):
            _paint_plane(plane[top : top + height, left : left + width], value, coarse)

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


def _paint_plane(plane: Plane, value: np.uint16, opacity: npt.NDArray[np.uint16]) -> None:
    """plane * (1 - opacity) + value * opacity, in integers: a quarter of the time that floats take."""
    mixed = plane * (256 - opacity)
    mixed += value * opacity
    mixed += 128
    mixed >>= 8
    plane[...] = mixed


def _halved(values: Values) -> Values:
    return (values[0::2, 0::2] + values[0::2, 1::2] + values[1::2, 0::2] + values[1::2, 1::2]) * np.float32(0.25)
