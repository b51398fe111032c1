"""Cameras to measure with: a process that sends a clip to whoever connects, over and over, each picture when it is due.

    python -m vsdk.bench.cameras CLIP PICTURES_A_SECOND

It prints its port, serves until its standard input is closed, and then prints the processor seconds that it took.
Nothing is encoded while it runs: packets go from the file to the connection as they are.
"""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

_END_SECONDS = 10.0


class Cameras:
    """The process, from outside.

    Attributes:
        url: Of as many cameras as connections are made.
        seconds: Processor seconds that it took; known when it has ended.
    """

    def __init__(self, clip: Path, rate: float) -> None:
        self.seconds = 0.0
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(clip), str(rate)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = f"tcp://127.0.0.1:{int(self._process.stdout.readline())}"

    def close(self) -> None:
        """End the process."""
        try:
            said, _ = self._process.communicate(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            said, _ = self._process.communicate()
        self.seconds = float(said) if said.strip() else 0.0


@contextmanager
def running_cameras(clip: Path, rate: float) -> Iterator[Cameras]:
    """Cameras that send `rate` pictures a second, while the block runs."""
    cameras = Cameras(clip, rate)
    try:
        yield cameras
    finally:
        cameras.close()


def paced(clip: Path, rate: float) -> Iterator[bytes]:
    """The clip as MPEG-TS without end, a picture at a time."""
    buffer = io.BytesIO()
    interval = Fraction(1) / Fraction(rate)
    started = time.monotonic()
    number = 0
    with av.open(buffer, "w", format="mpegts", options={"flush_packets": "1"}) as output:
        stream: Any = None
        while True:
            with av.open(str(clip)) as container:
                video = container.streams.video[0]
                stream = stream or output.add_stream_from_template(video)
                for packet in container.demux(video):
                    if packet.size == 0:
                        continue
                    # The clip has no pictures that are sent before they are shown, so numbers are times.
                    packet.pts = packet.dts = number
                    packet.time_base, packet.stream = interval, stream
                    time.sleep(max(0.0, started + float(number * interval) - time.monotonic()))
                    output.mux(packet)
                    yield buffer.getvalue()
                    buffer.seek(0)
                    buffer.truncate()
                    number += 1


def _serve(connection: socket.socket, clip: Path, rate: float) -> None:
    with connection, suppress(OSError):
        for data in paced(clip, rate):
            connection.sendall(data)


def _accept(listener: socket.socket, clip: Path, rate: float) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection, clip, rate), daemon=True).start()


def _main() -> None:
    clip, rate = Path(sys.argv[1]), float(sys.argv[2])
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, clip, rate), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()
    print(time.process_time(), flush=True)


if __name__ == "__main__":
    _main()
