"""Addresses of cameras at this machine, and the mode that one is to be used in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from ..errors import SourceError
from .timeline import checked_frame_rate

SCHEME = "camera"

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})", re.ASCII)
_RATE = re.compile(r"\d{1,6}(?:\.\d{1,6}|/\d{1,6})?", re.ASCII)
_FORMAT = re.compile(r"[a-z0-9_]{1,20}", re.ASCII)
_PATH = re.compile(r"/[\w.,:+\-/ ]+", re.ASCII)
_EXAMPLE = "For instance camera://0, or camera:///dev/video2?size=1280x720&rate=30&format=mjpeg"


@dataclass(frozen=True)
class CameraAddress:
    """A camera, and what is wanted of it; None leaves it to the driver.

    Attributes:
        device: Its device file, such as `/dev/video0`.
        size: Width and height in pixels.
        rate: Frames a second.
        format: FFmpeg's name of what the camera is to send: `mjpeg`, `yuyv422`, `h264`, ...
    """

    device: Path
    size: tuple[int, int] | None = None
    rate: Fraction | None = None
    format: str | None = None

    @property
    def name(self) -> str:
        """For people."""
        return str(self.device)


def camera_number(number: int) -> CameraAddress:
    """The camera of `/dev/videoN`.

    Raises:
        SourceError: There are no such numbers.
    """
    if not 0 <= number < 1 << 16:
        raise SourceError(f"{number} is no number of a camera", hint="They count from 0: camera://0 is /dev/video0.")
    return CameraAddress(Path(f"/dev/video{number}"))


def parse_camera_address(text: str) -> CameraAddress:
    """Understand `camera://N` or `camera:///PATH`, with `size=WxH`, `rate=R` and `format=F` behind a `?`.

    Raises:
        SourceError: It is not so written. Of what was not understood nothing is shown.
    """
    address = text.partition("://")[2]
    where, _, query = address.partition("?")
    if where.isdecimal() and where.isascii() and len(where) <= 5:
        device = camera_number(int(where)).device
    elif _PATH.fullmatch(path := unquote(where)):
        device = Path(path)
    else:
        raise SourceError("camera:// is to be followed by a number or by the path of a device", hint=_EXAMPLE)
    options = _options(query)
    return CameraAddress(device, _size(options.get("size")), _rate(options.get("rate")), _format(options.get("format")))


def _options(query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    if len(options) != len(pairs) or not options.keys() <= {"size", "rate", "format"}:
        raise SourceError("camera:// takes the options size, rate and format, each at most once", hint=_EXAMPLE)
    return options


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise SourceError("the size of a camera is written as WIDTHxHEIGHT", hint=_EXAMPLE)
    return int(match[1]), int(match[2])


def _rate(text: str | None) -> Fraction | None:
    if text is None:
        return None
    if not _RATE.fullmatch(text) or not (rate := _fraction(text)):
        raise SourceError("the rate of a camera is a number of frames a second, more than 0", hint=_EXAMPLE)
    return checked_frame_rate(rate)


def _fraction(text: str) -> Fraction | None:
    try:
        return Fraction(text)
    except ZeroDivisionError:
        return None


def _format(text: str | None) -> str | None:
    if text is not None and not _FORMAT.fullmatch(text):
        raise SourceError("the format of a camera is a name such as mjpeg, yuyv422 or h264", hint=_EXAMPLE)
    return text
