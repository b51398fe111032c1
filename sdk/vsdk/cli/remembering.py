"""What `vsdk run` does with the memory: goes on from a file, saves to it, and shows what is remembered."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.table import Table

from .console import stderr

if TYPE_CHECKING:
    from vsdk_runtimes import Bundle

    from ..memory.entry import MemoryEntry
    from ..memory.memory import Memory

ROWS = 32
"""Most entries that the table shows."""
SAVE_SECONDS = 60.0


def check_state(path: Path, bundle: Bundle) -> None:
    """Refuse a file that cannot be gone on from, or a place that cannot be saved to, before anything is written.

    Raises:
        StateError: The file is there, but damaged, of another bundle, or of an unknown schema version.
        SinkError: It could not be saved there.
    """
    from ..memory.memory import read_saved
    from ..memory.state_file import check_state_target

    check_state_target(path)
    if path.exists():
        read_saved(path, bundle)


class KeptMemory:
    """Restores a memory from a file, if there is one; saves it there every minute, and when the block ends.

    Args:
        path: The file; None keeps nothing.
        memory: What to keep; None is a stream without a memory.
    """

    def __init__(self, path: Path | None, memory: Memory | None) -> None:
        self._path, self._memory = path, memory
        self._saved = time.monotonic()

    def __enter__(self) -> KeptMemory:
        if self._path is not None and self._memory is not None and self._path.exists():
            for difference in self._memory.restore(self._path):
                stderr.print(
                    f"{self._path} was saved elsewhere ({difference}): results may differ in the last digits.",
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )
        return self

    def save_now_and_then(self) -> None:
        """Save if the last time is long enough ago, so that a power cut costs no more than that."""
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self._save()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from vsdk_runtimes.errors import Error

        try:
            self._save()
        except Error:
            if error is None:  # otherwise the first error is the one to report
                raise

    def _save(self) -> None:
        if self._path is not None and self._memory is not None:
            self._memory.save(self._path)
            self._saved = time.monotonic()


def show(memory: Memory) -> None:
    """Print the entries, oldest first."""
    entries = memory.entries
    several = len({entry.stream for entry in entries}) > 1
    table = Table("remembered", "time", "scenes", "length", title="memory", title_justify="left")
    for column in table.columns:
        column.justify = "right"
    for entry in entries[:ROWS]:
        table.add_row(*_row(entry, several))
    if len(entries) > ROWS:
        table.add_row("...", f"{len(entries) - ROWS} more", "", "")
    stderr.print(table)
    kept = sum(entry.segments for entry in entries)
    stderr.print(
        f"the memory holds {len(entries)} of at most {memory.capacity} entries, which stand for {kept} of "
        f"{memory.segments} scenes",
        highlight=False,
    )


def _row(entry: MemoryEntry, several: bool) -> tuple[str, str, str, str]:
    from ..sinks.drawing import clock, duration

    span = str(entry.first) if entry.first == entry.last else f"{entry.first} - {entry.last}"
    if entry.scene is None:
        return span, "", str(entry.segments), ""
    stream = f"stream {entry.stream}, " if several else ""
    start, end = entry.scene.start, entry.scene.end
    return span, f"{stream}{clock(start)} - {clock(end)}", str(entry.segments), duration(end - start)
