"""A real MQTT broker on loopback, which can be stopped and started again, and somebody who listens."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from amqtt.broker import Broker, BrokerContext
from amqtt.plugins.base import BasePlugin
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

USER, PASSWORD = "robot", "p@ss/w:rd#1?"
IN_URL = "robot:p%40ss%2Fw%3Ard%231%3F"
PATIENCE = 60.0
"""Seconds to wait for what must come: only a failing test waits so long."""
PROCESSES = multiprocessing.get_context("forkserver")
"""Starts a broker in no time, because it has imported everything already."""
PROCESSES.set_forkserver_preload(["amqtt.broker", "amqtt.plugins.authentication", "paho.mqtt.client", "pytest"])


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Received(NamedTuple):
    """A message as it arrived at the broker."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class Witness(BasePlugin[BrokerContext]):  # type: ignore[misc]
    """Writes down what arrives at the broker."""

    @dataclass
    class Config:
        file: str

    async def on_broker_message_received(self, *, client_id: str, message: Any) -> None:
        line = json.dumps([message.topic, bytes(message.data).decode(), message.qos, message.retain])
        with Path(self.config.file).open("a") as file:
            file.write(line + "\n")


class TestBroker:
    """amqtt, in a process of its own that is killed to stop it; it knows one user."""

    __test__ = False

    def __init__(self, folder: Path, *, certificate: Path | None = None) -> None:
        self.port = free_port()
        self._passwords, self._witnessed = folder / "passwords", folder / "witnessed"
        self._witnessed.touch()
        self.set_password(PASSWORD)
        listener: dict[str, Any] = {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}
        if certificate is not None:
            listener |= {"ssl": True, "certfile": str(certificate), "keyfile": str(certificate)}
        self._config = {
            "listeners": {"default": listener},
            "plugins": {
                "amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(self._passwords)},
                f"{__name__}.Witness": {"file": str(self._witnessed)},
            },
        }
        self.start()

    def set_password(self, password: str) -> None:
        """Which password is right from the next start on."""
        hasher = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),))
        self._passwords.write_text(f"{USER}:{hasher.hash(password)}\n")

    def received(self) -> list[Received]:
        """What has arrived, by all connections and over all restarts."""
        lines = self._witnessed.read_text().splitlines(keepends=True)
        messages = [json.loads(line) for line in lines if line.endswith("\n")]
        return [Received(topic, payload.encode(), qos, retain) for topic, payload, qos, retain in messages]

    def received_at(self, topic: str) -> list[bytes]:
        """The payloads that have arrived at a topic."""
        return [message.payload for message in self.received() if message.topic == topic]

    def url(self, path: str = "/test", *, user: str = IN_URL, scheme: str = "mqtt") -> str:
        return f"{scheme}://{user}@127.0.0.1:{self.port}{path}"

    def start(self) -> None:
        started = PROCESSES.Event()
        self._process = PROCESSES.Process(target=_run, args=(self._config, started), daemon=True)
        self._process.start()
        assert started.wait(PATIENCE)

    def stop(self) -> None:
        self._process.kill()
        self._process.join(PATIENCE)


def _run(config: dict[str, Any], started: Event) -> None:
    logging.disable()
    asyncio.run(_serve(config, started))


async def _serve(config: dict[str, Any], started: Event) -> None:
    await Broker(config, loop=asyncio.get_running_loop()).start()
    started.set()
    await asyncio.Event().wait()


class Listener:
    """Everything that is published, in order: topic and payload. It stays, whatever becomes of the broker."""

    def __init__(self, broker: TestBroker) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(USER, PASSWORD)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_disconnect = lambda *_: self._subscribed.clear()
        self._client.on_message = lambda _client, _data, message: self.messages.append(
            (message.topic, bytes(message.payload))
        )
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        self.wait()

    def wait(self) -> None:
        """Until it listens (again)."""
        assert self._subscribed.wait(PATIENCE)

    def at(self, topic: str) -> list[bytes]:
        return [payload for at, payload in self.messages.copy() if at == topic]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestBroker]:
    running = TestBroker(tmp_path_factory.mktemp("broker"))
    yield running
    running.stop()


@pytest.fixture
def listener(broker: TestBroker) -> Iterator[Listener]:
    listening = Listener(broker)
    yield listening
    listening.close()
