"""What `vsdk run` shows of a live source: a line that is kept up to date, and one for each change of its state."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.progress import Progress, SpinnerColumn, TextColumn

from .console import stderr

if TYPE_CHECKING:
    from ..events import Event, SourceState
    from ..sources.base import Source


class LiveStatus:
    """State, frames, drops and latency on stderr; the counterpart of `FrameProgress` for sources without an end.

    Args:
        source: The live source.
        disable: Show nothing, but count.

    Attributes:
        frames: How many frames came in.
    """

    def __init__(self, source: Source, *, disable: bool) -> None:
        self.frames = 0
        self._source = source
        self._disable = disable
        self._started = time.monotonic()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[state]}", style="bold"),
            TextColumn("{task.fields[frames]} frames"),
            TextColumn("{task.fields[rate]} frames/s"),
            TextColumn("{task.fields[dropped]} dropped"),
            TextColumn("latency {task.fields[latency]}"),
            TextColumn("{task.fields[scenes]} scenes"),
            console=stderr,
            disable=disable,
            transient=True,
            refresh_per_second=4,
        )
        self._task = self._progress.add_task(
            source.info.name, state="connecting", frames=0, rate="-", dropped=0, latency="-", scenes=0
        )

    @property
    def seconds(self) -> float:
        """Since the first frame, or since the start."""
        return max(time.monotonic() - self._started, 1e-9)

    def __enter__(self) -> LiveStatus:
        self._progress.start()
        return self

    def take(self, count: int) -> None:
        """One more frame has come in; there are `count` scenes now."""
        if self.frames == 0:
            self._started = time.monotonic()
        self.frames += 1
        self._progress.update(self._task, frames=self.frames, dropped=self._source.dropped, scenes=count)

    def tell(self, event: Event) -> None:
        """Show what an event says of the source."""
        if event.type == "source":
            self._progress.update(self._task, state=event.state)
            if not self._disable:
                stderr.print(sentence(event), markup=False, highlight=False, soft_wrap=True)
        elif event.type == "stats":
            latency = "-"
            if event.latency_p50 is not None and event.latency_p95 is not None:
                latency = f"p50 {event.latency_p50 * 1000:.0f} ms, p95 {event.latency_p95 * 1000:.0f} ms"
            rate = f"{event.frames_per_second:.1f}"
            self._progress.update(self._task, rate=rate, dropped=event.dropped, latency=latency)

    def finish(self, count: int) -> None:
        """All frames are in."""
        self._progress.update(self._task, scenes=count)

    def __exit__(self, *error: object) -> None:
        self._progress.stop()


def sentence(event: SourceState) -> str:
    """A change of state, as a line for people."""
    parts = [f"{time.strftime('%H:%M:%S')} {event.source}: {event.state}"]
    if event.message:
        parts.append(event.message)
    if event.wait:
        parts.append(f"try {event.attempt} in {event.wait:.1f} s")
    return "; ".join(parts)
