"""Record cameras, one video file for each scene of each camera, with an index of JSON lines.

    python examples/record_scenes.py door=rtsp://10.0.0.7/main yard=rtsp://10.0.0.8/main --out recordings

gives `recordings/20261125T191500Z/door/000000.mp4`, `000001.mp4` and so on, and beside them `index.jsonl`, whose lines
say what is in each file. Every start has a folder of its own; nothing is ever overwritten.

A line is written when its file is complete. After `kill -9` at most one file of a camera has no line; it plays up to
its last complete fragment. Missing are the fragment that was being made, at most some 50 frames, and those that waited
until it was certain to which scene they belong: 66 frames, 2.6 s at 25 a second, 180 MB for a camera of 1280x720.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import ClassVar

import av

import vsdk
from vsdk.settings import scene_settings
from vsdk.sinks.file_sink import FileSink
from vsdk.sinks.jsonl import write_line
from vsdk.sinks.video_writer import Picture, VideoWriter


class Segment:
    """The video of one scene. Its times begin at zero."""

    def __init__(self, path: Path, scene: int, first: vsdk.Frame) -> None:
        self.path, self.scene, self.first, self.last, self.frames = path, scene, first, first, 0
        height, width = first.image.shape[:2]
        self._writer = VideoWriter(str(path), width // 2 * 2, height // 2 * 2, first.time_base, threads=1)
        self._waiting: Picture | None = None  # until it is known how long it is shown

    def add(self, frame: vsdk.Frame) -> None:
        picture = self._writer.prepare(frame)
        if self._waiting is not None:
            self._writer.write(self._waiting, picture.pts)
        self._waiting, self.last = picture, frame
        self.frames += 1

    def close(self) -> None:
        if self._waiting is not None:
            self._writer.write(self._waiting, None)
        self._writer.flush()
        self._writer.close()

    def line(self, whole: bool) -> bytes:
        """What the index says of it; `whole` is false where the recording ended before the scene did."""
        age = (time.monotonic_ns() - self.first.captured_ns) / 1e9
        content = {
            "file": self.path.name,
            "scene": self.scene,
            "start_frame": self.first.number,
            "end_frame": self.last.number,
            "frames": self.frames,
            "start": round(float(self.first.time), 6),
            "captured": datetime.fromtimestamp(time.time() - age, timezone.utc).isoformat(timespec="milliseconds"),
            "whole": whole,
        }
        return (json.dumps(content) + "\n").encode()


class SceneRecorder(FileSink):
    """A sink that cuts the frames of one stream into a file for each scene."""

    wants_frames = True
    failures: ClassVar[tuple[type[Exception], ...]] = (OSError, av.FFmpegError)

    def __init__(self, folder: Path, look_ahead: int) -> None:
        super().__init__(folder)
        self._folder, self._look_ahead = folder, look_ahead
        with self._failures_named():
            folder.mkdir(parents=True)
            self._index = os.open(folder / "index.jsonl", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self._undecided: deque[vsdk.Frame] = deque()
        self._segment: Segment | None = None
        self._scene = 0

    def _take_frame(self, frame: vsdk.Frame) -> None:
        self._undecided.append(frame)
        if len(self._undecided) > self._look_ahead + 2:  # no boundary can come before the oldest one any more
            self._record()

    def _take_event(self, event: vsdk.Event) -> None:
        if isinstance(event, vsdk.Scene):
            while self._undecided and self._undecided[0].number <= event.end_frame:
                self._record()
            self._cut(whole=True)

    def _finish(self) -> None:
        while self._undecided:
            self._record()
        self._cut(whole=False)
        os.close(self._index)

    def _record(self) -> None:
        frame = self._undecided.popleft()
        if self._segment is None:
            self._segment = Segment(self._folder / f"{self._scene:06d}.mp4", self._scene, frame)
        self._segment.add(frame)

    def _cut(self, whole: bool) -> None:
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close()
            write_line(self._index, segment.line(whole))
            self._scene += 1


def camera(text: str) -> tuple[str, str]:
    """`NAME=ADDRESS`; an error does not repeat the address, which may have a password in it."""
    name, equals, address = text.partition("=")
    if not equals or not address or re.fullmatch(r"\w[\w.-]*", name) is None:
        raise argparse.ArgumentTypeError("write NAME=ADDRESS, with a name of letters, digits, '.', '_' and '-'")
    return name, address


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Record cameras, one video file for each scene of each camera.")
    parser.add_argument("cameras", nargs="+", type=camera, metavar="NAME=ADDRESS", help="what vsdk.open takes")
    parser.add_argument("--out", type=Path, default=Path("recordings"), help="folder of all recordings")
    parser.add_argument("--bundle", help="folder of a bundle; without it, the model that ships with vsdk")
    options = parser.parse_args(arguments)
    cameras = dict(options.cameras)
    if len(cameras) < len(options.cameras):
        parser.error("two cameras have the same name")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C, so that the files are finished

    folder = options.out / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    try:
        bundle = vsdk.load(options.bundle)
        look_ahead = vsdk.SceneTilling(scene_settings(bundle)).look_ahead
        with vsdk.Streams(
            bundle,
            cameras,
            batch=1,  # with larger ones, frames wait in the pipeline for longer than `look_ahead`
            memory=False,
            sinks=lambda name: [SceneRecorder(folder / name, look_ahead)],
        ) as streams:
            for name, event in streams:
                print(f"{name}: {event}", flush=True)
            return 1 if streams.failures else 0
    except KeyboardInterrupt:
        return 130
    except vsdk.Error as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
