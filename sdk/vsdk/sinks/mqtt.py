"""MQTT: events for whoever subscribes to them.

    Mqtt("mqtt://user:password@broker/cameras", source="front door")

publishes each event's JSON at `cameras/front_door/TYPE`, and `online` or `offline` at `cameras/front_door/status`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from vsdk_runtimes.errors import ClosedError, SinkError

from ..events import Event, to_json
from .base import Sink
from .mqtt_address import MqttAddress
from .outbox import Message, Outbox

if TYPE_CHECKING:
    from .mqtt_connection import MqttConnection

ACKNOWLEDGED = frozenset({"scene", "source", "end"})
"""Types of the events that are sent until the broker has them (quality of service 1); others are sent once (0)."""
WAITING = 1000
FLUSH_SECONDS = 2.0
FIRST_SECONDS = 12.0
"""Longest wait for the first connection; each of its steps has a shorter time-out."""


class Mqtt(Sink):
    """Publishes events at an MQTT broker, each at `PREFIX/SOURCE/TYPE`.

    The stream never waits for the broker. While the broker is away, events wait, at most `waiting` of them; then the
    oldest that are not worth an acknowledgement are dropped, and then the oldest of all. The connection is tried again
    with growing delays for as long as it takes. The log says when it is lost and when it is back.

    At `PREFIX/SOURCE/status` there is a retained `online` or `offline`, which the broker itself changes to `offline`
    when this process dies.

    Args:
        url: `mqtt://user:password@host:1883/topic/prefix`, or `mqtts://` for TLS, checked with the certificates of the
            system or of the file that `SSL_CERT_FILE` names. The prefix is `vsdk` by default.
        source: Name of the source; in topics, all but letters, digits, `.`, `_` and `-` becomes `_`.
        waiting: Most events that wait to be sent.
        flush_seconds: Longest time that closing may take to send what waits.

    Attributes:
        dropped: How many events were dropped.

    Raises:
        InputError: The address cannot be taken apart.
        SinkError: The broker cannot be reached now or refuses us, or paho-mqtt is missing. No message has credentials.
    """

    def __init__(self, url: str, source: str, *, waiting: int = WAITING, flush_seconds: float = FLUSH_SECONDS) -> None:
        self._address = MqttAddress.parse(url)
        self._topic = self._address.topic(source, "")
        self._flush_seconds = flush_seconds
        self._lock = threading.Lock()
        self._closed = False
        self._outbox = Outbox(waiting)
        self._connection = _connect(self._address, source, self._outbox)

    @property
    def dropped(self) -> int:
        """How many events were dropped, because the broker was away for too long or the connection broke."""
        return self._outbox.dropped

    def write_event(self, event: Event) -> None:
        """Take one event, in order; returns at once.

        Raises:
            ClosedError: The sink is closed.
        """
        payload = to_json(event).encode(errors="backslashreplace")
        with self._lock:
            if self._closed:
                raise ClosedError(f"the sink for {self._address} is closed")
            self._outbox.put(Message(self._topic + event.type, payload, int(event.type in ACKNOWLEDGED)))
        self._connection.wake()

    def close(self) -> None:
        """Send what waits, say that we are offline, and disconnect, within `flush_seconds`. Idempotent.

        Raises:
            SinkError: Events could not be delivered.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if count := self._connection.close(self._flush_seconds):
            raise SinkError(
                f"cannot publish to {self._address}: {count} events could not be delivered",
                hint="The broker was away or slow when the stream ended.",
            )


def _connect(address: MqttAddress, source: str, outbox: Outbox) -> MqttConnection:
    """A connection that is there."""
    try:
        from .mqtt_connection import MqttConnection, hint_for, reason
    except ImportError as error:
        raise SinkError(
            f"cannot publish to {address}: paho-mqtt is not installed", hint="pip install 'vsdk[mqtt]'"
        ) from error
    connection = MqttConnection(address, source, outbox)
    try:
        if not connection.first_try.wait(FIRST_SECONDS):
            connection.failure = TimeoutError(f"no connection within {FIRST_SECONDS:.0f} s")
        if (failure := connection.failure) is not None:
            raise SinkError(f"cannot publish to {address}: {reason(failure)}", hint=hint_for(failure)) from failure
    except BaseException:
        connection.close(0.0)
        raise
    return connection
