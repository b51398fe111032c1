"""Bytes from pipes, sockets and memory: as soon as they are there, and never waited for without end."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from vsdk.errors import ClosedError, InputError, SourceError, SourceTimeoutError
from vsdk.sources.byte_stream import ByteStream

Ends = tuple[BinaryIO, BinaryIO]


def _unbuffered_pipe() -> Ends:
    reading, writing = os.pipe()
    return open(reading, "rb", buffering=0), open(writing, "wb", buffering=0)  # noqa: PTH123


def _buffered_pipe() -> Ends:
    reading, writing = os.pipe()
    return open(reading, "rb"), open(writing, "wb", buffering=0)  # noqa: PTH123


def _socket() -> Ends:
    one, other = socket.socketpair()
    ends: Any = one.makefile("rb"), other.makefile("wb", buffering=0)
    one.close()
    other.close()
    return ends  # type: ignore[no-any-return]


@pytest.fixture(params=[_unbuffered_pipe, _buffered_pipe, _socket], ids=lambda make: make.__name__.strip("_"))
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    make: Callable[[], Ends] = request.param
    reading, writing = make()
    yield reading, writing
    writing.close()
    reading.close()


def test_gives_what_has_come_without_waiting_for_more(ends: Ends) -> None:
    reading, writing = ends
    stream = ByteStream(reading, "pipe", timeout=60)
    writing.write(b"abcdef")
    started = time.monotonic()
    assert stream.read(4) == b"abcd"
    assert stream.read(100) == b"ef"
    assert time.monotonic() - started < 300
    writing.write(b"ghi")
    writing.close()
    assert stream.read_whole(2) == b"gh"
    assert stream.read_whole(100) == b"i"
    assert stream.read(1) == b""
    assert stream.read_whole(1) == b""
    assert stream.taken == 9


def test_nothing_that_a_buffer_holds_is_lost(ends: Ends) -> None:
    reading, writing = ends
    writing.write(b"header|body")
    assert reading.read(7) == b"header|"  # by whoever had the file before
    stream = ByteStream(reading, "pipe", timeout=60)
    writing.write(b" and more")
    writing.close()
    assert stream.read_whole(100) == b"body and more"


def test_waits_no_longer_than_the_time_out(ends: Ends) -> None:
    reading, writing = ends
    writing.write(b"abc")
    stream = ByteStream(reading, "camera pipe", timeout=0.3)
    assert stream.read(3) == b"abc"
    started = time.monotonic()
    with pytest.raises(SourceTimeoutError, match=r"camera pipe: nothing came for 0\.3 s, after 3 bytes"):
        stream.read(3)
    assert 0.3 <= time.monotonic() - started < 30
    writing.write(b"too late")
    with pytest.raises(SourceTimeoutError):
        stream.read(3)


def test_stop_ends_a_wait_in_another_thread(ends: Ends) -> None:
    reading, _ = ends
    stream = ByteStream(reading, "pipe", timeout=60)
    raised: list[Exception] = []

    def read() -> None:
        try:
            stream.read(1)
        except ClosedError as error:
            raised.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.05)
    stream.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert len(raised) == 1


def test_the_descriptor_blocks_as_before_and_stays_open(ends: Ends) -> None:
    reading, writing = ends
    blocking = os.get_blocking(reading.fileno())
    stream = ByteStream(reading, "pipe")
    assert os.get_blocking(reading.fileno()) == blocking
    stream.stop()
    writing.write(b"x")
    assert reading.read(1) == b"x"


def test_the_output_of_a_process() -> None:
    program = (
        "import sys, time; sys.stdout.buffer.write(b'12'); sys.stdout.flush(); time.sleep(0.2); print('3', end='')"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert ByteStream(process.stdout, "process").read_whole(100) == b"123"


def test_files_and_memory_can_go_back(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(b"0123456789")
    with path.open("rb") as buffered, path.open("rb", buffering=0) as raw:
        for file in (buffered, raw, io.BytesIO(b"0123456789")):
            stream = ByteStream(file, "file")
            assert stream.seekable()
            assert stream.read(3) == b"012"
            assert stream.tell() == 3
            assert stream.seek(-2, os.SEEK_END) == 8
            assert stream.read_whole(9) == b"89"
            assert stream.read(1) == b""


class Trickle:
    """The least that a file object may be: parts of its own size, sometimes nothing yet."""

    def __init__(self, *parts: bytes | None) -> None:
        self._parts = list(parts)

    def read(self, size: int) -> bytes | None:
        return self._parts.pop(0) if self._parts else b""


def test_any_object_with_read_will_do() -> None:
    stream = ByteStream(Trickle(b"ab", None, b"c", b"def"), "object")
    assert not stream.seekable()
    assert stream.read_whole(4) == b"abcd"
    assert stream.read_whole(4) == b"ef"


def test_an_object_that_gives_text() -> None:
    with pytest.raises(SourceError, match="'str'"):
        ByteStream(Trickle("text"), "object").read(1)  # type: ignore[arg-type]


def test_an_object_that_never_has_anything_is_given_up() -> None:
    with pytest.raises(SourceTimeoutError):
        ByteStream(Trickle(*[None] * 100), "object", timeout=0.2).read(1)


def test_errors_of_the_file_are_ours_and_stay() -> None:
    class Broken:
        failures = 0

        def read(self, size: int) -> bytes:
            self.failures += 1
            raise OSError(5, "Input/output error on rtsp://admin:s3cr3t@camera/main")

    broken = Broken()
    stream = ByteStream(broken, "object")
    for _ in range(2):
        with pytest.raises(SourceError, match=r"object cannot be read: .*Input/output error") as caught:
            stream.read(1)
        assert "s3cr3t" not in str(caught.value)
    assert broken.failures == 1


@pytest.mark.parametrize("file", [None, b"bytes", "name", io.StringIO("text"), object()])
def test_what_is_no_binary_file(file: Any) -> None:
    with pytest.raises(InputError, match="not a binary file"):
        ByteStream(file, "nothing")


def test_a_closed_file_and_a_time_out_that_cannot_be() -> None:
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(InputError, match="closed"):
        ByteStream(closed, "closed")
    for timeout in (0, -1, float("nan")):
        with pytest.raises(InputError, match="time-out"):
            ByteStream(io.BytesIO(), "memory", timeout=timeout)
