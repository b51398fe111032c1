"""What the bench commands share: a progress bar that hardly disturbs what is measured, and the files they write."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from .console import stderr

if TYPE_CHECKING:
    from PIL.Image import Image


class Report(Protocol):
    """The figures of a measurement."""

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        ...


@contextmanager
def progress_bar() -> Iterator[Callable[[str, float], None]]:
    """A bar on stderr; gives the function that moves it: what is being done, and the fraction that is done."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=stderr,
        refresh_per_second=1,  # the bar must not compete with what is measured
    ) as progress:
        task = progress.add_task("loading", total=1.0)
        yield lambda says, fraction: progress.update(task, description=says, completed=fraction)


def write_figures(report: Report, path: Path | None) -> None:
    """Write all figures as JSON, if a file was named.

    Raises:
        SinkError: It cannot be written.
    """
    if path is not None:
        text = json_module.dumps(report.to_dict(), indent=2) + "\n"
        _write(path, lambda: path.write_text(text, encoding="utf-8"))


def write_picture(draw: Callable[[], Image], path: Path | None) -> None:
    """Draw a picture and write it as a PNG, if a file was named.

    Raises:
        SinkError: It cannot be written.
    """
    if path is not None:
        _write(path, lambda: draw().save(path, "PNG"))


def _write(path: Path, write: Callable[[], object]) -> None:
    from ..sinks.file_sink import sink_error

    try:
        write()
    except OSError as error:
        raise sink_error(str(path), error) from error
