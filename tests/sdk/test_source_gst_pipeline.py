"""Pipelines of GStreamer as text: what of them is shown, and what is said where GStreamer is not installed.

That frames come out right is tried by `gstreamer_source.py`, on machines that have GStreamer.
"""

from __future__ import annotations

import contextlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsdk.errors import Error, SourceError, SourceUnsupportedError
from vsdk.sources.gst_errors import parse_error, running_error
from vsdk.sources.gst_pipeline import parse_pipeline
from vsdk.sources.opening import open_source

ADDED = " ! videoconvert ! appsink name=vsdk"


@pytest.mark.parametrize(
    ("text", "name", "elements", "ending"),
    [
        ("gst://videotestsrc", "gst://videotestsrc", ("videotestsrc",), ADDED),
        (
            "GST://  v4l2src device=/dev/video0 ! image/jpeg,width=1280 ! jpegdec",
            "gst://v4l2src device=/dev/video0",
            ("v4l2src", "jpegdec"),
            ADDED,
        ),
        (
            "gst://nvarguscamerasrc sensor-id=1 ! nvvidconv ! video/x-raw,format=BGRx ! appsink max-buffers=1",
            "gst://nvarguscamerasrc sensor-id=1",
            ("nvarguscamerasrc", "nvvidconv", "appsink"),
            " name=vsdk",
        ),
        (
            'gst://rtspsrc location="rtsp://admin:s3cr3t@10.0.0.7/main" user-pw=s3cr3t ! rtph264depay',
            "gst://rtspsrc rtsp://***@10.0.0.7/main",
            ("rtspsrc", "rtph264depay"),
            ADDED,
        ),
        (
            "gst://rtspsrc user-pw=s3cr3t location=rtsp://10.0.0.7/main ! queue ! queue",
            None,
            ("rtspsrc", "queue"),
            ADDED,
        ),
        ("gst://rtspsrc location=rtsp://admin:s3c/r3t@10.0.0.7/main", "gst://rtspsrc", ("rtspsrc",), ADDED),
        ("gst://v4l2src device=rtsp://admin:s3cr3t@10.0.0.7", "gst://v4l2src", ("v4l2src",), ADDED),
        ("gst://rtspsrc user-pw=my s3cr3t ! queue", "gst://rtspsrc", ("rtspsrc", "queue"), ADDED),
        ("gst://rtspsrc user-pw='a ! s3cr3t' ! queue", "gst://rtspsrc", ("rtspsrc", "queue"), ADDED),
        (r"gst://rtspsrc user-pw=a\ !\ s3cr3t ! queue", "gst://rtspsrc", ("rtspsrc", "queue"), ADDED),
        ("gst://( videotestsrc ! tee )", "gst://pipeline", ("tee",), ADDED),
    ],
)
def test_what_is_understood_and_shown(text: str, name: str | None, elements: tuple[str, ...], ending: str) -> None:
    pipeline = parse_pipeline(text)
    assert pipeline.name == (name or "gst://rtspsrc rtsp://10.0.0.7/main")
    assert pipeline.elements == elements
    assert pipeline.description == text[6:].strip() + ending
    assert pipeline.sink == "vsdk"
    assert "s3cr3t" not in repr(pipeline)


@pytest.mark.parametrize(
    "text", ["gst://", "gst://   ", "gst://x location='s3cr3t", 'gst://x location="s3cr3t', "gst://\0"]
)
def test_what_is_no_pipeline(text: str) -> None:
    with pytest.raises(SourceError, match="gst://") as caught:
        open_source(text)
    assert "v4l2src" in caught.value.hint
    assert "s3cr3t" not in str(caught.value)


PASSWORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12).map(
    lambda text: f"s3cr3t{text}"
)


@given(password=PASSWORDS, quote=st.sampled_from(['"', "'"]), key=st.sampled_from(["user-pw", "location", "uri", "x"]))
def test_no_password_is_shown(password: str, quote: str, key: str) -> None:
    quoted = quote + password.replace("\\", "\\\\").replace(quote, f"\\{quote}") + quote
    address = f"rtsp://admin:{password}@10.0.0.7/main"
    for text in (
        f"gst://rtspsrc {key}={quoted} ! queue",
        f"gst://rtspsrc {key}={password} ! queue",
        f"gst://rtspsrc location={address} {key}={quoted} ! queue",
        f'gst://rtspsrc location="{address}"',
    ):
        try:
            pipeline = parse_pipeline(text)
        except Error as error:
            assert "s3cr3t" not in str(error)  # noqa: PT017
            continue
        assert "s3cr3t" not in f"{pipeline.name} {pipeline!r}"


@given(st.text(max_size=60))
def test_any_text_is_a_pipeline_or_an_error_of_ours(text: str) -> None:
    with contextlib.suppress(SourceError):
        assert parse_pipeline(f"gst://{text}").name.startswith("gst://")


class SaidByGStreamer(Exception):
    """What of a `GLib.Error` is looked at."""

    def __init__(self, domain: str, code: int, message: str) -> None:
        self.domain, self.code, self.message = domain, code, message


PIPELINE = parse_pipeline("gst://rtspsrc location=rtsp://admin:s3cr3t@10.0.0.7/main user-pw=other-s3cr3t ! queue")


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        (2, 'no property "nosuch" in element "rtspsrc"', "rtspsrc has no property nosuch"),
        (4, 'could not set property "x" in element "rtspsrc" to "other-s3cr3t"', "a property cannot be set"),
        (3, "could not link rtspsrc0 to queue0", "two elements cannot be linked"),
        (99, "s3cr3t", "cannot be put together"),
    ],
)
def test_what_is_said_of_a_pipeline_that_cannot_be_built(code: int, message: str, said: str) -> None:
    error = parse_error(PIPELINE, SaidByGStreamer("gst_parse_error", code, message))
    assert isinstance(error, SourceUnsupportedError)
    assert said in str(error)
    assert "s3cr3t" not in str(error)


@pytest.mark.parametrize(
    ("domain", "code", "message", "debug", "kind", "said"),
    [
        ("resource", 15, "Unauthorized", "at rtsp://admin:s3cr3t@x", "SourceDeniedError", "Unauthorized"),
        ("resource", 3, "Resource not found.", None, "SourceNotFoundError", "Resource not found"),
        ("resource", 7, "Could not open rtsp://admin:s3cr3t@10.0.0.7/main", "", "SourceError", "error 7"),
        ("resource", 7, "Is 'other-s3cr3t' right?", "", "SourceError", "error 7"),
        ("core", 12, "Your GStreamer installation is missing a plug-in.", "", "SourceUnsupportedError", "plug-in"),
        ("stream", 1, "Internal data stream error.", "reason not-negotiated (-4)", "SourceUnsupportedError", "stream"),
        ("library", 1, "s3cr3t rtsp://u:pass@h", "", "SourceError", "error 1"),
    ],
)
def test_what_is_said_of_a_pipeline_that_fails(
    domain: str, code: int, message: str, debug: str | None, kind: str, said: str
) -> None:
    error = running_error(PIPELINE, SaidByGStreamer(f"gst-{domain}-error-quark", code, message), debug)
    assert type(error).__name__ == kind
    assert said in str(error)
    assert "s3cr3t" not in str(error)
    assert str(error).startswith("gst://rtspsrc rtsp://***@10.0.0.7/main: ")
    assert error.hint


def test_without_the_bindings_the_error_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gi", None)
    with pytest.raises(SourceUnsupportedError, match="GStreamer's Python bindings are not installed") as caught:
        open_source("gst://videotestsrc")
    assert "sudo apt install python3-gi" in caught.value.hint
    assert "--system-site-packages" in caught.value.hint
