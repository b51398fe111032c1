"""What `vsdk run` does with the memory: goes on from a file, saves to it, and shows what is remembered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from .console import stderr
from .kept import Kept

if TYPE_CHECKING:
    from vsdk_runtimes import Bundle

    from ..memory.entry import MemoryEntry
    from ..memory.memory import Memory

ROWS = 32
"""Most entries that the table shows."""


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


class KeptMemory(Kept):
    """Restores a memory from a file, if there is one; saves it there every minute, and when the block ends.

    Args:
        path: The file; None keeps nothing.
        memory: What to keep; None is a stream without a memory.
    """

    def __init__(self, path: Path | None, memory: Memory | None) -> None:
        super().__init__(path, self._save_memory, wanted=lambda: memory is not None)
        self._memory = memory

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

    def _save_memory(self, path: Path) -> None:
        if self._memory is not None:
            self._memory.save(path)


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
