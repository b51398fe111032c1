"""Pipes whose sender does not wait: the newest frame counts, as with a camera."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from ..errors import SourceEmptyError, SourceUnreadableError
from ..frame import Image
from .byte_stream import ByteFile, ByteStream
from .connection import Connection, Picture
from .container_connection import ContainerConnection
from .container_video import open_container
from .live import LiveSource
from .live_settings import LiveSettings
from .network import PROBING
from .piped_video import FFmpegInput
from .pixels import rgb_from
from .raw_video import RawFormat, cut_short
from .rgb import RgbConverter


def open_live_pipe(file: ByteFile, name: str, settings: LiveSettings, raw: RawFormat | None = None) -> LiveSource:
    """A pipe as a live source: it is read as fast as its sender writes, and ends when that does.

    Args:
        file: See `ByteStream`.
        name: For people; without credentials.
        settings: `connect_timeout` is for the first bytes. A pipe is never opened a second time.
        raw: What raw frames look like; None takes it for a container.

    Raises:
        InputError: `file` is no binary file.
    """
    stream = ByteStream(file, name, timeout=settings.connect_timeout)

    def connect() -> Connection:
        connection = _container(stream, settings) if raw is None else RawConnection(stream, raw)
        stream.timeout = settings.read_timeout
        return connection

    return LiveSource(name, connect, replace(settings, reconnect_for=0.0))


def _container(stream: ByteStream, settings: LiveSettings) -> ContainerConnection:
    file = FFmpegInput(stream)
    try:
        return ContainerConnection(
            stream.name,
            lambda: open_container(file, stream.name, PROBING),
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            hint="Is the program that writes still running?",
        )
    except (SourceEmptyError, SourceUnreadableError) as error:
        raise file.explained(error) from error


class RawConnection(Connection):
    """Raw frames as they come. They carry no time stamps, and a rate that somebody states is none.

    Args:
        stream: What they are read from.
        raw: What they look like.
    """

    def __init__(self, stream: ByteStream, raw: RawFormat) -> None:
        self._stream, self._layout = stream, raw.layout
        self._converter = RgbConverter()
        self._count = 0
        self.frame_rate = raw.frame_rate

    def receive(self) -> Sequence[Picture] | None:
        """See `Connection.receive`."""
        layout = self._layout
        data = self._stream.read_whole(layout.size)
        if not data:
            return None
        if len(data) < layout.size:
            raise cut_short(self._stream.name, self._count, len(data), layout)
        self._count += 1

        def convert() -> Image:
            return rgb_from(data, layout, self._converter)

        now = time.monotonic_ns()
        return [Picture(layout.width, layout.height, None, Fraction(1, 1_000_000_000), now, convert, len(data))]

    def close(self) -> None:
        """See `Connection.close`."""
