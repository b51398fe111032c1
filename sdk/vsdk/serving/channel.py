"""A stream as the page knows it: how it is, its newest picture and its last scenes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from vsdk_runtimes.errors import ClosedError

from ..events import End, Event, Scene, SourceState
from ..frame import Frame
from ..sinks.base import Sink
from ..sinks.metrics import Numbers
from ..sources.credentials import redacted
from .pictures import THUMBNAIL_EDGE, NewestPicture, small_jpeg

Tell = Callable[[str, dict[str, Any]], None]
"""Called with the kind of what has changed (`"stream"` or `"scene"`), and what it is now."""


@dataclass(frozen=True)
class KeptScene:
    """A scene that can be shown and searched.

    Attributes:
        stream: Number of its channel.
        scene: The event, without its picture.
        closed: When it was reported, seconds since 1970.
        thumbnail: A JPEG; None where the event had no picture.
    """

    stream: int
    scene: Scene
    closed: float
    thumbnail: bytes | None

    def to_dict(self) -> dict[str, Any]:
        """What the page gets to know of it."""
        scene = self.scene
        return {
            "stream": self.stream,
            "index": scene.index,
            "start": round(scene.start, 3),
            "end": round(scene.end, 3),
            "start_frame": scene.start_frame,
            "end_frame": scene.end_frame,
            "closed": round(self.closed, 3),
            "thumbnail": self.thumbnail is not None,
        }


class Channel(Sink):
    """The sink of one stream; `Hub.add` makes it. What it kept stays readable after it is closed.

    Args:
        number: Which stream it is, counted from 0.
        name: For people; credentials are removed.
        keep: Most scenes.
        tell: Gets every change but those of pictures.
    """

    wants_frames = True

    def __init__(self, number: int, name: str, keep: int, tell: Tell) -> None:
        self.number, self.name = number, redacted(name)
        self.newest_picture = NewestPicture()
        self._tell = tell
        self._lock = threading.Lock()
        self._closed = False
        self._numbers = Numbers(source=self.name, state="connecting")
        self._since = time.time()
        self._live = False
        self._message = self._reason = ""
        self._retry: float | None = None
        self._scenes: deque[KeptScene] = deque(maxlen=keep)

    def write_frame(self, frame: Frame) -> None:
        """Keep the frame until the next one comes.

        Raises:
            ClosedError: The sink is closed.
        """
        with self._lock:
            self._check_open()
            before = self._numbers.state
            self._numbers.take_frame()
            changed = self._numbers.state != before
            if changed:
                self._since = time.time()
        self.newest_picture.put(frame)
        if changed:
            self._tell("stream", self.to_dict())

    def write_event(self, event: Event) -> None:
        """Take one event, in order.

        Raises:
            ClosedError: The sink is closed.
        """
        kept = self._keep(event) if isinstance(event, Scene) else None
        with self._lock:
            self._check_open()
            before = self._numbers.state
            self._numbers.take(event)
            if isinstance(event, SourceState):
                self._live, self._message = True, redacted(event.message)
                self._retry = time.time() + event.wait if event.wait else None
            elif isinstance(event, End):
                self._reason, self._retry = event.reason, None
                self._message = redacted(event.message) or self._message  # the source may have said why
            if self._numbers.state != before:
                self._since = time.time()
            if kept is not None:
                self._scenes.append(kept)
        if kept is not None:
            self._tell("scene", kept.to_dict())
        elif event.type not in ("memory", "mask"):
            self._tell("stream", self.to_dict())

    def fail(self, message: str) -> None:
        """The stream could not be started."""
        with self._lock:
            self._numbers.state, self._since = "ended", time.time()
            self._reason, self._message = "error", redacted(message)
        self._tell("stream", self.to_dict())

    def close(self) -> None:
        """Take no more. Idempotent."""
        with self._lock:
            self._closed = True

    def scenes(self) -> list[KeptScene]:
        """The scenes that are kept, oldest first."""
        with self._lock:
            return list(self._scenes)

    def scene(self, index: int) -> KeptScene | None:
        """The scene with this index, if it is kept."""
        return next((kept for kept in self.scenes() if kept.scene.index == index), None)

    def to_dict(self) -> dict[str, Any]:
        """How the stream is: state, since when, counts, rates. None where something is not known."""
        with self._lock:
            now = self._numbers
            age = now.last_frame_age
            return {
                "stream": self.number,
                "name": self.name,
                "live": self._live,
                "state": now.state,
                "since": round(self._since, 3),
                "reason": self._reason,
                "message": self._message,
                "retry": None if self._retry is None else round(self._retry, 3),
                "frames": now.frames or 0,
                "scenes": now.scenes or 0,
                "dropped": now.dropped,
                "decode_errors": now.decode_errors,
                "reconnects": now.reconnects,
                "generation": now.generation,
                "frames_per_second": _rounded(now.frames_per_second),
                "latency_p50": _rounded(now.latency_p50),
                "latency_p95": _rounded(now.latency_p95),
                "last_frame": None if age is None else round(time.time() - age, 3),
            }

    def _keep(self, scene: Scene) -> KeptScene:
        thumbnail = None if scene.picture is None else small_jpeg(scene.picture, THUMBNAIL_EDGE)
        return KeptScene(self.number, replace(scene, picture=None), time.time(), thumbnail)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"the live page's sink for {self.name} is closed")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
