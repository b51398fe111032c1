"""A camera for tests: a process that serves a paced, numbered video over TCP, HTTP, RTSP and UDP, and fails on command.

    python camera_server.py PICTURES_A_SECOND [udp]

It prints its ports as JSON, then obeys the lines of its standard input and answers each with one line. All connections
show the same number at the same time: it counts ticks of a clock, so that gaps can be seen.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

BITS = 16
USER = "viewer"
PASSWORD = "s3cr3t/p@ss"
RTP_BYTES = 7 * 188


def picture_of(number: int, width: int, height: int) -> np.ndarray[Any, Any]:
    """A picture that shows a number as `BITS` black and white columns, the lowest bit on the left."""
    bits = number >> np.arange(BITS) & 1
    row = np.where(bits[np.arange(width) * BITS // width], 235, 20).astype(np.uint8)
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


class Camera:
    """What is shown, and how it fails now."""

    def __init__(self, fps: float, *, paced: bool = True) -> None:
        self.fps, self._paced = fps, paced
        self.size = (128, 64)
        self.codec = "libx264"
        self.paused = self.silent = self.damaged = self.trickling = False
        self.refuse = ""  # what HTTP and RTSP answer instead of a stream, such as "503 Service Unavailable"
        self.every = 1  # so many ticks for each picture that is sent
        self.shift = 0  # added to every time stamp, in pictures
        self.loss = self.disorder = 0.0  # shares of the UDP packets
        self.connections: set[socket.socket] = set()
        self.accepted = 0
        self._started = time.monotonic()

    def tick(self, number: int) -> int:
        """Wait for the next picture's moment; its number."""
        if not self._paced:
            return number + 1
        number = max(number + 1, int((time.monotonic() - self._started) * self.fps) + 1)
        time.sleep(max(0.0, self._started + number / self.fps - time.monotonic()))
        return number

    def stream(self) -> Iterator[bytes]:
        """MPEG-TS from now on, picture by picture."""
        number = 0
        while True:
            look = size, shift, codec = self.size, self.shift, self.codec
            buffer = io.BytesIO()
            with av.open(buffer, "w", format="mpegts", options={"flush_packets": "1"}) as container:
                stream: Any = container.add_stream(codec, rate=round(self.fps))
                stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
                stream.options = {"g": "10", "threads": "1"}
                if codec == "libx264":
                    stream.options = {"preset": "ultrafast", "tune": "zerolatency", **stream.options}
                while (self.size, self.shift, self.codec) == look:
                    number = self.tick(number)
                    if self.paused or number % self.every:
                        continue
                    frame = av.VideoFrame.from_ndarray(picture_of(number, *size), format="rgb24")
                    frame.pts = number + shift
                    container.mux(stream.encode(frame))
                    data = buffer.getvalue()
                    buffer.seek(0)
                    buffer.truncate()
                    yield _flipped(data, number) if self.damaged else data

    def send(self, connection: socket.socket, data: bytes) -> None:
        """Send everything, or too little to live on."""
        while self.trickling and data:
            connection.sendall(data[:20])
            data = data[20:]
            time.sleep(0.1)
        connection.sendall(data)


def _flipped(data: bytes, seed: int) -> bytes:
    damaged = np.frombuffer(data, np.uint8).copy()
    damaged[np.random.default_rng(seed).integers(0, len(damaged), max(1, len(damaged) // 100))] ^= 1
    return damaged.tobytes()


def serve_tcp(camera: Camera, connection: socket.socket) -> None:
    """MPEG-TS, from the first byte on."""
    for data in camera.stream():
        camera.send(connection, data)


def serve_http(camera: Camera, connection: socket.socket) -> None:
    """`/live`, `/locked` (user and password), `/clip` (a recording), `/mjpeg`; anything else is not found."""
    request = _request(connection)
    path = request.split(" ")[1]
    if camera.refuse:
        connection.sendall(f"HTTP/1.0 {camera.refuse}\r\n\r\n".encode())
    elif path == "/locked" and not _allowed(request):
        connection.sendall(b'HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm="camera"\r\n\r\n')
    elif path in ("/live", "/locked"):
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
        serve_tcp(camera, connection)
    elif path == "/clip":
        clip = b"".join(data for data, _ in zip(Camera(25, paced=False).stream(), range(60), strict=False))
        connection.sendall(f"HTTP/1.0 200 OK\r\nContent-Length: {len(clip)}\r\n\r\n".encode() + clip)
    elif path == "/mjpeg":
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=next\r\n\r\n")
        _serve_mjpeg(camera, connection)
    else:
        connection.sendall(b"HTTP/1.0 404 Not Found\r\n\r\n")


def _serve_mjpeg(camera: Camera, connection: socket.socket) -> None:
    encoder: Any = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = *camera.size, "yuvj420p", Fraction(1, 1000)
    number = 0
    while True:
        number = camera.tick(number)
        frame = av.VideoFrame.from_ndarray(picture_of(number, *camera.size), format="rgb24")
        frame.pts = number
        for packet in encoder.encode(frame):
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {packet.size}\r\n\r\n"
            connection.sendall(head.encode() + bytes(packet) + b"\r\n")


def serve_rtsp(camera: Camera, connection: socket.socket) -> None:
    """`/live` and `/locked` as MPEG-TS in RTP in the connection itself (RFC 2326 and 2250); else not found."""
    description = b"v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:video\r\n"
    while request := _request(connection):
        method, address = request.split(" ")[:2]
        head = f"CSeq: {_header(request, 'cseq')}\r\nSession: 1\r\n"
        if camera.refuse:
            answer = f"RTSP/1.0 {camera.refuse}\r\n{head}\r\n"
        elif "/locked" in address and method != "OPTIONS" and not _allowed(request):
            answer = f'RTSP/1.0 401 Unauthorized\r\n{head}WWW-Authenticate: Basic realm="camera"\r\n\r\n'
        elif "/live" not in address and "/locked" not in address:
            answer = f"RTSP/1.0 404 Not Found\r\n{head}\r\n"
        elif method == "DESCRIBE":
            head += f"Content-Type: application/sdp\r\nContent-Length: {len(description)}\r\n"
            answer = f"RTSP/1.0 200 OK\r\n{head}\r\n{description.decode()}"
        elif method == "SETUP":
            answer = f"RTSP/1.0 200 OK\r\n{head}Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"
        else:
            answer = f"RTSP/1.0 200 OK\r\n{head}Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n"
        connection.sendall(answer.encode())
        if method == "PLAY":
            _play(camera, connection)


def _play(camera: Camera, connection: socket.socket) -> None:
    sequence = 0
    for data in camera.stream():
        stamp = int(time.monotonic() * 90_000) & 0xFFFFFFFF
        for at in range(0, len(data), RTP_BYTES):
            packet = struct.pack(">BBHII", 0x80, 33, sequence & 0xFFFF, stamp, 1) + data[at : at + RTP_BYTES]
            camera.send(connection, b"$\0" + struct.pack(">H", len(packet)) + packet)
            sequence += 1


class Datagrams:
    """MPEG-TS over UDP through a proxy that loses packets and changes their order."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._proxy = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._proxy.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]  # free just now, for whoever listens
        for work in (self._send, self._forward):
            threading.Thread(target=work, daemon=True).start()

    def _send(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for data in self._camera.stream():
                for at in range(0, len(data), RTP_BYTES):
                    sender.sendto(data[at : at + RTP_BYTES], self._proxy.getsockname())

    def _forward(self) -> None:
        chance = np.random.default_rng(0)
        held: bytes | None = None
        while True:
            packet = self._proxy.recv(2048)
            if chance.random() < self._camera.loss:
                continue
            if held is None and chance.random() < self._camera.disorder:
                held = packet  # goes after the next one
                continue
            for out in (packet, held):
                if out is not None:
                    with contextlib.suppress(ConnectionRefusedError):  # nobody listens just now
                        self._proxy.sendto(out, ("127.0.0.1", self.port))
            held = None


def _request(connection: socket.socket) -> str:
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(4096)
        if not received:
            return ""
        data += received
    return data.decode()


def _header(request: str, name: str) -> str:
    found = (line.partition(":") for line in request.splitlines())
    return next((value.strip() for key, _, value in found if key.lower() == name), "")


def _allowed(request: str) -> bool:
    expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return _header(request, "authorization") == f"Basic {expected}"


class Door:
    """A port that can be closed and opened again."""

    def __init__(self, camera: Camera, serve: Callable[[Camera, socket.socket], None]) -> None:
        self._camera, self._serve = camera, serve
        self.port = 0
        self._listener: socket.socket | None = None
        self.open()

    def open(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self.port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._attend, args=(connection,), daemon=True).start()

    def _attend(self, connection: socket.socket) -> None:
        camera = self._camera
        camera.accepted += 1
        camera.connections.add(connection)
        try:
            while camera.silent:
                time.sleep(0.02)
            self._serve(camera, connection)
        except OSError:
            pass
        finally:
            camera.connections.discard(connection)
            connection.close()


def main() -> None:
    camera = Camera(float(sys.argv[1]))
    doors = {"tcp": Door(camera, serve_tcp), "http": Door(camera, serve_http), "rtsp": Door(camera, serve_rtsp)}
    ports = {name: door.port for name, door in doors.items()}
    if "udp" in sys.argv[2:]:
        ports["udp"] = Datagrams(camera).port
    print(json.dumps(ports), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        answer: Any = None
        if name == "set":
            setattr(camera, arguments[0], tuple(arguments[1]) if isinstance(arguments[1], list) else arguments[1])
        elif name == "get":
            answer = getattr(camera, arguments[0])
        elif name in ("open", "close"):
            for door in doors.values():
                getattr(door, name)()
        if name in ("drop", "close"):
            for connection in list(camera.connections):
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    camera.connections.discard(connection)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
