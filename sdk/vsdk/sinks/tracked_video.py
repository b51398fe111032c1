"""The video of tracked objects: the frames that were seen, with masks drawn over them."""

from __future__ import annotations

import os

from ..events import Event, Mask
from .tracked_overlay import TrackedOverlay
from .video_sink import VideoSink
from .video_writer import Picture


class TrackedVideo(VideoSink):
    """Writes an MP4 (H.264, BT.709) of the frames with each tracked object in a colour of its own.

    The mask is filled, translucent, within a line; a tag beside it has the object's number and score, a trail shows
    where it came from, and a corner lists the objects that are out of sight. Colours are told apart by colour-blind
    people; from the eighth object on they repeat. Events need not carry the mask itself: those read from JSON lines
    will do. Frames without mask events stay as they are; events other than masks are not shown.

    Frames keep their exact times. A frame waits until the next one comes, because its masks come after it. The file
    can be played up to its last fragment (some fifty frames) even when the process is killed.

    Args:
        path: The MP4 file, which is overwritten. Without a single frame, there will be no file.
        threads: Threads for the H.264 encoder.

    Raises:
        SinkError: The file cannot be written, or this PyAV has no H.264 encoder.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 2) -> None:
        super().__init__(path, threads=threads)
        self._masks: dict[int, Mask] = {}  # of the frame that waits, by object
        self._overlay: TrackedOverlay | None = None

    def _begin(self, width: int, height: int) -> None:
        self._overlay = TrackedOverlay(width, height)

    def _may_wait(self, picture: Picture) -> int:
        return 1

    def _take_event(self, event: Event) -> None:
        if isinstance(event, Mask) and self._held and event.frame == self._held[-1].number:
            self._masks[event.object] = event

    def _draw(self, picture: Picture) -> None:
        assert self._overlay is not None
        self._overlay.draw(picture.planes, picture.place, float(picture.time), list(self._masks.values()))
        self._masks.clear()
