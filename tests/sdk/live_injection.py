"""Faults to inject into the test camera, and what is measured of each: was it seen, and when was it over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from live_tools import Taken, TestCamera, shown_number

from vsdk.events import SourceState
from vsdk.frame import Frame
from vsdk.sources.live_settings import LiveSettings

SETTINGS = LiveSettings(
    connect_timeout=2.0, read_timeout=1.5, stall_after=0.5, first_delay=0.2, longest_delay=1.0, reconnect_for=600.0
)
LONGEST_RECOVERY = SETTINGS.longest_delay * (1 + SETTINGS.jitter) + 2.0
"""Seconds from the moment at which the sender is well again to the next frame: the back-off and two more."""

Item = Frame | SourceState
Camera = Any
"""A `TestCamera`, or what can do the same."""

Seen = Callable[["Injector", Item], bool]
STREAMS = ("tcp", "http", "rtsp")
KEY_FRAMES_NS = 1_000_000_000
"""The camera sends a key frame every ten pictures: after so long there has been one."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        name: For the report.
        make: Makes it happen.
        seen: Whether the source has said so.
        mend: Ends it.
        schemes: Where it can happen.
        whole: Whether pictures stay whole meanwhile.
    """

    name: str
    make: Callable[[Camera], None]
    seen: Seen
    mend: Callable[[Camera], None] = TestCamera.recover
    schemes: tuple[str, ...] = STREAMS
    whole: bool = True


@dataclass(frozen=True)
class Outcome:
    """What was measured.

    Attributes:
        fault: Its name.
        scheme: Of the address.
        seen: Seconds until it was seen.
        recovered: Seconds from its end to the next frame.
    """

    fault: str
    scheme: str
    seen: float
    recovered: float


def says(state: str, message: str = "", attempt: int = 0) -> Seen:
    """Seen once there is a state like this."""

    def seen(injector: Injector, item: Item) -> bool:
        return (
            isinstance(item, SourceState)
            and item.state == state
            and message in item.message
            and item.attempt >= attempt
        )

    return seen


def setting(*changes: tuple[str, object], drop: bool = False) -> Callable[[Camera], None]:
    """Change attributes of the camera, then perhaps cut its connections."""

    def make(camera: Camera) -> None:
        for name, value in changes:
            camera.set(name, value)
        if drop:
            camera.drop()

    return make


def damaged(injector: Injector, item: Item) -> bool:
    """Seen once damaged packets were counted, or a connection was given up for them."""
    return injector.new_errors > 0 or (isinstance(item, SourceState) and item.state == "reconnecting")


def goes_on(injector: Injector, item: Item) -> bool:
    """Nothing to be seen but frames."""
    return isinstance(item, Frame)


FAULTS = (
    Fault("connection cut", TestCamera.drop, says("reconnecting")),
    Fault("server stopped and started", TestCamera.die, says("reconnecting", "refused", 2)),
    Fault("stream stops for a moment", setting(("paused", True)), says("stalled")),
    Fault("stream stops for long", setting(("paused", True)), says("reconnecting", "nothing arrived")),
    Fault("silent server", setting(("silent", True), drop=True), says("reconnecting", "nothing arrived", 2)),
    Fault("slow server", setting(("trickling", True)), says("reconnecting")),
    Fault("slow server while connecting", setting(("trickling", True), drop=True), says("reconnecting", attempt=2)),
    Fault("other frame size", setting(("size", [192, 96])), says("live", "frame size changed")),
    Fault("other frame rate", setting(("every", 3)), goes_on),
    Fault("other codec", setting(("codec", "mpeg2video"), drop=True), says("live"), whole=False),
    Fault("other codec within the stream", setting(("codec", "mpeg2video")), says("reconnecting"), whole=False),
    Fault("time stamps go back", setting(("shift", -500)), says("live", "went back")),
    Fault("damaged packets", setting(("damaged", True)), damaged, whole=False),
    Fault("login refused", setting(("refuse", "401 No"), drop=True), says("reconnecting", "401"), schemes=STREAMS[1:]),
    Fault("forbidden", setting(("refuse", "403 No"), drop=True), says("reconnecting", "403"), schemes=STREAMS[1:]),
    Fault("not found", setting(("refuse", "404 No"), drop=True), says("reconnecting", "404"), schemes=STREAMS[1:]),
    Fault(
        "server overloaded", setting(("refuse", "503 No"), drop=True), says("reconnecting", "5"), schemes=STREAMS[1:]
    ),
    Fault("packets lost", setting(("loss", 0.1)), damaged, schemes=("udp",), whole=False),
    Fault("packets out of order", setting(("disorder", 0.2)), damaged, schemes=("udp",), whole=False),
    Fault("network gone", setting(("loss", 1.0)), says("reconnecting", "nothing arrived"), schemes=("udp",)),
)


class Injector:
    """Injects faults into a camera that is watched, and checks every picture that comes.

    Args:
        camera: The sender.
        taken: What arrives.
        scheme: Of the address.
    """

    def __init__(self, camera: Camera, taken: Taken, scheme: str) -> None:
        self._camera, self._taken, self._scheme = camera, taken, scheme
        self._last = -1
        self._errors = 0
        self.frames = 0

    @property
    def new_errors(self) -> int:
        """Damaged packets since the last fault was made."""
        return self._taken.source.decode_errors - self._errors

    def inject(self, fault: Fault) -> Outcome:
        """Make it, see it, mend it, wait for the next frame.

        Raises:
            AssertionError: It was not seen, it was not over, or a picture was made up.
        """
        self._take(lambda injector, item: isinstance(item, Frame), whole=True)
        self._errors = self._taken.source.decode_errors
        started = time.monotonic()
        fault.make(self._camera)
        self._take(fault.seen, whole=fault.whole)
        seen = time.monotonic() - started
        fault.mend(self._camera)
        mended = time.monotonic_ns()
        self._take(lambda injector, item: isinstance(item, Frame) and item.captured_ns > mended, whole=fault.whole)
        recovered = (time.monotonic_ns() - mended) / 1e9
        if not fault.whole:
            self._clear_decoder(mended)
        return Outcome(fault.name, self._scheme, seen, recovered)

    def _clear_decoder(self, mended: int) -> None:
        """What is left in the decoder would spoil the next pictures: connect anew, or wait for the next key frame."""
        if self._scheme in STREAMS:
            self._camera.drop()
            self._take(says("reconnecting"), whole=False)
        else:
            later = mended + KEY_FRAMES_NS
            self._take(lambda injector, item: isinstance(item, Frame) and item.captured_ns > later, whole=False)

    def _take(self, seen: Seen, *, whole: bool) -> None:
        """Take until it is seen; pictures that must be whole show what the camera showed, later and later."""

        def take(item: Item) -> bool:
            if isinstance(item, Frame):
                self.frames += 1
                if whole:
                    number = shown_number(item.image)
                    assert number > self._last, f"picture {number} after {self._last}: somebody made it up"
                    self._last = number
            return seen(self, item)

        self._taken.until(take)
        self._taken.items.clear()
