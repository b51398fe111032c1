"""Errors of PyAV and FFmpeg become errors of vsdk.

PyAV raises its own classes, most of them also a built-in one (`av.InvalidDataError` is a `ValueError`), and plain
built-in errors from its Python side. Their text repeats the address that was opened, with its password.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
import av.error

from ..errors import (
    Error,
    SourceDeniedError,
    SourceEmptyError,
    SourceError,
    SourceNotFoundError,
    SourceTimeoutError,
    SourceUnreadableError,
    SourceUnsupportedError,
)
from .credentials import redacted

_RAISED_BY_PYAV = (
    av.FFmpegError,
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    ValueError,
)
"""What PyAV's calls may raise; anything else (TypeError, AttributeError) would be a mistake of ours and stays bare."""

_MEANINGS: tuple[tuple[tuple[type[Exception], ...], type[SourceError], str], ...] = (
    (
        (FileNotFoundError, NotADirectoryError, av.error.HTTPNotFoundError),
        SourceNotFoundError,
        "Check the name; is the drive or the camera connected?",
    ),
    (
        (PermissionError, av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError),
        SourceDeniedError,
        "Check the permissions, or the user name and password.",
    ),
    ((IsADirectoryError,), SourceUnreadableError, "It is a folder; for a folder of pictures use ImageFolder."),
    ((TimeoutError, av.error.ExitError), SourceTimeoutError, "Is the sender running and reachable?"),
    ((EOFError,), SourceEmptyError, "The file is cut short, or nothing was recorded into it."),
    (
        (ConnectionError, av.error.HTTPError, av.error.HTTPClientError),
        SourceError,
        "Is the sender running and reachable?",
    ),
    (
        (MemoryError,),
        SourceError,
        "The machine's memory is exhausted, or damaged data asked for an absurd picture size.",
    ),
    (
        (av.error.LookupError,),
        SourceUnsupportedError,
        "This build of PyAV lacks the decoder, container or protocol; convert the file, for instance to H.264 in MP4.",
    ),
    (
        (av.FFmpegError, *_RAISED_BY_PYAV),
        SourceUnreadableError,
        "It may be damaged, cut short, or not a video; try to play it with another program.",
    ),
)
"""The first line that fits an exception says what it becomes, and the hint."""


@contextmanager
def pyav_errors(name: str) -> Iterator[None]:
    """Turn what PyAV raises inside the block into a `SourceError`, with the original as its cause.

    Args:
        name: What is being read, without credentials.
    """
    try:
        yield
    except Error:  # ours already; some of them are built-in errors too
        raise
    except _RAISED_BY_PYAV as error:
        raise source_error(name, error) from error


def source_error(name: str, error: Exception) -> SourceError:
    """The vsdk error for an exception of PyAV, which loses the credentials in its own text as well.

    Args:
        name: What was being read, without credentials.
        error: The exception; its `args` are redacted in place, because it is shown as the cause.
    """
    error.args = _scrubbed(error.args)
    reason = redacted(getattr(error, "strerror", None) or str(error) or type(error).__name__)
    for kinds, meaning, hint in _MEANINGS:
        if isinstance(error, kinds):
            return meaning(f"{name}: {reason}", hint=hint)
    raise TypeError(f"{type(error).__name__} is not an error that PyAV raises") from error


def _scrubbed(value: Any) -> Any:
    """The same without credentials, also in the tuples inside (FFmpeg's last log line is one)."""
    if isinstance(value, tuple):
        return tuple(_scrubbed(item) for item in value)
    return redacted(value) if isinstance(value, str) else value
