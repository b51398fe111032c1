"""MQTT against a real broker on loopback: what arrives, what happens while the broker is away, and what is not told."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from mqtt_broker import (  # noqa: F401  (two are fixtures)
    IN_URL,
    PASSWORD,
    PATIENCE,
    USER,
    Listener,
    TestBroker,
    broker,
    free_port,
    listener,
    until,
)

from vsdk.events import End, Event, MemoryUpdate, Scene, SourceState, Start, Stats, to_json
from vsdk.sinks import mqtt_connection
from vsdk.sinks.mqtt import Mqtt
from vsdk_runtimes.errors import ClosedError, InputError, SinkError

EVENTS: list[Event] = [
    Start("été 夏.mp4", "nano", "0" * 64, "onnxruntime 1.32 on cpu, fp32"),
    SourceState("cam", "live"),
    Scene(0, 0, 29, 0.0, 1.2, 0.75),
    MemoryUpdate(0, 0, 1, 32),
    Stats("cam", 30, 0, 0, 0, 0, 25.0, 0.1, 0.2, 1.2),
    Scene(1, 30, 75, 1.2, 3.04),
    End("end", 76, 40, 2),
]


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time-outs for tests, which fail on purpose."""
    monkeypatch.setattr(mqtt_connection, "ANSWER_SECONDS", 2.0)
    monkeypatch.setattr(mqtt_connection, "FIRST_DELAY", 0.05)
    monkeypatch.setattr(mqtt_connection, "LONGEST_DELAY", 0.2)


def scene(index: int) -> Event:
    return Scene(index, index, index, 0.0, 1.0)


def scenes(*indices: int) -> list[bytes]:
    return [to_json(scene(index)).encode() for index in indices]


def once(payloads: list[bytes]) -> list[bytes]:
    """Without repetitions: what is sent until it is acknowledged may arrive twice."""
    return list(dict.fromkeys(payloads))


def stats(frames: int) -> Event:
    return Stats("cam", frames, 0, 0, 0, 0, 1.0, None, None, 1.0)


# What arrives


def test_every_event_arrives_as_json_at_its_topic(broker: TestBroker, listener: Listener) -> None:  # noqa: F811
    with Mqtt(broker.url("/site/cameras"), "front door") as sink:
        for event in EVENTS:
            sink.write_event(event)
    until(lambda: len(listener.messages) == len(EVENTS) + 2)
    assert listener.messages == [
        ("site/cameras/front_door/status", b"online"),
        *((f"site/cameras/front_door/{event.type}", to_json(event).encode()) for event in EVENTS),
        ("site/cameras/front_door/status", b"offline"),
    ]
    assert sink.dropped == 0


def test_what_matters_is_acknowledged_and_the_status_is_retained(broker: TestBroker) -> None:  # noqa: F811
    with Mqtt(broker.url(), "cam") as sink:
        for event in EVENTS:
            sink.write_event(event)
    until(lambda: len(broker.received()) == len(EVENTS) + 2)
    kinds = {message.topic.rpartition("/")[2]: (message.qos, message.retain) for message in broker.received()}
    assert kinds == {
        "status": (1, True),
        "start": (0, False),
        "source": (1, False),
        "scene": (1, False),
        "memory": (0, False),
        "stats": (0, False),
        "end": (1, False),
    }


def test_several_sources_have_topics_of_their_own(broker: TestBroker) -> None:  # noqa: F811
    with Mqtt(broker.url(), "door") as door, Mqtt(broker.url(), "yard") as yard:
        door.write_event(scene(1))
        yard.write_event(scene(2))
    assert broker.received_at("test/door/scene") == scenes(1)
    assert broker.received_at("test/yard/scene") == scenes(2)


def test_a_burst_arrives_whole_and_in_order(broker: TestBroker) -> None:  # noqa: F811
    with Mqtt(broker.url(), "cam", flush_seconds=PATIENCE) as sink:
        for index in range(500):
            sink.write_event(scene(index))
    assert broker.received_at("test/cam/scene") == scenes(*range(500))
    assert sink.dropped == 0


# When the process dies


def test_the_broker_says_offline_when_the_process_is_killed(
    broker: TestBroker,  # noqa: F811
    listener: Listener,  # noqa: F811
) -> None:
    code = "import sys, time; from vsdk.sinks.mqtt import Mqtt; Mqtt(sys.argv[1], 'cam'); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code, broker.url()]) as process:
        until(lambda: listener.at("test/cam/status") == [b"online"])
        process.send_signal(signal.SIGKILL)
    until(lambda: listener.at("test/cam/status") == [b"online", b"offline"])


# While the broker is away


def test_events_wait_for_a_broker_that_restarts(broker: TestBroker, caplog: pytest.LogCaptureFixture) -> None:  # noqa: F811
    def arrived(*indices: int) -> bool:
        return once(broker.received_at("test/cam/scene")) == scenes(*indices)

    with caplog.at_level(logging.WARNING, "vsdk"), Mqtt(broker.url(), "cam") as sink:
        sink.write_event(scene(0))
        expected = [0]
        for outage in (1, 2):
            until(lambda: arrived(*expected))  # what a broker has acknowledged may go down with it
            broker.stop()
            until(lambda count=outage: caplog.text.count("the connection is lost") == count)  # type: ignore[misc]
            for index in range(10 * outage, 10 * outage + 5):
                sink.write_event(scene(index))
                expected.append(index)
            broker.start()
            until(lambda count=outage: caplog.text.count("connected again") == count)  # type: ignore[misc]
    assert arrived(*expected)
    assert broker.received_at("test/cam/status")[-2:] == [b"online", b"offline"]
    assert sink.dropped == 0
    assert PASSWORD not in caplog.text
    assert USER not in caplog.text


def test_what_was_not_acknowledged_is_sent_again(broker: TestBroker) -> None:  # noqa: F811
    """The proxy swallows what comes from the sink; after it was cut, the sink reconnects."""
    with Proxy(broker.port) as proxy, Mqtt(proxy.url(), "cam") as sink:
        until(lambda: broker.received_at("test/cam/status") == [b"online"])
        proxy.forwarding = False
        sink.write_event(scene(1))
        sink.write_event(stats(1))
        until(lambda: proxy.swallowed >= sum(len(to_json(event)) for event in (scene(1), stats(1))))
        proxy.cut()
        proxy.forwarding = True
        sink.write_event(scene(2))
        until(lambda: broker.received_at("test/cam/scene")[-1:] == scenes(2))
        assert broker.received_at("test/cam/scene") == scenes(1, 2)
        assert broker.received_at("test/cam/stats") == [], "without an acknowledgement there is no second time"


def test_the_queue_is_bounded_and_drops_are_counted(
    broker: TestBroker,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "vsdk"), Mqtt(broker.url(), "cam", waiting=10) as sink:
        broker.stop()
        until(lambda: "cannot connect" in caplog.text)
        for index in range(8):
            sink.write_event(scene(index))
        for frames in range(100):
            sink.write_event(stats(frames))
        assert sink.dropped == 98
        for index in range(8, 20):
            sink.write_event(scene(index))
        assert sink.dropped == 110
        broker.start()
        until(lambda: broker.received_at("test/cam/scene")[-1:] == scenes(19))
        assert once(broker.received_at("test/cam/scene")) == scenes(*range(10, 20))
        assert broker.received_at("test/cam/stats") == []
        assert sink.dropped == 110


@pytest.mark.parametrize("how", ["stopped", "stalled"])
def test_the_stream_never_waits_and_closing_ends(broker: TestBroker, how: str) -> None:  # noqa: F811
    with Proxy(broker.port) as proxy:
        sink = Mqtt(proxy.url(), "cam", flush_seconds=0.5)
        if how == "stopped":
            broker.stop()
        else:
            proxy.reading = False
        big = Start("x" * 100_000, "nano", "", "")
        begin = time.monotonic()
        for _ in range(200):
            sink.write_event(big)
        sink.write_event(scene(0))
        # Twenty megabytes, more than a connection takes in, while the broker is away for ever.
        assert time.monotonic() - begin < PATIENCE / 2
        begin = time.monotonic()
        with pytest.raises(SinkError, match="events could not be delivered"):
            sink.close()
        assert time.monotonic() - begin < PATIENCE / 4
        sink.close()


def test_a_password_that_is_wrong_after_a_restart_is_tried_again(
    broker: TestBroker,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "vsdk"), Mqtt(broker.url(), "cam") as sink:
        broker.stop()
        broker.set_password("another")
        broker.start()
        until(lambda: "cannot connect: Not authorized; trying again" in caplog.text)
        sink.write_event(scene(1))
        broker.stop()
        broker.set_password(PASSWORD)
        broker.start()
        until(lambda: broker.received_at("test/cam/scene") == scenes(1))
    assert caplog.text.count("Not authorized") == 1, "told once, not at every attempt"


# What is refused at once


def everything_told(caught: pytest.ExceptionInfo[BaseException], caplog: pytest.LogCaptureFixture) -> str:
    lines = traceback.format_exception(caught.value)
    return "".join([*lines, repr(caught.value), caplog.text])


@pytest.mark.parametrize(
    ("user", "secrets"), [("robot:wr%40ng", ["wr@ng", "wr%40ng"]), ("nobody:p%40ss", ["nobody", "p@ss"])]
)
def test_a_wrong_password_is_an_error_without_it(
    broker: TestBroker,  # noqa: F811
    user: str,
    secrets: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        caplog.at_level(logging.DEBUG, "vsdk"),
        caplog.at_level(logging.DEBUG, "paho"),
        pytest.raises(SinkError, match=f"mqtt://127.0.0.1:{broker.port}/test: Not authorized") as caught,
    ):
        Mqtt(broker.url(user=user), "cam")
    assert "Check user and password" in caught.value.hint
    told = everything_told(caught, caplog)
    assert not [secret for secret in secrets if secret in told]


def test_a_broker_that_is_not_there_is_an_error() -> None:
    with pytest.raises(SinkError, match="Connection refused") as caught:
        Mqtt(f"mqtt://{IN_URL}@127.0.0.1:{free_port()}", "cam")
    assert "Is the broker running" in caught.value.hint
    assert isinstance(caught.value.__cause__, OSError)


def test_a_host_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(SinkError, match=r"no\.such\.host\.invalid") as caught:
        Mqtt(f"mqtt://{IN_URL}@no.such.host.invalid", "cam")
    assert PASSWORD not in str(caught.value)


def test_a_server_that_never_answers_is_an_error_within_the_time_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        with pytest.raises(SinkError, match="has not answered for 2 s"):
            Mqtt(f"mqtt://127.0.0.1:{silent.getsockname()[1]}", "cam")
        assert time.monotonic() - begin < 10


def test_a_server_that_is_no_broker_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_hang_up, args=(server,), daemon=True).start()
        with pytest.raises(SinkError, match="cuts the connection without an answer"):
            Mqtt(f"mqtt://127.0.0.1:{server.getsockname()[1]}", "cam")


def _hang_up(server: socket.socket, answer: bytes = b"") -> None:
    connection, _ = server.accept()
    connection.recv(1000)
    connection.sendall(answer)
    connection.close()


ANSWERS = [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x00", b"\x20\x7f", b"\x20\x02\x00\x05", b"\xff" * 50, bytes(200)]


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_server_that_speaks_something_else_is_an_error(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_hang_up, args=(server, answer), daemon=True).start()
        with pytest.raises(SinkError, match="cannot publish to mqtt://127"):
            Mqtt(f"mqtt://127.0.0.1:{server.getsockname()[1]}", "cam")


def test_a_broker_that_takes_us_and_hangs_up_is_not_flooded(caplog: pytest.LogCaptureFixture) -> None:
    """Delays grow although it can be connected to, and nothing piles up that is sent at every connection."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept_and_hang_up, args=(server, heard), daemon=True).start()
        sink = Mqtt(f"mqtt://127.0.0.1:{server.getsockname()[1]}", "cam", flush_seconds=0.1)
        sink.write_event(scene(7))
        time.sleep(1.5)
        with pytest.raises(SinkError, match="1 events could not be delivered"):
            sink.close()
    assert 3 <= len(heard) <= 15
    assert all(words.count(b"online") == 1 for words in heard[1:-1])
    assert all(words.count(b'"index":7') <= 1 for words in heard)


def _accept_and_hang_up(server: socket.socket, heard: list[bytes]) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            connection.settimeout(0.05)
            connection.recv(4096)
            connection.sendall(b"\x20\x02\x00\x00")  # accepted
            words = b""
            with contextlib.suppress(TimeoutError):
                while data := connection.recv(4096):
                    words += data
            connection.close()
            heard.append(words)


def test_what_cannot_be_an_address_or_a_name_is_refused() -> None:
    with pytest.raises(InputError, match="MQTT address"):
        Mqtt("http://broker", "cam")
    with pytest.raises(InputError, match="level of a topic"):
        Mqtt("mqtt://broker", "/")


# TLS


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure_broker(authority: trustme.CA, tmp_path: Path) -> Iterator[TestBroker]:
    certificate = tmp_path / "broker.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    running = TestBroker(tmp_path, certificate=certificate)
    yield running
    running.stop()


def test_tls_with_an_authority_of_ones_own(
    secure_broker: TestBroker, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    with Mqtt(secure_broker.url(scheme="mqtts"), "cam", flush_seconds=PATIENCE) as sink:
        for index in range(50):
            sink.write_event(scene(index))
    assert secure_broker.received_at("test/cam/scene") == scenes(*range(50))


def test_a_certificate_that_is_not_trusted_is_an_error(secure_broker: TestBroker) -> None:
    with pytest.raises(SinkError, match="its certificate is not trusted") as caught:
        Mqtt(secure_broker.url(scheme="mqtts"), "cam")
    assert "SSL_CERT_FILE" in caught.value.hint
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


def test_the_two_kinds_of_ports_are_told_apart(secure_broker: TestBroker, broker: TestBroker) -> None:  # noqa: F811
    with pytest.raises(SinkError) as caught:
        Mqtt(secure_broker.url(scheme="mqtt"), "cam")
    assert "mqtts://" in caught.value.hint
    with pytest.raises(SinkError) as caught:
        Mqtt(broker.url(scheme="mqtts"), "cam")
    assert "TLS" in caught.value.hint


# The end


def test_nothing_is_left_behind(broker: TestBroker) -> None:  # noqa: F811
    Mqtt(broker.url(), "cam").close()
    threads, descriptors = threading.active_count(), open_files()
    for _ in range(5):
        Mqtt(broker.url(), "cam").close()
        with pytest.raises(SinkError):
            Mqtt(broker.url(user="robot:wrong"), "cam")
    until(lambda: threading.active_count() <= threads)
    until(lambda: open_files() <= descriptors)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_after_closing_nothing_is_taken(broker: TestBroker) -> None:  # noqa: F811
    sink = Mqtt(broker.url(), "cam")
    sink.close()
    with pytest.raises(ClosedError, match=f"mqtt://127.0.0.1:{broker.port}/test is closed"):
        sink.write_event(scene(0))


class Proxy:
    """Between sink and broker: it can stop to forward what the sink says, stop to read it, or cut the connection."""

    def __init__(self, port: int) -> None:
        self.forwarding = self.reading = True
        self.swallowed = 0
        self._to = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self) -> str:
        return f"mqtt://{IN_URL}@127.0.0.1:{self._server.getsockname()[1]}/test"

    def cut(self) -> None:
        for connection in self._connections.copy():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                try:
                    broker_end = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    client.close()
                    continue
                self._connections += [client, broker_end]
                for ends in ((client, broker_end), (broker_end, client)):
                    threading.Thread(target=self._forward, args=(*ends, ends[0] is client), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                if upwards and not self.forwarding:
                    self.swallowed += len(data)
                    continue
                sink.sendall(data)
                while upwards and not self.reading:
                    time.sleep(0.01)
        self.cut_one(source, sink)

    def cut_one(self, *ends: socket.socket) -> None:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
