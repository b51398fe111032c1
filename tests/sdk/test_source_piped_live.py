"""Pipes whose sender does not wait: the newest frame, counted drops, and an end when the sender ends."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from live_tools import QUICK, Taken
from video_tools import number_of, numbered, write_numbered

import vsdk
from vsdk.errors import SourceTimeoutError, SourceUnreadableError
from vsdk.sources.live import LiveSource
from vsdk.sources.live_settings import LiveSettings
from vsdk.sources.piped_live import open_live_pipe
from vsdk.sources.raw_video import RawFormat, RawVideo

RAW = RawFormat.parse("96x64:rgb24@25")
EVERY = LiveSettings(connect_timeout=10, read_timeout=10, policy="every")
Ends = tuple[BinaryIO, Any]


@pytest.fixture
def pipe() -> Iterator[Ends]:
    reading, writing = os.pipe()
    with open(reading, "rb") as file, open(writing, "wb", buffering=0) as sender:  # noqa: PTH123
        yield file, sender


def waiting(source: LiveSource, number: int) -> None:
    """Wait until so many frames have come, taken or not."""
    deadline = time.monotonic() + 30
    while source.dropped < number and time.monotonic() < deadline:
        time.sleep(0.01)


def test_the_newest_frame_counts(pipe: Ends) -> None:
    file, sender = pipe
    source = open_live_pipe(file, "my pipe", QUICK, RAW)
    with source:
        taken = Taken(source)
        sender.write(numbered(0).tobytes())
        assert number_of(taken.frame().image) == 0
        for number in range(1, 6):
            sender.write(numbered(number).tobytes())
        waiting(source, 4)
        frame = taken.frame()
        assert (frame.number, number_of(frame.image), source.dropped) == (5, 5, 4)
        assert frame.pts is None
        sender.close()
        ended = taken.state("ended")
        assert ended.message == "the sender ended the stream"
        assert source.read() is None


def test_every_frame_where_it_is_asked_for(pipe: Ends, tmp_path: Path) -> None:
    file, sender = pipe
    data = write_numbered(tmp_path / "clip.ts", 30).read_bytes()

    def send() -> None:
        with sender:
            sender.write(data)

    threading.Thread(target=send).start()
    with open_live_pipe(file, "my pipe", EVERY) as source:
        assert [number_of(frame.image) for frame in source] == list(range(30))
        assert source.dropped == source.reconnects == 0


def test_a_sender_that_stalls_is_not_waited_for_again(pipe: Ends) -> None:
    file, sender = pipe
    source = open_live_pipe(file, "my pipe", QUICK, RAW)
    with source:
        taken = Taken(source)
        sender.write(numbered(0).tobytes() + b"and no more")
        taken.frame()
        taken.state("ended")
        assert [state.state for state in taken.states] == ["connecting", "live", "stalled", "ended"]
        said = f"my pipe: nothing came for {QUICK.read_timeout:g} s, after 18443 bytes"
        with pytest.raises(SourceTimeoutError, match=re.escape(said)):
            source.read()


@pytest.mark.parametrize(
    ("data", "raw", "said"),
    [(b"hello", None, "1280x720:bgr24@30"), (bytes(18432 + 7), RAW, "frame 1 has 7 bytes, but 96x64 rgb24 has 18432")],
)
def test_what_cannot_be_read(pipe: Ends, data: bytes, raw: RawFormat | None, said: str) -> None:
    file, sender = pipe
    sender.write(data)
    sender.close()
    with open_live_pipe(file, "my pipe", EVERY, raw) as source, pytest.raises(SourceUnreadableError, match=said):
        list(source)


def test_a_stream_that_waits_for_a_pipe_closes_at_once(pipe: Ends) -> None:
    """And its thread is gone: it would take bytes that are meant for somebody else."""
    file, sender = pipe
    sender.write(numbered(0).tobytes())
    source = RawVideo(file, RAW, name="my pipe", timeout=60)
    with vsdk.Stream(None, source) as stream:
        assert next(iter(stream)).type == "start"
        started = time.monotonic()
        stream.close()
        assert time.monotonic() - started < 20  # a second, on a machine that has nothing else to do
    deadline = time.monotonic() + 20
    while any(thread.name == "vsdk-reader" for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(thread.name == "vsdk-reader" for thread in threading.enumerate())
    sender.write(b"for somebody else")
    assert file.read(8) == b"for some"
