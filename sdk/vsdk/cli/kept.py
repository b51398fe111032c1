"""What a command keeps in a file: saved every minute while it runs, and however it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

SAVE_SECONDS = 60.0
Self = TypeVar("Self", bound="Kept")


class Kept:
    """Saves to a file now and then, and when the block ends.

    Args:
        path: The file; None keeps nothing.
        save: Saves there.
        wanted: Whether there is anything to save yet.
    """

    def __init__(
        self, path: Path | None, save: Callable[[Path], None], wanted: Callable[[], bool] = lambda: True
    ) -> None:
        self._path, self._save_to, self._wanted = path, save, wanted
        self._saved = time.monotonic()

    def save_now_and_then(self) -> None:
        """Save if the last time is long enough ago, so that a power cut costs no more than that."""
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self._save()

    def __enter__(self: Self) -> Self:
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
        if self._path is not None and self._wanted():
            self._save_to(self._path)
            self._saved = time.monotonic()
