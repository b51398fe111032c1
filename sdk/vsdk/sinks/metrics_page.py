"""The page that Prometheus reads: the numbers of one or several streams, served over HTTP.

Each page has a registry of its own, so that several streams in one process never mix. This module needs
prometheus-client and is imported only when a page is opened.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, Metric, make_wsgi_app
from prometheus_client.registry import Collector

from .metrics import Numbers, StreamMetrics

log = logging.getLogger(__name__)

STATES = ("connecting", "live", "stalled", "reconnecting", "ended")
CLIENT_SECONDS = 5.0
"""A client that says nothing for so long is sent away."""
POLL_SECONDS = 0.1

Read = Callable[[Numbers], float | None]

COUNTERS: dict[str, tuple[str, Read]] = {
    "vsdk_frames": ("Frames taken in.", lambda it: it.frames),
    "vsdk_frames_encoded": ("Frames that went through the encoder; the gate spared the others.", lambda it: it.encoded),
    "vsdk_frames_dropped": ("Frames that were replaced by newer ones before anybody took them.", lambda it: it.dropped),
    "vsdk_decode_errors": ("Damaged packets that were skipped.", lambda it: it.decode_errors),
    "vsdk_reconnects": ("Connections after the first one.", lambda it: it.reconnects),
    "vsdk_scenes": ("Scenes that have closed.", lambda it: it.scenes),
}
GAUGES: dict[str, tuple[str, Read]] = {
    "vsdk_generation": ("One more at each reconnection or other break in the video.", lambda it: it.generation),
    "vsdk_frames_per_second": ("Frames taken in a second, lately.", lambda it: it.frames_per_second),
    "vsdk_last_frame_age_seconds": ("Seconds since a frame was taken in.", lambda it: it.last_frame_age),
}


class MetricsPage(Collector):
    """Listens from construction until it is closed.

    Raises:
        OSError: The port cannot be listened on.
    """

    def __init__(self, host: str, port: int) -> None:
        self._streams: list[StreamMetrics] = []
        registry = CollectorRegistry()
        registry.register(self)
        self._server = _server(host, port)
        self._server.set_app(make_wsgi_app(registry))
        self.port: int = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="vsdk-metrics", daemon=True
        )
        self._thread.start()

    def add(self, stream: StreamMetrics, *, instead_of: StreamMetrics | None = None) -> None:
        """Show the numbers of one more stream, or of one instead of another."""
        self._streams = [*(other for other in self._streams if other is not instead_of), stream]

    def close(self) -> None:
        """Stop listening. Idempotent."""
        self._server.shutdown()
        self._server.server_close()

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now; what is not known of a stream is left out."""
        streams = [now for stream in self._streams if (now := stream.now()).source is not None]
        for kind, metrics in (("counter", COUNTERS), ("gauge", GAUGES)):
            for name, (says, read) in metrics.items():
                metric = Metric(name, says, kind)
                for stream in streams:
                    if (value := read(stream)) is not None:
                        sample = f"{name}_total" if kind == "counter" else name
                        metric.add_sample(sample, {"source": str(stream.source)}, value)
                yield metric
        yield from (_latency(streams), _state(streams), _information(streams))


def _latency(streams: list[Numbers]) -> Metric:
    metric = Metric(
        "vsdk_latency_seconds", "From the capture of a frame until its events had been delivered, lately.", "summary"
    )
    for stream in streams:
        for quantile, value in (("0.5", stream.latency_p50), ("0.95", stream.latency_p95)):
            if value is not None:
                metric.add_sample(metric.name, {"source": str(stream.source), "quantile": quantile}, value)
    return metric


def _state(streams: list[Numbers]) -> Metric:
    metric = Metric("vsdk_source_state", "1 for the state that the source is in, 0 for the others.", "gauge")
    for stream in streams:
        for state in STATES:
            metric.add_sample(metric.name, {"source": str(stream.source), "state": state}, float(stream.state == state))
    return metric


def _information(streams: list[Numbers]) -> Metric:
    metric = Metric("vsdk_stream_info", "What the stream runs; always 1.", "gauge")
    for stream in streams:
        if stream.bundle is not None:
            labels = {"source": str(stream.source), "bundle": stream.bundle, "engine": stream.engine}
            metric.add_sample(metric.name, labels, 1.0)
    return metric


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_SECONDS

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  (the name is http.server's)
        log.debug(format, *arguments)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Without the look-up of this machine's full name, which asks the network."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a client of the metrics went away", exc_info=True)


def _server(host: str, port: int) -> _Server:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    kind = type("_Server", (_Server,), {"address_family": family})
    server: _Server = kind(address[:2], _Handler)
    return server
