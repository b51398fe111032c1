"""One way to open whatever a user names."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from ..errors import InputError, SourceError, SourceNotFoundError
from ..frame import Image
from .addresses import DEFAULT_PORTS, scheme_of
from .arrays import Arrays
from .base import Source
from .image_folder import ImageFolder
from .live_settings import LiveSettings
from .network import open_network
from .paths import kind_of
from .raw_video import RawFormat
from .standard_input import open_standard_input
from .video_file import VideoFile

STANDARD_INPUT = "-"


def _open_camera(address: Path | str | int, settings: LiveSettings | None) -> Source:
    from .camera import open_camera

    return open_camera(address, settings)


def _open_gstreamer(pipeline: str, settings: LiveSettings | None) -> Source:
    from .gstreamer import open_gstreamer

    return open_gstreamer(pipeline, settings)


OPENERS: dict[str, Callable[[str, LiveSettings | None], Source]] = {
    **dict.fromkeys(DEFAULT_PORTS, open_network),
    "camera": _open_camera,
    "gst": _open_gstreamer,
}
"""What opens addresses, by what stands before their `://`."""


def open_source(
    spec: Source | str | os.PathLike[str] | int | Iterable[Image],
    *,
    threads: int | None = None,
    live: LiveSettings | None = None,
    raw: RawFormat | str | None = None,
) -> Source:
    """The source that `spec` names.

    Args:
        spec: The path of a video file or of a folder of pictures; an address (`rtsp://`, `rtsps://`, `http://`,
            `https://`, `srt://`, `tcp://`, `udp://`); a camera (`camera://0`, `/dev/video0`, or its number);
            `gst://PIPELINE`; `"-"` for standard input; an iterable of RGB arrays, uint8 `[height, width, 3]`; or a
            source, which is returned as it is.
        threads: Most threads that the decoder of a video file may use; by default `VideoFile`'s.
        live: Settings of live sources, which addresses are, and standard input where they are given; others do
            without.
        raw: What the frames on standard input look like, if they come without a container: `"1280x720:bgr24@30"`.

    Raises:
        SourceError: There is nothing to read; the subclass says why. Of live sources that turns out later, when they
            are read; here only an address that is not acceptable is refused.
        InputError: `spec` is none of these.

    Example:
        ```python
        with open_source("clip.mp4") as source:
            for frame in source:
                print(frame.number, float(frame.time), frame.image.shape)
        ```
    """
    standard_input = isinstance(spec, str) and spec == STANDARD_INPUT
    if raw is not None and not standard_input:
        raise InputError("raw frames are read from standard input", hint=f"Open {STANDARD_INPUT!r} as the source.")
    if isinstance(spec, Source):
        return spec
    if standard_input:
        return open_standard_input(raw, threads=threads, live=live)
    if isinstance(spec, (str, os.PathLike)):
        return _open_named(spec, threads, live)
    if isinstance(spec, int) and not isinstance(spec, bool):
        return _open_camera(spec, live)
    if isinstance(spec, (bytes, bytearray, memoryview)) or not isinstance(spec, Iterable):
        raise InputError(
            f"a {type(spec).__name__} is not a source",
            hint="Give the path of a video or of a folder of pictures, an iterable of RGB arrays, or a Source.",
        )
    return Arrays(spec)


def _open_named(spec: str | os.PathLike[str], threads: int | None, live: LiveSettings | None) -> Source:
    scheme = scheme_of(spec) if isinstance(spec, str) else None
    if isinstance(spec, str) and scheme is not None:
        if scheme not in OPENERS:
            raise SourceError(
                f"{scheme}:// addresses are not known",
                hint=f"Known are {', '.join(OPENERS)}; for a file give its path.",
            )
        return OPENERS[scheme](spec, live)
    if spec == "":  # which as a path would be the current folder
        raise SourceNotFoundError(
            "the name of the source is empty", hint="Give the path of a video file or of a folder."
        )
    path = Path(spec)
    if _is_device(path):
        return _open_camera(path, live)
    return ImageFolder(path) if kind_of(path) == "folder" else VideoFile(path, threads=threads)


def _is_device(path: Path) -> bool:
    """Whether the path names a camera, or may have named one that is not there."""
    if re.fullmatch(r"/dev/video\d+", str(path)):
        return True
    try:
        return stat.S_ISCHR(path.stat().st_mode)
    except (OSError, ValueError):
        return False
