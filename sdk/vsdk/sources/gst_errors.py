"""Errors of GStreamer become errors of vsdk, and lose what they repeat of the pipeline's text."""

from __future__ import annotations

import re
from typing import Any

from ..errors import (
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    SourceUnreadableError,
    SourceUnsupportedError,
)
from .credentials import redacted
from .gst_pipeline import GstPipeline

TRY_IT = "Try it with: gst-launch-1.0 -v PIPELINE ! fakesink"
MORE_ELEMENTS = (
    "gst-inspect-1.0 lists those that there are; more come with gstreamer1.0-plugins-good, -bad, -ugly and "
    "gstreamer1.0-libav."
)

_UNKNOWN_PROPERTY = re.compile(r'no property "([A-Za-z0-9_-]+)" in element "([A-Za-z0-9_-]+)"')
_PARSING = {
    0: "it is not written as gst-launch-1.0 takes it",
    1: "an element is not installed",
    2: "an element does not have a property that is set",
    3: "two elements cannot be linked",
    4: "a property cannot be set to what is written",
    5: "a bin is empty",
    6: "it is empty",
    7: "a link that comes later cannot be made",
}
"""GstParseError."""

_MEANINGS: dict[tuple[str, int], tuple[type[SourceError], str]] = {
    ("core", 7): (SourceUnsupportedError, "Its elements do not agree on a format; put videoconvert or a decoder in."),
    ("core", 12): (SourceUnsupportedError, MORE_ELEMENTS),
    ("resource", 3): (SourceNotFoundError, "Check the name; is the camera connected?"),
    ("resource", 4): (SourceError, "Another program uses it."),
    ("resource", 5): (SourceError, "Is the sender running and reachable? Check the permissions."),
    ("resource", 7): (SourceError, "Is the sender running and reachable? Check the permissions."),
    ("resource", 9): (SourceError, "Is the sender still running and reachable?"),
    ("resource", 15): (SourceDeniedError, "Check the user name and password."),
    ("stream", 4): (SourceUnsupportedError, MORE_ELEMENTS),
    ("stream", 5): (SourceUnreadableError, TRY_IT),
    ("stream", 6): (SourceUnsupportedError, MORE_ELEMENTS),
}
"""Domain and code of GStreamer's errors; others are a `SourceError`."""


def no_element(pipeline: GstPipeline, element: str) -> SourceUnsupportedError:
    """The error for an element that is not installed."""
    return SourceUnsupportedError(f"{pipeline.name}: GStreamer has no element {element!r}", hint=MORE_ELEMENTS)


def parse_error(pipeline: GstPipeline, error: Any) -> SourceUnsupportedError:
    """The error for a pipeline that GStreamer cannot put together, from its `GLib.Error`."""
    said = _PARSING.get(error.code, "it cannot be put together")
    unknown = _UNKNOWN_PROPERTY.fullmatch(error.message)
    if unknown is not None and pipeline.harmless(error.message):
        said = f"{unknown[2]} has no property {unknown[1]}"
    return SourceUnsupportedError(f"{pipeline.name}: {said}", hint=TRY_IT)


def running_error(pipeline: GstPipeline, error: Any, debug: str | None) -> SourceError:
    """The error for a message of a running pipeline.

    Args:
        pipeline: What runs.
        error: A `GLib.Error`.
        debug: For classification only: it repeats addresses with their passwords.
    """
    domain = str(error.domain).removeprefix("gst-").removesuffix("-error-quark")
    kind, hint = _MEANINGS.get((domain, error.code), (SourceError, TRY_IT))
    if debug is not None and "not-negotiated" in debug:
        kind, hint = _MEANINGS["core", 7]
    said = f"GStreamer says: {redacted(error.message)}"
    if not pipeline.harmless(error.message):
        said = f"GStreamer reports error {error.code} of its kind {domain!r}"
    return kind(f"{pipeline.name}: {said}", hint=hint)
