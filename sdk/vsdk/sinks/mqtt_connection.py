"""The thread that talks to an MQTT broker: it sends what waits, and reconnects.

One thread owns the client from beginning to end. Needs paho-mqtt, and is imported only when a sink is opened.
"""

from __future__ import annotations

import contextlib
import logging
import random
import re
import select
import socket
import ssl
import threading
import time
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from .mqtt_address import MqttAddress
from .outbox import Message, Outbox

log = logging.getLogger(__name__)

ONLINE, OFFLINE = b"online", b"offline"
KEEPALIVE_SECONDS = 15
"""A broker that does not answer for so long is given up, and one that hears nothing for longer publishes our will."""
ANSWER_SECONDS = 5.0
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
JITTER = 0.2
STEADY_SECONDS = 30.0
"""After a connection that held for so long, the delays begin anew."""
IN_FLIGHT = 20
"""Most messages that are sent and not yet acknowledged."""
POLL_SECONDS, QUICK_SECONDS = 1.0, 0.05


class Refused(ConnectionError):
    """The broker does not take us."""


class MqttConnection:
    """Connects, stays connected, and publishes what is in the outbox, until it is closed.

    Args:
        address: The broker.
        source: Name of the source, for the topic that says whether we are online.
        outbox: What is to be sent; call `wake` after putting something in.

    Attributes:
        first_try: Set when the first attempt to connect is over.
        failure: Why the last attempt failed, or None when it did not.
    """

    def __init__(self, address: MqttAddress, source: str, outbox: Outbox) -> None:
        self.first_try = threading.Event()
        self.failure: Exception | None = None
        self._address = address
        self._status = address.topic(source, "status")
        self._outbox = outbox
        self._closing = threading.Event()
        self._deadline = 0.0
        self._waker, self._wakened = socket.socketpair()
        for end in (self._waker, self._wakened):
            end.setblocking(False)
        self._in_flight: dict[int, Message] = {}  # what is on its way, by paho's number
        self._answer: str | None = None
        self._client = self._make_client()
        self._thread = threading.Thread(target=self._work, name="vsdk-mqtt", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something to send."""
        with contextlib.suppress(OSError):  # full of calls that were not heard yet, or closed
            self._waker.send(b"!")

    def close(self, seconds: float) -> int:
        """Send what waits, say goodbye, and stop, all within so many seconds.

        Returns:
            How many messages could not be delivered.
        """
        self._deadline = time.monotonic() + seconds
        self._closing.set()
        self.wake()
        self._thread.join(seconds + 0.2)  # the look-up of a host's name cannot be interrupted
        return self._undelivered()

    def _make_client(self) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        client.connect_timeout = ANSWER_SECONDS
        client.max_inflight_messages_set(IN_FLIGHT)
        client.will_set(self._status, OFFLINE, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        if self._address.user is not None:
            client.username_pw_set(self._address.user, self._address.password)
        if self._address.tls:
            client.tls_set_context(ssl.create_default_context())
        return client

    def _work(self) -> None:
        tries = 0
        while self._is_wanted():
            begin = time.monotonic()
            if self._connect():
                self._serve()
            tries = 0 if time.monotonic() - begin > STEADY_SECONDS else tries + 1
            self._lose_in_flight()
            self._pause(tries)
        if (connection := self._client.socket()) is not None:
            connection.close()
        self._wakened.close()
        self._waker.close()

    def _is_wanted(self) -> bool:
        """Whether there is a reason to be connected."""
        return not self._closing.is_set() or (time.monotonic() < self._deadline and self._undelivered() > 0)

    def _undelivered(self) -> int:
        """How many events wait, or are on their way."""
        return len(self._outbox) + sum(message.topic != self._status for message in self._in_flight.copy().values())

    def _pause(self, tries: int) -> None:
        """Wait before the next try, longer each time."""
        if self._closing.is_set():
            time.sleep(0.05)
        else:
            delay = min(FIRST_DELAY * 2.0 ** min(max(tries - 1, 0), 32), LONGEST_DELAY)
            self._closing.wait(delay * random.uniform(1 - JITTER, 1 + JITTER))

    def _connect(self) -> bool:
        """Try once."""
        before, self._answer = self.failure, None
        try:
            self._client.connect(self._address.host, self._address.port, KEEPALIVE_SECONDS)
            self._await_answer()
            self.failure = None
        except Exception as error:  # what is no MQTT makes paho raise all kinds, and the thread must go on
            self.failure = error
            self._client.disconnect()
            if self.first_try.is_set() and not self._closing.is_set() and str(error) != str(before):
                log.warning("%s: cannot connect: %s; trying again", self._address, reason(error))
        else:
            if self.first_try.is_set():
                log.warning("%s: connected again; %d events were dropped so far", self._address, self._outbox.dropped)
        self.first_try.set()
        return self.failure is None

    def _await_answer(self) -> None:
        """Wait until the broker says whether it takes us.

        Raises:
            OSError: It does not.
        """
        deadline = time.monotonic() + ANSWER_SECONDS
        while self._answer is None and self._is_wanted():
            if time.monotonic() > deadline:
                raise TimeoutError(f"it accepts connections, but has not answered for {ANSWER_SECONDS:.0f} s")
            if not self._exchange(0.1):
                break
        if self._answer != "":
            raise Refused(self._answer) if self._answer else ConnectionError("it cuts the connection without an answer")

    def _serve(self) -> None:
        """Publish until the connection is lost, or until the sink closes and everything is sent."""
        try:
            if not self._publish_until_closed():
                log.warning("%s: the connection is lost; trying again", self._address)
        except Exception as error:  # as above
            log.warning("%s: the connection is lost: %s; trying again", self._address, reason(error))

    def _publish_until_closed(self) -> bool:
        """False when the connection is lost before."""
        if all(message.topic != self._status for message in self._in_flight.values()):
            self._publish(Message(self._status, ONLINE, 1), retain=True)  # or else paho is sending it again
        goodbye = False
        while self._exchange(QUICK_SECONDS if self._closing.is_set() else POLL_SECONDS):
            self._send_waiting()
            if not self._closing.is_set():
                continue
            if time.monotonic() > self._deadline or (goodbye and not self._in_flight):
                self._client.disconnect()
                return True
            if not self._in_flight and not goodbye:
                goodbye = True
                self._publish(Message(self._status, OFFLINE, 1), retain=True)
        return False

    def _send_waiting(self) -> None:
        """Publish from the outbox, as much as may be on its way at a time."""
        while self._client.socket() is not None and len(self._in_flight) < IN_FLIGHT:
            if (message := self._outbox.take()) is None:
                return
            self._publish(message)

    def _publish(self, message: Message, *, retain: bool = False) -> None:
        sent = self._client.publish(message.topic, message.payload, message.qos, retain)
        if message.qos == 0 and sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._outbox.put_back(message)  # paho forgets it; one of quality 1 it sends when it is connected again
        elif not sent.is_published():
            self._in_flight[sent.mid] = message

    def _exchange(self, seconds: float) -> bool:
        """Send and receive what is ready, waiting for it for so long; False when there is no connection."""
        connection: Any = self._client.socket()
        if connection is None:
            return False
        poll = select.poll()
        poll.register(connection, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        poll.register(self._wakened, select.POLLIN)
        for descriptor, ready in poll.poll(seconds * 1000):
            if descriptor == self._wakened.fileno():
                self._wakened.recv(4096)
                continue
            if ready & ~select.POLLOUT:
                self._read(connection)
            if ready & select.POLLOUT:
                self._client.loop_write()
        self._client.loop_misc()
        return self._client.socket() is not None

    def _read(self, connection: Any) -> None:
        """Take in what has come; TLS may hold more than the system knows of."""
        more = True
        while more:
            self._client.loop_read()
            more = self._address.tls and self._client.socket() is not None and connection.pending() > 0

    def _lose_in_flight(self) -> None:
        """Without the connection, what had quality 0 is lost; the rest is sent again."""
        lost = [number for number, message in self._in_flight.items() if message.qos == 0]
        for number in lost:
            del self._in_flight[number]
        self._outbox.count_lost(len(lost))

    def _on_connect(self, client: Client, userdata: Any, flags: Any, code: Any, properties: Any) -> None:
        self._answer = str(code) if code.is_failure else ""

    def _on_publish(self, client: Client, userdata: Any, number: int, code: Any, properties: Any) -> None:
        self._in_flight.pop(number, None)


def reason(error: Exception) -> str:
    """What went wrong, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return re.sub(r"^_ssl\.c:\d+: ", "", text)


def hint_for(error: Exception) -> str:
    """What to do about it."""
    if isinstance(error, Refused):
        return "Check user and password, and whether this user may connect."
    if isinstance(error, ssl.SSLCertVerificationError):
        return "Set SSL_CERT_FILE to a file with the certificate of the authority that signed the broker's."
    if isinstance(error, ssl.SSLError):
        return "Is this the broker's port for TLS? Without TLS the address begins with mqtt://."
    if isinstance(error, socket.gaierror):
        return "Check the name of the host."
    return "Is the broker running, are host and port right, and does the port expect TLS (mqtts://)?"
