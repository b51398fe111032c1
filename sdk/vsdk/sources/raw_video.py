"""Frames without any container: samples, one picture after the other, whose layout somebody has to know."""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction

from ..errors import InputError, SourceEmptyError, SourceUnreadableError
from ..frame import Frame
from .byte_stream import READ_SECONDS, ByteFile, ByteStream
from .pixels import FORMATS, PixelLayout, rgb_from
from .recorded import RecordedSource
from .rgb import RgbConverter
from .timeline import DEFAULT_FRAME_RATE, checked_frame_rate

_RAW = re.compile(
    r"(?P<width>\d{1,9})x(?P<height>\d{1,9}):(?P<format>\w+)(?:@(?P<rate>\d{1,9}(?:\.\d{1,9}|/\d{1,9})?))?", re.ASCII
)
_EXAMPLE = "Write it as 1280x720:bgr24@30 (width x height : pixel format @ frames a second)."


@dataclass(frozen=True)
class RawFormat:
    """What has to be known of raw frames.

    Attributes:
        layout: Size and pixel format; planes and rows follow each other without a gap.
        frame_rate: Frames a second.
    """

    layout: PixelLayout
    frame_rate: Fraction = DEFAULT_FRAME_RATE

    @classmethod
    def parse(cls, text: str) -> RawFormat:
        """Read `WIDTHxHEIGHT:FORMAT[@RATE]`, such as `1280x720:bgr24@30` or `640x480:nv12@30000/1001`.

        Without a rate there are 25 frames a second. `pixels.FORMATS` has the formats.

        Raises:
            InputError: It is not so written, the format is unknown, or the size or the rate cannot be.
        """
        match = _RAW.fullmatch(text)
        if match is None:
            raise InputError(f"{text[:80]!r} does not describe raw frames", hint=_EXAMPLE)
        if match["format"] not in FORMATS:
            raise InputError(
                f"the pixel format {match['format'][:40]!r} is not known", hint=f"Known are: {', '.join(FORMATS)}."
            )
        try:
            rate = checked_frame_rate(Fraction(match["rate"])) if match["rate"] else DEFAULT_FRAME_RATE
        except ZeroDivisionError as error:
            raise InputError(f"{match['rate']!r} is no frame rate", hint=_EXAMPLE) from error
        return cls(PixelLayout.packed(match["format"], int(match["width"]), int(match["height"])), rate)


class RawVideo(RecordedSource):
    """Raw frames from a binary file object, every one of them; frame `n` has the time `n / frame_rate`.

    What is not RGB or grey is taken for limited range (`yuvj420p` for full), with the matrix that `rgb.py` takes for
    the size.

    Args:
        file: Open for reading; a pipe, for instance. It stays the caller's, who closes it.
        raw: What the frames look like, also as text: `"1280x720:bgr24@30"`.
        name: What events and errors call it; without credentials.
        timeout: Seconds to wait for the next bytes; see `ByteStream` for what can be waited for.

    Raises:
        SourceEmptyError: Not one byte.
        SourceUnreadableError: Fewer bytes than one frame has.
        SourceTimeoutError: Nothing came in time.
        SourceError: The file cannot be read.
        InputError: `raw` says nothing that can be, or `file` is no binary file.

    `read` raises the same errors; `SourceUnreadableError` where the last frame is cut short, after all whole ones.

    Example:
        ```python
        camera = subprocess.Popen(["my-camera", "--bgr"], stdout=subprocess.PIPE)
        with RawVideo(camera.stdout, "1280x720:bgr24@30") as source:
            for frame in source:
                ...
        ```
    """

    def __init__(
        self, file: ByteFile, raw: RawFormat | str, *, name: str = "raw video", timeout: float = READ_SECONDS
    ) -> None:
        self._raw = RawFormat.parse(raw) if isinstance(raw, str) else raw
        self._stream = ByteStream(file, name, timeout=timeout)
        super().__init__(name, self._take(name), frame_rate=self._raw.frame_rate, frame_count=None)

    def interrupt(self) -> None:
        """See `Source.interrupt`."""
        self._stream.stop()

    def _take(self, name: str) -> Generator[Frame, None, None]:
        layout, rate = self._raw.layout, self._raw.frame_rate
        converter = RgbConverter()
        number = 0
        while data := self._stream.read_whole(layout.size):
            if len(data) < layout.size:
                raise cut_short(name, number, len(data), layout)
            yield Frame(rgb_from(data, layout, converter), number, number / rate, number, 1 / rate, time.monotonic_ns())
            number += 1
        if number == 0:
            raise SourceEmptyError(f"{name} is empty: not one byte came", hint="Does the program that writes run?")


def cut_short(name: str, number: int, count: int, layout: PixelLayout) -> SourceUnreadableError:
    """The error for a frame of which only so many bytes came."""
    wanted = f"{layout.width}x{layout.height} {layout.format} has {layout.size}"
    return SourceUnreadableError(
        f"{name}: frame {number} has {count} bytes, but {wanted}",
        hint="The sender stopped within a frame, or its frames have another size or pixel format.",
    )
