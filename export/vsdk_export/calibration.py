"""Videos to calibrate with: decoded as in use, read to their end, and sampled evenly over all of them.

However long the videos are, what is kept is bounded. A frame is kept as the encoder's own resizing made it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from vsdk.frame import Image
from vsdk.sources.base import Source
from vsdk.sources.opening import STANDARD_INPUT, open_source
from vsdk_runtimes.errors import InputError

Resize = Callable[[Image], Image]
Says = Callable[[str], None]


def silent(text: str) -> None:
    """Says nothing."""


@dataclass(frozen=True)
class CalibrationVideos:
    """What to calibrate with.

    Attributes:
        names: Video files or folders of pictures, one or more.
        says: Told which one is being read.

    Raises:
        InputError: There is none, or one has no end.
        SourceError: One cannot be read; found out when it is.
    """

    names: tuple[str, ...]
    says: Says = silent

    @classmethod
    def of(cls, videos: Sequence[str | PathLike[str]], says: Says = silent) -> CalibrationVideos:
        """The videos with these names."""
        return cls(tuple(str(video) for video in videos), says)

    def __post_init__(self) -> None:
        if not self.names:
            raise InputError("no video to calibrate with", hint="Name one or more: --calibrate VIDEO")
        if STANDARD_INPUT in self.names:
            raise InputError("standard input cannot be calibrated with: it is read more than once")

    @property
    def title(self) -> str:
        """Their names without the folders that they are in."""
        return ", ".join(Path(name).name for name in self.names)

    def check(self) -> None:
        """Open each once, so that a name that is wrong is found before minutes of other work.

        Raises:
            InputError: One has no end.
            SourceError: One cannot be opened.
        """
        for name in self.names:
            _opened(name).close()

    def frames(self, resize: Resize, count: int) -> list[Image]:
        """So many frames, or all if there are fewer, evenly spread over all videos.

        Args:
            resize: Makes of a frame what is kept.
            count: How many.
        """
        return [window[0] for window in self.windows(resize, 1, count)]

    def windows(self, resize: Resize, length: int, count: int) -> list[list[Image]]:
        """So many runs of consecutive frames, or fewer if there are no more, evenly spread over all videos.

        Args:
            resize: Makes of a frame what is kept.
            length: Frames of a run; the last one of a video may have fewer.
            count: How many.
        """
        kept: list[list[Image]] = []
        stride, run = 1, -1  # every n-th run is kept, and n doubles whenever twice as many as wanted are
        for name in self.names:
            self.says(f"reading {name}")
            with _opened(name) as source:
                for number, frame in enumerate(source):
                    if number % length == 0:
                        run += 1
                        if run % stride == 0 and len(kept) == 2 * count:
                            kept, stride = kept[::2], 2 * stride
                        if run % stride == 0:
                            kept.append([])
                    if run % stride == 0:
                        kept[-1].append(resize(frame.image))
        return [kept[int(index)] for index in np.linspace(0, len(kept) - 1, min(count, len(kept)))]


def _opened(name: str) -> Source:
    source = open_source(name)
    if source.info.live:
        source.close()
        raise InputError(
            f"{source.info.name} has no end, and calibration reads to the end",
            hint="Record a few minutes of it to a file, and calibrate with that.",
        )
    return source
