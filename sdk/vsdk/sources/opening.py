"""One way to open whatever a user names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError, SourceError, SourceNotFoundError
from ..frame import Image
from .arrays import Arrays
from .base import Source
from .credentials import redacted
from .image_folder import ImageFolder
from .paths import kind_of
from .video_file import VideoFile

_ADDRESS = re.compile(r"[a-z][a-z0-9+.\-]*://", re.IGNORECASE)


def open_source(spec: Source | str | os.PathLike[str] | Iterable[Image], *, threads: int | None = None) -> Source:
    """The source that `spec` names.

    Args:
        spec: The path of a video file or of a folder of pictures; an iterable of RGB arrays, uint8
            `[height, width, 3]`; or a source, which is returned as it is.
        threads: Most threads that the decoder of a video file may use; by default `VideoFile`'s.

    Raises:
        SourceError: There is nothing to read; the subclass says why. Live sources (addresses, cameras) are not in this
            version.
        InputError: `spec` is none of these.

    Example:
        ```python
        with open_source("clip.mp4") as source:
            for frame in source:
                print(frame.number, float(frame.time), frame.image.shape)
        ```
    """
    if isinstance(spec, Source):
        return spec
    if isinstance(spec, (str, os.PathLike)):
        return _open_path(spec, threads)
    if isinstance(spec, int):
        raise SourceError(f"camera {spec}: cameras are not in this version", hint="Record a file and open that.")
    if isinstance(spec, (bytes, bytearray, memoryview)) or not isinstance(spec, Iterable):
        raise InputError(
            f"a {type(spec).__name__} is not a source",
            hint="Give the path of a video or of a folder of pictures, an iterable of RGB arrays, or a Source.",
        )
    return Arrays(spec)


def _open_path(spec: str | os.PathLike[str], threads: int | None) -> Source:
    if isinstance(spec, str) and _ADDRESS.match(spec):
        raise SourceError(
            f"{redacted(spec)} is an address; live sources and downloads are not in this version",
            hint="Give the path of a video file or of a folder of pictures.",
        )
    if spec == "":  # which as a path would be the current folder
        raise SourceNotFoundError(
            "the name of the source is empty", hint="Give the path of a video file or of a folder."
        )
    path = Path(spec)
    return ImageFolder(path) if kind_of(path) == "folder" else VideoFile(path, threads=threads)
