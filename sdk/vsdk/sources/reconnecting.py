"""Whether and when a live source tries again."""

from __future__ import annotations

from ..errors import SourceDeniedError, SourceError, SourceUnsupportedError
from .live_settings import LiveSettings

HOPELESS = (SourceDeniedError, SourceUnsupportedError)
"""Trying these again locks accounts, or cannot help. Yet servers refuse all kinds of things while they start."""


class Reconnecting:
    """Decides after each connection, and counts the tries.

    * Everything that is a `SourceError` is tried again until `reconnect_for` seconds have gone by without a frame, also
      what a server does not know (404): its sender may start later than we do.
    * What is `HOPELESS` is not tried again before the first frame, and at the longest delay after it.
    * A recording is read once: from its beginning it would be another stream.

    Attributes:
        attempt: Number of the try since the last frame, from 1: of the one under way, or waited for.
    """

    def __init__(self, settings: LiveSettings) -> None:
        self.attempt = 1
        self._failures = 0  # since the last frame
        self._settings = settings

    def wait_after(
        self, failure: Exception | None, *, frames: bool, ever_frames: bool, finite: bool, silent: float
    ) -> float | None:
        """Seconds until the next try; None where there is none.

        Args:
            failure: What ended the connection; None where the sender did.
            frames: Whether it had given frames.
            ever_frames: Whether any connection had.
            finite: Whether it was a recording.
            silent: Seconds since the last frame, or since the start.
        """
        self.attempt = 1 if frames else self.attempt + 1
        self._failures = 1 if frames else self._failures + 1
        if finite or not (failure is None or isinstance(failure, SourceError)):
            return None
        hopeless = isinstance(failure, HOPELESS)
        if hopeless and not ever_frames:
            return None
        wait = self._settings.longest_delay if hopeless else self._settings.delay(self._failures)
        return wait if silent + wait <= self._settings.reconnect_for else None
