"""Metrics: how a stream is doing, as numbers that Prometheus reads.

    with vsdk.Stream(bundle, camera, sinks=[Metrics(9108)]) as stream: ...
    # http://127.0.0.1:9108/metrics

`docs/operations.md` has every metric and what it means.
"""

from __future__ import annotations

import copy
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vsdk_runtimes.errors import ClosedError, InputError, SinkError

from ..events import End, Event, Scene, SourceState, Start, Stats
from ..sources.credentials import redacted
from .base import Sink

if TYPE_CHECKING:
    from .metrics_page import MetricsPage

LOOPBACK = "127.0.0.1"


@dataclass
class Numbers:
    """What is known of one stream; None where nothing is known yet. Counts are since its start."""

    source: str | None = None
    bundle: str | None = None
    engine: str = ""
    state: str | None = None
    frames: int | None = None
    encoded: int | None = None
    scenes: int | None = None
    dropped: int | None = None
    decode_errors: int | None = None
    reconnects: int | None = None
    generation: int | None = None
    frames_per_second: float | None = None
    latency_p50: float | None = None
    latency_p95: float | None = None
    last_frame: float | None = None  # on the clock of time.monotonic

    @property
    def last_frame_age(self) -> float | None:
        """Seconds since a frame was taken in."""
        return None if self.last_frame is None else time.monotonic() - self.last_frame

    def take(self, event: Event) -> None:
        """Bring up to date."""
        if isinstance(event, Start):
            self.bundle, self.engine = event.bundle, event.engine
            self.state = self.state or "connecting"
            self.scenes = self.scenes or 0
        elif isinstance(event, SourceState):
            self.state, self.generation = event.state, event.generation
        elif isinstance(event, Stats):
            self._take_stats(event)
        elif isinstance(event, Scene):
            self.scenes = (self.scenes or 0) + 1
        elif isinstance(event, End):
            self.state = "ended"
            self.frames, self.encoded, self.scenes = event.frames, event.encoded, event.scenes
            self.decode_errors = event.decode_errors
        if isinstance(event, Start | SourceState | Stats) and self.source is None:
            self.source = redacted(event.source)

    def take_frame(self) -> None:
        """A frame has been taken in."""
        self.frames = (self.frames or 0) + 1
        self.last_frame = time.monotonic()
        if self.state == "connecting":  # a recording does not say that it is there
            self.state = "live"

    def _take_stats(self, stats: Stats) -> None:
        self.frames = max(stats.frames, self.frames or 0)
        self.dropped, self.decode_errors = stats.dropped, stats.decode_errors
        self.reconnects, self.generation = stats.reconnects, stats.generation
        self.frames_per_second = stats.frames_per_second
        self.latency_p50, self.latency_p95 = stats.latency_p50, stats.latency_p95


class StreamMetrics(Sink):
    """The numbers of one stream, kept for a page; `Metrics` and `Metrics.of` make them.

    Counts come with the events. What happens between them is known when `take_frame` and `take_features` are handed to
    the stream: `Stream(..., sinks=[metrics], on_frame=metrics.take_frame, on_features=metrics.take_features)`.
    """

    def __init__(self, source: str | None = None) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._numbers = Numbers(source=None if source is None else redacted(source))

    def write_event(self, event: Event) -> None:
        """Take one event, in order.

        Raises:
            ClosedError: The sink is closed.
        """
        with self._lock:
            if self._closed:
                raise ClosedError(f"the sink for {self._place} is closed")
            self._numbers.take(event)

    def take_frame(self, number: int, seconds: float) -> None:
        """Note that a frame has been taken in now."""
        with self._lock:
            self._numbers.take_frame()

    def take_features(self, number: int, seconds: float, cls: Any, encoded: bool) -> None:
        """Note whether a frame went through the encoder."""
        with self._lock:
            self._numbers.encoded = (self._numbers.encoded or 0) + encoded

    @property
    def closed(self) -> bool:
        """Whether it takes no more."""
        return self._closed

    def now(self) -> Numbers:
        """What is known at this moment."""
        with self._lock:
            return copy.copy(self._numbers)

    def close(self) -> None:
        """Take no more. Idempotent."""
        with self._lock:
            self._closed = True

    @property
    def _place(self) -> str:
        return f"the metrics of {self._numbers.source or 'a stream'}"


class Metrics(StreamMetrics):
    """Serves the numbers of a stream as Prometheus text over HTTP, under any path, until it is closed.

    Args:
        address: A port, `HOST:PORT` or `[IPv6]:PORT`; without a host only this machine can connect. Port 0 is any free
            one. Nothing is encrypted and nobody has to log in: name another host only in a network that you trust.

    Attributes:
        port: The port that is listened on.

    Raises:
        SinkError: The port is taken or not allowed, the host is not of this machine, or prometheus-client is missing.
        InputError: `address` is none of these.
    """

    def __init__(self, address: int | str) -> None:
        super().__init__()
        host, port = parse_address(address)
        self._page = _open_page(host, port)
        self.port = self._page.port
        self._place_name = f"metrics at {shown(host, self.port)}"
        self._children: dict[str, StreamMetrics] = {}
        self._page.add(self)

    def of(self, source: str) -> StreamMetrics:
        """A sink for one of several streams that share the port, labelled with this name.

        Closing it leaves the port open, and its last numbers readable until there is another one of its name.

        Raises:
            InputError: There is an open one with this name.
        """
        child = StreamMetrics(source)
        name = redacted(source)
        with self._lock:
            before = self._children.get(name)
            if before is not None and not before.closed:
                raise InputError(f"{self._place} have a source {name!r} already", hint="Give each its name.")
            self._children[name] = child
        self._page.add(child, instead_of=before)
        return child

    def close(self) -> None:
        """Close the port, within a second. Idempotent."""
        super().close()
        self._page.close()

    @property
    def _place(self) -> str:
        return self._place_name


def parse_address(address: int | str) -> tuple[str, int]:
    """Host and port.

    Raises:
        InputError: It is neither a port nor `HOST:PORT` nor `[IPv6]:PORT`.
    """
    host, _, port = str(address).rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host or (not host and ":" in str(address)):
        port = ""
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise InputError(
            f"{redacted(str(address))!r} is no address to listen on",
            hint="Give a port or HOST:PORT: 9108, 0.0.0.0:9108.",
        )
    return host or LOOPBACK, int(port)


def shown(host: str, port: int) -> str:
    """`HOST:PORT` for people."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _open_page(host: str, port: int) -> MetricsPage:
    place = f"metrics at {shown(host, port)}"
    try:
        from .metrics_page import MetricsPage
    except ImportError as error:
        raise SinkError(
            f"cannot serve {place}: prometheus-client is not installed", hint="pip install 'vsdk[metrics]'"
        ) from error
    try:
        return MetricsPage(host, port)
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
        reason = getattr(error, "strerror", None) or str(error)
        raise SinkError(
            f"cannot serve {place}: {reason}",
            hint="Choose another port (0 is any free one), or a host of this machine.",
        ) from error
