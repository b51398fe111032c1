"""What `vsdk run` shows of several sources: a row for each, and a line for each change of a live one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from .console import stderr
from .live_status import sentence

if TYPE_CHECKING:
    from ..event_queue import StreamEvent
    from ..events import End, Event
    from ..sources.base import Source


@dataclass
class _Row:
    """What is known of one stream."""

    source: Source
    state: str = "waiting"
    frames: int = 0
    started: float = 0.0
    seconds: float = 0.0
    rate: float | None = None
    latency: str = "-"
    scenes: int = 0
    end: End | None = None

    def take(self) -> None:
        """One more frame has come in."""
        now = time.monotonic()
        if self.frames == 0:
            self.started = now
            self.state = "live" if self.source.info.live else "running"
        self.frames += 1
        self.seconds = now - self.started

    def tell(self, event: Event) -> None:
        """Bring up to date."""
        if event.type == "source":
            self.state = event.state
        elif event.type == "scene":
            self.scenes += 1
        elif event.type == "stats":
            self.rate = event.frames_per_second
            if event.latency_p50 is not None and event.latency_p95 is not None:
                self.latency = f"{event.latency_p50 * 1000:.0f} / {event.latency_p95 * 1000:.0f} ms"
        elif event.type == "end":
            self.end = event
            self.state = "failed" if event.reason == "error" else "ended"

    @property
    def mean_rate(self) -> float:
        """Frames a second, since the first one."""
        return (self.frames - 1) / self.seconds if self.seconds > 0 else 0.0

    @property
    def progress(self) -> str:
        """Frames, of as many as there are where that is known."""
        total = self.source.info.frame_count
        return str(self.frames) if total is None or self.end is not None else f"{self.frames} of {total}"


class StreamsStatus:
    """A table on stderr, refreshed a few times a second while the streams run.

    Args:
        sources: By the names of their streams.
        disable: Show nothing, but count.
    """

    def __init__(self, sources: Mapping[str, Source], *, disable: bool) -> None:
        self._rows = {name: _Row(source) for name, source in sources.items()}
        self._disable = disable
        self._live = Live(get_renderable=self._running, console=stderr, refresh_per_second=4, transient=True)

    def __enter__(self) -> StreamsStatus:
        if not self._disable:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def take(self, name: str) -> None:
        """One more frame of this stream has come in; from any thread."""
        self._rows[name].take()

    def tell(self, told: StreamEvent) -> None:
        """Show what an event says."""
        name, event = told
        self._rows[name].tell(event)
        if event.type == "source" and not self._disable:
            stderr.print(sentence(replace(event, source=name)), markup=False, highlight=False, soft_wrap=True)

    def show(self) -> None:
        """Print how every stream has ended."""
        table = _table("stream", "frames", "frames/s", "encoded", "scenes", "dropped", "reconnects", "ended")
        for name, row in self._rows.items():
            end = row.end
            encoded = "-" if end is None else f"{100 * end.encoded / max(end.frames, 1):.0f} %"
            table.add_row(
                escape(name),
                row.progress,
                f"{row.mean_rate:.1f}",
                encoded,
                str(row.scenes),
                str(row.source.dropped),
                str(row.source.reconnects),
                "-" if end is None else end.reason,
            )
        stderr.print(table)

    def _running(self) -> Table:
        table = _table("stream", "state", "frames", "frames/s", "dropped", "latency p50 / p95", "scenes")
        for name, row in self._rows.items():
            rate = row.mean_rate if row.rate is None else row.rate
            table.add_row(
                escape(name),
                row.state,
                row.progress,
                f"{rate:.1f}",
                str(row.source.dropped),
                row.latency,
                str(row.scenes),
            )
        return table


def _table(*columns: str) -> Table:
    """A table whose first column is a name, and whose others are numbers or single words."""
    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    return table
