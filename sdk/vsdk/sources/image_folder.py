"""A folder of pictures, taken as the frames of a video."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps

from ..errors import SourceEmptyError, SourceUnreadableError
from ..frame import Frame, Image
from .paths import kind_of
from .recorded import RecordedSource
from .timeline import DEFAULT_FRAME_RATE, checked_frame_rate

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

# Pillow goes by the content, not by the name; without this a ".png" could be PostScript, which runs Ghostscript.
_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")


class ImageFolder(RecordedSource):
    """The pictures of a folder in natural order: `frame2.png` before `frame10.png`.

    Taken are files whose name ends in one of `SUFFIXES`, in upper or lower case; hidden files and folders inside are
    not. Of pictures with several pages the first is taken. EXIF orientation is applied, alpha dropped, grey and
    palettes become RGB, and of 16 bits the upper eight are kept. Colour profiles are ignored.

    Args:
        path: The folder.
        frame_rate: Frames a second; frame `n` has the time `n / frame_rate`.

    Raises:
        SourceNotFoundError: No such folder.
        SourceEmptyError: No picture in it.
        SourceUnreadableError: Not a folder; or the first picture is damaged.
        InputError: `frame_rate` is not a positive number.

    `read` raises `SourceUnreadableError` at a damaged picture, and `SourceChangedError` at one of another size.
    """

    def __init__(self, path: str | os.PathLike[str], *, frame_rate: Fraction | float = DEFAULT_FRAME_RATE) -> None:
        rate = checked_frame_rate(frame_rate)
        folder = Path(path)
        files = _pictures_in(folder)
        super().__init__(folder.name or str(folder), self._load(files, rate), frame_rate=rate, frame_count=len(files))

    def _load(self, files: list[Path], rate: Fraction) -> Generator[Frame, None, None]:
        for number, file in enumerate(files):
            image = _rgb(file)
            self._admit(f"{file} (frame {number})", image.shape[1], image.shape[0])
            yield Frame(image, number, number / rate, number, 1 / rate, time.monotonic_ns())


def natural_order(name: str) -> list[tuple[int, int | str]]:
    """A sort key in which digits count as the number that they write, and letters without regard to case."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]


def _pictures_in(folder: Path) -> list[Path]:
    if kind_of(folder) != "folder":
        raise SourceUnreadableError(f"{folder} is a file, not a folder", hint="For a video file use VideoFile.")
    try:
        files = [
            file
            for file in folder.iterdir()
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
        ]
    except OSError as error:
        raise SourceUnreadableError(
            f"{folder} cannot be listed: {error.strerror}", hint="Check the permissions of the folder."
        ) from error
    if not files:
        raise SourceEmptyError(
            f"{folder} has no pictures", hint=f"Their names must end in one of {', '.join(sorted(SUFFIXES))}."
        )
    return sorted(files, key=lambda file: (natural_order(file.name), file.name))


def _rgb(file: Path) -> Image:
    """The picture upright as RGB, uint8 `[height, width, 3]`.

    Raises:
        SourceUnreadableError: It is damaged, or of a kind without a defined white.
    """
    try:
        with PIL.Image.open(file, formats=_FORMATS) as picture:
            upright = PIL.ImageOps.exif_transpose(picture)
            if upright.mode == "F":
                raise SourceUnreadableError(
                    f"{file} is a picture of floating-point numbers, which say neither black nor white",
                    hint="Save it with 8 or 16 bits.",
                )
            if upright.mode.startswith("I"):  # one channel of 16 bits, which Pillow would clip instead of scaling
                grey = (np.asarray(upright).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, axis=2)
            return np.array(upright.convert("RGB"))
    except SourceUnreadableError:
        raise
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, ValueError, struct.error, EOFError, ...
        raise SourceUnreadableError(
            f"{file} cannot be read as a picture: {error}", hint="It is damaged or cut short; replace or remove it."
        ) from error
