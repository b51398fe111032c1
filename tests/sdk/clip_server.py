"""A camera for tests that plays a clip again and again at its own pace, as MPEG-TS over TCP, and dies on command.

Nothing is encoded: packets go from the file to the connection as they are, so several of them cost next to nothing.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av


class ClipServer:
    """Serves whoever connects, each from the beginning of the clip; all on 127.0.0.1.

    Args:
        clip: An H.264 file whose frames come at even distances.
        port: 0 is any free one.
    """

    def __init__(self, clip: Path, port: int = 0) -> None:
        self._clip = clip
        self._connections: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self.port = port
        self.revive()

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def revive(self) -> None:
        """Listen (again), on the same port."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def die(self) -> None:
        """Cut all connections, and refuse new ones."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self._listener.close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def __enter__(self) -> ClipServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.die()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            for data in played(self._clip):
                connection.sendall(data)


def played(clip: Path) -> Iterator[bytes]:
    """The clip as MPEG-TS, over and over, each packet when it is due."""
    buffer = io.BytesIO()
    started = time.monotonic()
    offset = Fraction(0)
    with av.open(buffer, "w", format="mpegts", options={"flush_packets": "1"}) as output:
        stream: Any = None
        while True:
            with av.open(str(clip)) as container:
                video = container.streams.video[0]
                assert video.time_base is not None
                assert video.average_rate is not None
                stream = stream or output.add_stream_from_template(video)
                end = offset
                for packet in container.demux(video):
                    if packet.dts is None or packet.pts is None:
                        continue
                    end = max(end, offset + (packet.pts * video.time_base) + 1 / video.average_rate)
                    shift = round(offset / video.time_base)
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    due = started + float(packet.dts * video.time_base)
                    time.sleep(max(0.0, due - time.monotonic()))
                    output.mux(packet)
                    yield buffer.getvalue()
                    buffer.seek(0)
                    buffer.truncate()
            offset = end
