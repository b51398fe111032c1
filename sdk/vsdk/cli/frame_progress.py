"""What `vsdk run` and `vsdk track` show while frames come in."""

from __future__ import annotations

import time

from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from .console import stderr


class FrameProgress:
    """A bar on stderr: frames, frames a second, and how many of something.

    Args:
        name: Of the source.
        total: How many frames it has, if that is known.
        things: What is counted beside frames, such as `scenes`.
        disable: Show nothing, but count.

    Attributes:
        frames: How many frames came in.
    """

    def __init__(self, name: str, total: int | None, things: str, *, disable: bool) -> None:
        self.frames = 0
        self._started = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.completed:.0f} frames"),
            TextColumn("{task.fields[rate]} frames/s"),
            TextColumn("{task.fields[count]} " + things),
            TimeRemainingColumn(),
            console=stderr,
            disable=disable,
            refresh_per_second=4,
        )
        self._name = name
        self._total = total
        self._task: TaskID | None = None

    @property
    def seconds(self) -> float:
        """Since the first frame; loading the engine does not count."""
        return max(time.monotonic() - self._started, 1e-9)

    def __enter__(self) -> FrameProgress:
        self._progress.start()
        return self

    def take(self, count: int) -> None:
        """One more frame has come in; there are `count` of the things now."""
        self.frames += 1
        if self._task is None:
            self._started = time.monotonic()
            self._task = self._progress.add_task(self._name, total=self._total, rate="0", count=0)
        rate = self.frames / self.seconds
        shown = f"{rate:.1f}" if rate < 10 else f"{rate:.0f}"
        self._progress.update(self._task, completed=self.frames, rate=shown, count=count)

    def finish(self, count: int) -> None:
        """All frames are in: the bar is full, whatever number of them was expected."""
        if self._task is not None:
            self._progress.update(self._task, total=self.frames, count=count)

    def __exit__(self, *error: object) -> None:
        self._progress.stop()
