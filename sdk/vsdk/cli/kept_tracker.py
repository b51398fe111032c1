"""What `vsdk track` does with a file of objects: goes on from it, and saves to it."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..tracking.tracker import Tracker

SAVE_SECONDS = 60.0


def check_tracker_state(path: Path) -> None:
    """Refuse a place that cannot be saved to, before anything is written.

    Raises:
        SinkError: It could not be saved there.
    """
    from ..memory.state_file import check_state_target

    check_state_target(path)


class KeptTracker:
    """Restores a tracker from a file, if there is one; saves it there every minute, and when the block ends.

    Args:
        path: The file; None keeps nothing.
        tracker: What to keep.

    Raises:
        StateError: The file is there, but cannot be gone on from.
    """

    def __init__(self, path: Path | None, tracker: Tracker) -> None:
        self._path, self._tracker = path, tracker
        self._saved = time.monotonic()
        if path is not None and path.exists():
            tracker.restore(path)

    def save_now_and_then(self) -> None:
        """Save if the last time is long enough ago, so that a power cut costs no more than that."""
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self._save()

    def __enter__(self) -> KeptTracker:
        return self

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
        if self._path is not None and self._tracker.object_ids:
            self._tracker.save(self._path)
            self._saved = time.monotonic()
