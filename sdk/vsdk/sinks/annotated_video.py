"""The annotated video: the frames that were seen, with the scenes drawn over them."""

from __future__ import annotations

import os

from ..events import Event, Scene
from .overlay import Overlay
from .video_sink import VideoSink
from .video_writer import Picture

HOLD_FRAMES = 128
HOLD_BYTES = 96 * 2**20


class AnnotatedVideo(VideoSink):
    """Writes an MP4 (H.264, BT.709) of the frames with scene index, time, a strip of scenes and a flash at each cut.

    Frames keep their exact times. A boundary becomes known some frames after it happened, so frames are held back, at
    most `HOLD_FRAMES` and `HOLD_BYTES`; one that had to be let go earlier carries the index of the scene known then.
    The file can be played up to its last fragment (some fifty frames) even when the process is killed.

    Args:
        path: The MP4 file, which is overwritten. Without a single frame, there will be no file.
        duration: Length of the video in seconds if it is known, for the strip.
        threads: Threads for the H.264 encoder.

    Raises:
        SinkError: The file cannot be written, or this PyAV has no H.264 encoder.
    """

    def __init__(self, path: str | os.PathLike[str], *, duration: float | None = None, threads: int = 2) -> None:
        super().__init__(path, threads=threads)
        self._duration = duration
        self._scene = 0
        self._scene_start = 0.0
        self._overlay: Overlay | None = None

    def _begin(self, width: int, height: int) -> None:
        self._overlay = Overlay(width, height, self._duration)

    def _may_wait(self, picture: Picture) -> int:
        return min(HOLD_FRAMES, HOLD_BYTES * 2 // (3 * picture.planes.y.size))

    def _take_event(self, event: Event) -> None:
        if isinstance(event, Scene):
            self._scene, self._scene_start = event.index, event.start
            while self._held and self._held[0].number <= event.end_frame:
                self._release()
            self._scene, self._scene_start = event.index + 1, event.end

    def _draw(self, picture: Picture) -> None:
        assert self._overlay is not None
        self._overlay.draw(
            picture.planes,
            number=picture.number,
            time=float(picture.time),
            scene=self._scene,
            scene_start=self._scene_start,
        )
