"""The live page from outside: a client that says exactly what it is told to, and a reader of Server-Sent Events."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from vsdk.events import Scene, SceneFeatures
from vsdk.frame import Frame, Image
from vsdk.loading import load
from vsdk.serving.server import LivePage

PATIENCE = 60.0
"""Seconds to wait for what must come: only a failing test waits so long."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    page: LivePage, path: str, method: str = "GET", body: bytes | Iterator[bytes] | None = None, **headers: str
) -> Answer:
    """One request; underscores in the names of headers stand for hyphens."""
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=PATIENCE)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named, encode_chunked="Transfer-Encoding" in named)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


@dataclass(frozen=True)
class Said:
    """One Server-Sent Event."""

    id: str
    kind: str
    content: Any


class Listener:
    """Reads Server-Sent Events, one when it is asked to.

    Args:
        page: Where.
        seen: Id of the last event that is known.
        narrow: Whether the connection holds as little as it can.
        headers: More of the request.
    """

    def __init__(self, page: LivePage, seen: str = "", *, narrow: bool = False, **headers: str) -> None:
        self.connection = socket.socket()
        if narrow:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.connection.settimeout(PATIENCE)
        self.connection.connect(("127.0.0.1", page.port))
        lines = ["GET /api/events HTTP/1.1", f"Host: 127.0.0.1:{page.port}"]
        lines += [f"Last-Event-ID: {seen}"] * bool(seen)
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.connection.sendall("\r\n".join([*lines, "", ""]).encode())
        self._answer = http.client.HTTPResponse(self.connection)
        self._answer.begin()
        self.status = self._answer.status

    def next(self) -> Said:
        """The next event that is no pulse."""
        while True:
            fields: dict[str, str] = {}
            while line := self._answer.readline().decode().rstrip("\n"):
                name, _, value = line.partition(": ")
                fields[name] = value
            assert fields, "the stream of events has ended"
            if fields.get("event") not in (None, "pulse"):
                return Said(fields.get("id", ""), fields["event"], json.loads(fields["data"]))

    def until(self, kind: str, **content: Any) -> Said:
        """The next event of a kind that says this."""
        while True:
            said = self.next()
            if said.kind == kind and content.items() <= said.content.items():
                return said

    def close(self) -> None:
        self._answer.close()
        self.connection.close()


def picture(number: int, width: int = 64, height: int = 48) -> Image:
    """A picture unlike those of other numbers."""
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


def frame(number: int, width: int = 64, height: int = 48) -> Frame:
    return Frame(picture(number, width, height), number, Fraction(number, 25), number, Fraction(1, 25), 0)


def scene(index: int) -> Scene:
    """A scene of ten frames, with a feature that no other scene has, as if the bundle that comes along had made it."""
    cls = np.eye(1, 64, index % 64, dtype=np.float32)
    features = SceneFeatures((index * 10,), cls, None, load().digest)
    return Scene(index, index * 10, index * 10 + 9, index * 0.4, index * 0.4 + 0.4, 1.0, features, picture(index))
