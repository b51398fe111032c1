"""The hub: all that the page shows, in bounded memory, between the streams that write and the browsers that read."""

from __future__ import annotations

import json
import secrets
import threading
import time
from typing import Any

from .channel import Channel, KeptScene
from .journal import Journal

KEEP = 500
"""Scenes of each stream, of which each takes some 20 kB with the encoder that comes along."""
JOURNAL = 1000
"""Messages, for browsers that lost their connection for a moment."""


class Hub:
    """Channels of streams, and the journal of what happens in them. From any thread.

    Args:
        keep: Most scenes of each stream; older ones are forgotten.

    Attributes:
        run: Names this run of the program: numbers of another one mean nothing here.
        journal: What has happened: messages of the kinds `"stream"` and `"scene"`.
        keep: Most scenes of each stream.
        closed: Whether the page is about to go.
    """

    def __init__(self, keep: int = KEEP) -> None:
        self.run = secrets.token_hex(4)
        self.journal = Journal(JOURNAL)
        self.closed = False
        self.keep = keep
        self._lock = threading.Lock()
        self._channels: list[Channel] = []

    def add(self, name: str) -> Channel:
        """The sink for one more stream; credentials are removed from its name."""
        with self._lock:
            channel = Channel(len(self._channels), name, self.keep, self._tell)
            self._channels.append(channel)
        self._tell("stream", channel.to_dict())
        return channel

    @property
    def channels(self) -> list[Channel]:
        """Those of all streams, in the order in which they were added."""
        with self._lock:
            return list(self._channels)

    def channel(self, number: int) -> Channel | None:
        """That of one stream, if it is there."""
        channels = self.channels
        return channels[number] if 0 <= number < len(channels) else None

    def scenes(self) -> list[KeptScene]:
        """The kept scenes of all streams, each stream's oldest first."""
        return [kept for channel in self.channels for kept in channel.scenes()]

    def health(self) -> dict[str, Any]:
        """How every stream is; `healthy` where all are live, or are recordings that were read to their end."""
        streams = [channel.to_dict() for channel in self.channels]
        return {"healthy": all(map(_is_healthy, streams)), "time": round(time.time(), 3), "streams": streams}

    def snapshot(self) -> tuple[int, dict[str, Any]]:
        """Everything but pictures, for a browser that begins; and the number of the journal to go on from.

        What happens meanwhile may be in both: messages say how something is, so to read one twice does no harm.
        """
        number = self.journal.newest
        return number, {
            **self.health(),
            "run": self.run,
            "keep": self.keep,
            "scenes": [kept.to_dict() for kept in self.scenes()],
        }

    def close(self) -> None:
        """Tell the readers that nothing more comes."""
        self.closed = True
        self.journal.wake()

    def _tell(self, kind: str, content: dict[str, Any]) -> None:
        self.journal.add(kind, json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


def _is_healthy(stream: dict[str, Any]) -> bool:
    finished = stream["state"] == "ended" and stream["reason"] == "end" and not stream["live"]
    return finished or stream["state"] == "live"
