"""What the sinks that write a video have in common: frames wait until what is drawn on them is known."""

from __future__ import annotations

import abc
import contextlib
import os
from collections import deque
from typing import ClassVar

import av

from vsdk_runtimes.errors import SinkError

from ..frame import Frame
from .file_sink import FileSink, check_writable
from .video_writer import CODEC, Picture, VideoWriter, cut_to_whole_fragments, output_size


class VideoSink(FileSink):
    """Writes an MP4 (H.264, BT.709) of the frames with something drawn on them.

    Subclasses say what is drawn (`_begin`, `_draw`) and which frames are ready (`_take_event`, `_may_wait`).

    Args:
        path: The MP4 file, which is overwritten. Without a single frame, there will be no file.
        threads: Threads for the H.264 encoder.

    Raises:
        SinkError: The file cannot be written, or this PyAV has no H.264 encoder.
    """

    wants_frames = True
    failures: ClassVar[tuple[type[Exception], ...]] = (OSError, av.FFmpegError)

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 2) -> None:
        super().__init__(path)
        if CODEC not in av.codecs_available:
            raise SinkError(
                f"cannot write {self.path}: this build of PyAV has no {CODEC} encoder",
                hint="Install PyAV's own wheel, which has it: pip install --force-reinstall --only-binary=av av",
            )
        with self._failures_named():
            self._target = check_writable(self.path)
            self._target.write_bytes(b"")
        self._threads = threads
        self._held: deque[Picture] = deque()
        self._writer: VideoWriter | None = None

    @abc.abstractmethod
    def _begin(self, width: int, height: int) -> None:
        """The size of the video is known."""

    @abc.abstractmethod
    def _draw(self, picture: Picture) -> None:
        """Draw on a picture that is about to be encoded."""

    @abc.abstractmethod
    def _may_wait(self, picture: Picture) -> int:
        """How many pictures like this one may wait."""

    def _take_frame(self, frame: Frame) -> None:
        if self._writer is None:
            width, height = output_size(frame.image)
            self._writer = VideoWriter(str(self._target), width, height, frame.time_base, self._threads)
            self._begin(width, height)
        picture = self._writer.prepare(frame)
        self._held.append(picture)
        if len(self._held) > self._may_wait(picture):
            self._release()

    def _release(self) -> None:
        """Draw on the picture that has waited longest, and encode it."""
        assert self._writer is not None
        picture = self._held.popleft()
        self._draw(picture)
        self._writer.write(picture, self._held[0].pts if self._held else None)

    def _finish(self) -> None:
        if self._writer is None:
            self._target.unlink(missing_ok=True)
            return
        try:
            while self._held:
                self._release()
            self._writer.flush()
        except BaseException:
            with contextlib.suppress(*self.failures):  # the first failure is the one to report
                self._writer.close()
            cut_to_whole_fragments(self._target)
            raise
        self._writer.close()
