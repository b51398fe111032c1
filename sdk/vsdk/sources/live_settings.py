"""How a live source connects, waits, reconnects and hands out frames: settings with finite defaults."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import InputError

Policy = Literal["latest", "every"]
Transport = Literal["tcp", "udp"]


@dataclass(frozen=True)
class LiveSettings:
    """Settings of a live source. All times are seconds.

    Attributes:
        connect_timeout: Longest time until a connection is there.
        read_timeout: Longest silence of a connection; then it counts as lost.
        stall_after: Without a frame for so long, a connected source is reported as stalled.
        first_delay: Time before the first try to reconnect; it doubles from try to try.
        longest_delay: Where the doubling stops.
        jitter: A delay is up to this share longer or shorter, by chance, so that many sources of one server do not come
            back at the same moment.
        reconnect_for: Without a frame for so long, the source gives up. 0 never tries again, `math.inf` always does.
        policy: `"latest"` hands out the newest frame and drops those that nobody took in time. `"every"` drops nothing:
            a short queue fills up and then holds back the sender, so a slow consumer sees the past.
        max_fps: Most frames a second that are taken in, by their time stamps; None takes all. What is left out is not
            numbered and does not count as dropped.
        transport: Of RTSP: `"tcp"` loses nothing on the way, `"udp"` does not wait for what was lost.
        verify_tls: Whether the certificates of `https` and `rtsps` servers are checked. Many cameras sign their own.

    Raises:
        InputError: A value is out of its range.
    """

    connect_timeout: float = 10.0
    read_timeout: float = 5.0
    stall_after: float = 2.0
    first_delay: float = 0.5
    longest_delay: float = 30.0
    jitter: float = 0.2
    reconnect_for: float = 3600.0
    policy: Policy = "latest"
    max_fps: float | None = None
    transport: Transport = "tcp"
    verify_tls: bool = True

    def __post_init__(self) -> None:
        for name in ("connect_timeout", "read_timeout", "stall_after", "first_delay", "longest_delay"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise InputError(f"{name} must be finite and more than 0 seconds, not {value!r}")
        if self.longest_delay < self.first_delay:
            raise InputError(
                f"longest_delay ({self.longest_delay:g} s) is shorter than first_delay ({self.first_delay:g} s)"
            )
        if not 0 <= self.jitter < 1:
            raise InputError(f"jitter must be at least 0 and less than 1, not {self.jitter!r}")
        if not self.reconnect_for >= 0:
            raise InputError(
                f"reconnect_for must be at least 0 seconds, not {self.reconnect_for!r}",
                hint="0 never reconnects, math.inf always does.",
            )
        if self.policy not in get_args(Policy):
            raise InputError(f"unknown policy {self.policy!r}", hint="Use 'latest' or 'every'.")
        if self.transport not in get_args(Transport):
            raise InputError(f"unknown transport {self.transport!r}", hint="Use 'tcp' or 'udp'.")
        if self.max_fps is not None and not 0 < self.max_fps < math.inf:
            raise InputError(f"max_fps must be finite and more than 0, not {self.max_fps!r}")

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row, counted from 1; random within `jitter`."""
        doublings = min(failures - 1, 64)  # beyond any cap, within any float
        wait = min(self.first_delay * 2.0**doublings, self.longest_delay)
        return wait * random.uniform(1 - self.jitter, 1 + self.jitter)
