"""Whatever PyAV raises, a `SourceError` comes out."""

from __future__ import annotations

import inspect
from typing import Any

import av
import av.error
import pytest

from vsdk.errors import (
    InputError,
    SourceChangedError,
    SourceDeniedError,
    SourceEmptyError,
    SourceError,
    SourceNotFoundError,
    SourceTimeoutError,
    SourceUnreadableError,
    SourceUnsupportedError,
)
from vsdk.sources.pyav_errors import pyav_errors

SECRET = "rtsp://admin:s3cr3t@10.0.0.7/main"

REGISTERED: Any = av.error.classes  # by FFmpeg's number
CLASSES: list[type[Exception]] = sorted(
    {
        item
        for module in (av, av.error)
        for item in vars(module).values()
        if inspect.isclass(item) and issubclass(item, Exception)
    }
    | set(REGISTERED.values()),
    key=lambda item: str(item),
)
BUILT_IN: list[type[Exception]] = [
    *(ValueError, OSError, IndexError, KeyError, EOFError, RuntimeError, NotImplementedError, OverflowError),
    *(MemoryError, UnicodeDecodeError, FileNotFoundError, PermissionError, TimeoutError, ConnectionResetError),
]


def _raise(kind: Any) -> None:
    if issubclass(kind, av.FFmpegError):
        raise kind(5, "what happened", SECRET, (16, "rtsp", f"cannot read {SECRET}"))
    if kind is UnicodeDecodeError:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "what happened")
    raise kind(f"what happened to {SECRET}")


def test_pyav_defines_errors_to_be_mapped() -> None:
    assert len(CLASSES) > 40
    assert {av.FFmpegError, av.error.InvalidDataError, av.error.ExitError, av.error.EOFError} <= set(CLASSES)


@pytest.mark.parametrize("kind", [*CLASSES, *BUILT_IN], ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_error_of_pyav_becomes_a_source_error(kind: type[Exception]) -> None:
    with pytest.raises(SourceError) as caught, pyav_errors("camera 1"):
        _raise(kind)
    error = caught.value
    assert error.message.startswith("camera 1: ")
    assert error.hint
    assert isinstance(error.__cause__, kind)
    assert type(error.__cause__) is kind


@pytest.mark.parametrize("kind", [*CLASSES, *BUILT_IN], ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_neither_the_error_nor_its_cause_shows_a_password(kind: type[Exception]) -> None:
    with pytest.raises(SourceError) as caught, pyav_errors("camera 1"):
        _raise(kind)
    for error in (caught.value, caught.value.__cause__):
        assert "s3cr3t" not in f"{error} {error!r}"
        assert "admin" not in f"{error} {error!r}"


@pytest.mark.parametrize(
    ("kind", "meaning"),
    [
        (av.error.FileNotFoundError, SourceNotFoundError),
        (av.error.HTTPNotFoundError, SourceNotFoundError),
        (av.error.PermissionError, SourceDeniedError),
        (av.error.HTTPUnauthorizedError, SourceDeniedError),
        (av.error.HTTPForbiddenError, SourceDeniedError),
        (av.error.InvalidDataError, SourceUnreadableError),
        (av.error.DecoderNotFoundError, SourceUnsupportedError),
        (av.error.ProtocolNotFoundError, SourceUnsupportedError),
        (av.error.EOFError, SourceEmptyError),
        (av.error.TimeoutError, SourceTimeoutError),
        (av.error.ExitError, SourceTimeoutError),
    ],
)
def test_an_error_keeps_its_meaning(kind: type[Exception], meaning: type[SourceError]) -> None:
    with pytest.raises(SourceError) as caught, pyav_errors("clip.mp4"):
        _raise(kind)
    assert type(caught.value) is meaning


@pytest.mark.parametrize("error", [SourceChangedError("changed"), InputError("an InputError is a ValueError")])
def test_our_own_errors_pass_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, pyav_errors("clip.mp4"):
        raise error
    assert caught.value is error


def test_mistakes_of_ours_stay_bare() -> None:
    with pytest.raises(TypeError, match="mistake"), pyav_errors("clip.mp4"):
        raise TypeError("mistake")
