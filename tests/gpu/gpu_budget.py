"""A time budget that skips what no longer fits, and says so."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


class OutOfTime(BaseException):
    """The time is over; no `except Exception` on the way holds it up."""


@dataclass
class Budget:
    """Seconds for all checks together.

    Attributes:
        seconds: From the start on.
        grace: How many more seconds what is under way then may take.
        clock: Tells the time in seconds.
        skipped: What was left out, with the reason.
    """

    seconds: float
    grace: float = 15.0
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

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Break off what is under way when time and grace are over, and note it; in the main thread only."""

        def stop(number: int, frame: Any) -> None:
            raise OutOfTime

        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, max(self.left + self.grace, 0.001))
        try:
            yield
        except OutOfTime:
            self.skip("what was under way and all after it", f"{self.seconds + self.grace:.0f} s are over")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def skip(self, what: str, why: str) -> None:
        """Leave something out, and say so at once."""
        self.skipped.append(f"{what}: {why}")
        print(f"SKIPPED {self.skipped[-1]}", flush=True)
