"""A video file, read with PyAV from its first frame to its last."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import SourceUnreadableError
from .container_video import ContainerVideo
from .paths import kind_of


class VideoFile(ContainerVideo):
    """The frames of a video file, all of them, in the order in which they are shown.

    * Colours follow the file's matrix and range (`rgb.py`), rotation and mirroring its display matrix. Pixels are given
      as they are stored: no deinterlacing, no correction of non-square pixels.
    * `Frame.pts` and `Frame.time_base` are the container's, exactly; AVI keeps decoding times only, which stand in for
      them. `Frame.time` rises always; `timeline.Timeline` says what happens to stamps that are missing or fall.
    * A damaged packet is skipped and counted in `decode_errors`; frames are numbered as they are given. FFmpeg conceals
      most damage without telling, so `decode_errors` is a lower bound. A file that was cut short simply ends earlier;
      damage in its very last packets can cost the frames in flight, of which there is one for each thread.
    * The file is read by itself: a playlist, a script or a session description is refused, and no other file and no
      network address is opened, whatever it says.

    Args:
        path: The file, in any container and codec that PyAV knows.
        threads: Most threads that the decoder may use; by default one for each core and at most 4.

    Raises:
        SourceNotFoundError: No such file.
        SourceUnreadableError: Not a video, damaged beyond use, or without a video stream.
        SourceEmptyError: Without a single frame.
        InputError: `threads` is less than 1.

    `read` raises `SourceChangedError` where the frame size changes.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        path = Path(path)
        if kind_of(path) == "folder":
            raise SourceUnreadableError(
                f"{path} is a folder, not a video file", hint="For a folder of pictures use ImageFolder."
            )
        if path.stat().st_size == 0:
            raise SourceUnreadableError(f"{path} is empty", hint="Nothing was recorded into it.")
        # With its protocol named, a path is never taken for an address ("http:clip.mp4" is a fine file name).
        super().__init__(str(path), path.name, f"file:{path}", threads=threads)
