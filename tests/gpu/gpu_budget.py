"""A time budget that skips what no longer fits, and says so."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Budget:
    """Seconds for all checks together.

    Attributes:
        seconds: From the start on.
        clock: Tells the time in seconds.
        skipped: What was left out, with the reason.
    """

    seconds: float
    clock: Callable[[], float] = time.monotonic
    skipped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._start = self.clock()

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self.clock() - self._start

    @property
    def left(self) -> float:
        """Seconds until the end; not below 0."""
        return max(0.0, self.seconds - self.spent)

    def allows(self, what: str, needs: float) -> bool:
        """Whether there is time for something that needs about so many seconds; if not, it counts as skipped."""
        if self.left >= needs:
            return True
        self.skip(what, f"needs about {needs:.0f} s, {self.left:.0f} s are left")
        return False

    def skip(self, what: str, why: str) -> None:
        """Leave something out, and say so at once."""
        self.skipped.append(f"{what}: {why}")
        print(f"SKIPPED {self.skipped[-1]}", flush=True)
