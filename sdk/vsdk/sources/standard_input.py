"""Standard input as a source."""

from __future__ import annotations

import io

from ..errors import SourceNotFoundError
from .base import Source
from .byte_stream import READ_SECONDS
from .piped_video import PipedVideo
from .raw_video import RawFormat, RawVideo

NAME = "standard input"
_PIPE_INTO_IT = "Pipe a video into it, for instance: cat clip.ts | vsdk run -"


def open_standard_input(
    raw: RawFormat | str | None = None, *, threads: int | None = None, timeout: float = READ_SECONDS
) -> Source:
    """The video that comes in on standard input.

    Its descriptor is read, so that what other code has read into the buffer of `sys.stdin` is not seen.

    Args:
        raw: What raw frames look like; None takes it for a container.
        threads: Most threads of the decoder.
        timeout: Seconds to wait for the next bytes.

    Raises:
        SourceNotFoundError: It is closed, or a terminal.
        SourceError, InputError: See `PipedVideo` and `RawVideo`.
    """
    try:
        file = io.FileIO(0, "rb", closefd=False)
    except OSError as error:
        raise SourceNotFoundError(f"{NAME} is closed", hint=_PIPE_INTO_IT) from error
    if file.isatty():
        raise SourceNotFoundError(f"{NAME} is a terminal, from which no video comes", hint=_PIPE_INTO_IT)
    if raw is not None:
        return RawVideo(file, raw, name=NAME, timeout=timeout)
    return PipedVideo(file, name=NAME, threads=threads, timeout=timeout)
