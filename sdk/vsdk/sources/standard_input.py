"""Standard input as a source."""

from __future__ import annotations

import io

from ..errors import SourceNotFoundError
from .base import Source
from .live_settings import LiveSettings
from .piped_live import open_live_pipe
from .piped_video import PipedVideo
from .raw_video import RawFormat, RawVideo

NAME = "standard input"
_PIPE_INTO_IT = "Pipe a video into it, for instance: cat clip.ts | vsdk run -"


def open_standard_input(
    raw: RawFormat | str | None = None, *, threads: int | None = None, live: LiveSettings | None = None
) -> Source:
    """The video that comes in on standard input: every frame of it, unless there are settings of live sources.

    Its descriptor is read, so that what other code has read into the buffer of `sys.stdin` is not seen.

    Args:
        raw: What raw frames look like; None takes it for a container.
        threads: Most threads of the decoder, where it is not live.
        live: Take it for a live source, see `open_live_pipe`.

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
    described = RawFormat.parse(raw) if isinstance(raw, str) else raw
    if live is not None:
        return open_live_pipe(file, NAME, live, described)
    return PipedVideo(file, name=NAME, threads=threads) if described is None else RawVideo(file, described, name=NAME)
