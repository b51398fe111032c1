"""Small JPEGs for the page: the newest picture of a stream, and the thumbnails of its scenes."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import dataclass

from PIL import Image as pillow

from ..frame import Frame, Image

PICTURE_EDGE = 800
THUMBNAIL_EDGE = 320
QUALITY = 78
SHORTEST_INTERVAL = 0.08
"""Seconds from one encoding to the next, however many look on."""


@dataclass(frozen=True)
class Picture:
    """A picture of a stream.

    Attributes:
        number: Rises from picture to picture.
        frame: Number of its frame.
        time: Its time in the stream, seconds.
        taken: When it was taken in, seconds since 1970.
        jpeg: The picture.
    """

    number: int
    frame: int
    time: float
    taken: float
    jpeg: bytes


class NewestPicture:
    """Keeps the newest frame, and makes a JPEG of it when somebody asks, once for all who ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held for a moment: streams must not wait
        self._encoding = threading.Lock()  # held while a JPEG is made
        self._frame: Frame | None = None
        self._number = 0
        self._taken = 0.0
        self._encoded: Picture | None = None
        self._encoded_at = 0.0

    def put(self, frame: Frame) -> None:
        """Replace the newest frame."""
        with self._lock:
            self._frame = frame
            self._number += 1
            self._taken = time.time()

    def get(self, after: int = 0) -> Picture | None:
        """The newest picture; None if there is none with a number greater than `after`."""
        with self._encoding:
            with self._lock:
                frame, number, taken = self._frame, self._number, self._taken
            fresh = self._encoded
            rests = time.monotonic() - self._encoded_at < SHORTEST_INTERVAL
            if frame is not None and (fresh is None or (fresh.number != number and not rests)):
                jpeg = small_jpeg(frame.image, PICTURE_EDGE)
                fresh = self._encoded = Picture(number, frame.number, float(frame.time), taken, jpeg)
                self._encoded_at = time.monotonic()
        return fresh if fresh is not None and fresh.number > after else None


def small_jpeg(image: Image, edge: int) -> bytes:
    """JPEG of an RGB picture, uint8 `[height, width, 3]`, shrunk so that its longer side is at most `edge` pixels."""
    picture = pillow.fromarray(image)
    picture.thumbnail((edge, edge), pillow.Resampling.BILINEAR, reducing_gap=2.0)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
