"""The test camera from the other side: started, made to fail, and what of it arrives."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from camera_server import BITS, PASSWORD, USER

from vsdk.events import SourceState
from vsdk.frame import Frame, Image
from vsdk.sources.live import LiveSource
from vsdk.sources.live_settings import LiveSettings

QUICK = LiveSettings(
    connect_timeout=3.0, read_timeout=1.5, stall_after=0.5, first_delay=0.1, longest_delay=0.5, reconnect_for=60.0
)
"""Time-outs for servers that fail on purpose. A loaded machine can exceed them: there may be more faults than made."""

STEADY = LiveSettings(connect_timeout=30.0, read_timeout=30.0, stall_after=30.0, first_delay=0.1, longest_delay=0.5)
"""Time-outs for servers that do not fail."""

PATIENCE = 60.0
"""Seconds to wait for what must come: only a failing test waits so long."""


class TestCamera:
    """A `camera_server.py` in a process of its own."""

    __test__ = False

    def __init__(self, fps: float = 25, *, udp: bool = False) -> None:
        command = [
            sys.executable,
            str(Path(__file__).with_name("camera_server.py")),
            str(fps),
            *(["udp"] if udp else []),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ports: dict[str, int] = self._answer()

    def url(self, scheme: str, path: str = "/live", *, credentials: bool = False, password: str = PASSWORD) -> str:
        user = f"{USER}:{quote(password, safe='')}@" if credentials else ""
        return f"{scheme}://{user}127.0.0.1:{self.ports[scheme]}{'' if scheme in ('tcp', 'udp') else path}"

    def set(self, name: str, value: Any) -> None:
        """Change an attribute of `camera_server.Camera`."""
        self._say("set", name, value)

    def get(self, name: str) -> Any:
        return self._say("get", name)

    def drop(self) -> None:
        """Cut every connection."""
        self._say("drop")

    def die(self) -> None:
        """Cut every connection and listen no more."""
        self._say("close")

    def revive(self) -> None:
        self._say("open")

    def recover(self) -> None:
        """Everything as it was at first."""
        self._say("open")
        for name in ("paused", "silent", "damaged", "trickling"):
            self.set(name, False)
        usual = {
            "size": [128, 64],
            "codec": "libx264",
            "every": 1,
            "shift": 0,
            "refuse": "",
            "loss": 0.0,
            "disorder": 0.0,
        }
        for name, value in usual.items():
            self.set(name, value)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()

    def _say(self, *command: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def serve_file(path: Path, *, http: bool) -> int:
    """Send a file to whoever connects first, as it is or as a recording over HTTP; the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as connection, suppress(OSError):
            data = path.read_bytes()
            if http:
                connection.recv(4096)
                connection.sendall(f"HTTP/1.0 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode())
            connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


@contextmanager
def running_camera(fps: float = 25, *, udp: bool = False) -> Iterator[TestCamera]:
    camera = TestCamera(fps, udp=udp)
    try:
        yield camera
    finally:
        camera.close()


def shown_number(image: Image) -> int:
    """The number that a picture of the test camera shows.

    Raises:
        AssertionError: It is not a picture of the test camera: somebody made it up.
    """
    width = image.shape[1]
    row = image[image.shape[0] // 2].mean(axis=1)
    values = row[(2 * np.arange(BITS) + 1) * width // (2 * BITS)]
    assert np.all((values < 70) | (values > 185)), f"not a picture of the camera: {values.round()}"
    return int(((values > 128).astype(int) << np.arange(BITS)).sum())


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens in another thread or process."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


class Taken:
    """What comes out of a live source, in order.

    Attributes:
        items: Frames and states.
    """

    def __init__(self, source: LiveSource) -> None:
        self.source = source
        self.items: list[Frame | SourceState] = []

    @property
    def frames(self) -> list[Frame]:
        return [item for item in self.items if isinstance(item, Frame)]

    @property
    def states(self) -> list[SourceState]:
        return [item for item in self.items if isinstance(item, SourceState)]

    def until(self, condition: Callable[[Frame | SourceState], bool]) -> Frame | SourceState:
        """Take until something fulfils the condition."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            item = self.source.take(0.1)
            if item is not None:
                self.items.append(item)
                if condition(item):
                    return item
            assert not (item is None and self.source.over), f"over; states: {self.states}"
        raise AssertionError(f"it did not come; states: {self.states}")

    def state(self, name: str) -> SourceState:
        """Take until the source is in a state."""
        found = self.until(lambda item: isinstance(item, SourceState) and item.state == name)
        assert isinstance(found, SourceState)
        return found

    def frame(self, count: int = 1) -> Frame:
        """Take so many more frames; the last of them."""
        wanted = len(self.frames) + count
        found = self.until(lambda item: len(self.frames) >= wanted)
        assert isinstance(found, Frame)
        return found
