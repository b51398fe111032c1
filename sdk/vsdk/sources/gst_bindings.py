"""GStreamer's Python bindings, which come from the distribution and not from PyPI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import SourceUnsupportedError

_INSTALL = (
    "On Debian, Ubuntu and JetPack: sudo apt install python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base "
    "gstreamer1.0-plugins-good. They belong to the system's Python; a virtual environment sees them when it was made "
    "with --system-site-packages."
)


@dataclass(frozen=True)
class GstBindings:
    """The modules of `gi.repository` that are used; they have no types.

    Attributes:
        gst: `Gst`, initialised.
        video: `GstVideo`.
        glib: `GLib`.
    """

    gst: Any
    video: Any
    glib: Any


def load_bindings() -> GstBindings:
    """Import and initialise GStreamer.

    Raises:
        SourceUnsupportedError: It, or its Python bindings, are not installed; the hint says how they are.
    """
    try:
        import gi

        for module in ("Gst", "GstApp", "GstVideo"):
            gi.require_version(module, "1.0")
        from gi.repository import GLib, Gst, GstApp, GstVideo
    except (ImportError, ValueError) as error:
        raise SourceUnsupportedError("GStreamer's Python bindings are not installed", hint=_INSTALL) from error
    _ = GstApp  # gives appsink its methods
    if not Gst.is_initialized() and not Gst.init_check(None)[0]:
        raise SourceUnsupportedError("GStreamer does not start", hint="Does gst-inspect-1.0 work?")
    return GstBindings(Gst, GstVideo, GLib)
