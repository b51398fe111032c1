"""Pictures from a GStreamer pipeline: CSI cameras, hardware decoders, and whatever else has an element."""

from __future__ import annotations

import time
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from ..errors import InputError, SourceTimeoutError, SourceUnreadableError, SourceUnsupportedError
from ..frame import Image
from .connection import Connection, Picture
from .gst_bindings import load_bindings
from .gst_errors import TRY_IT, no_element, parse_error, running_error
from .gst_pipeline import GstPipeline, parse_pipeline
from .live import LiveSource
from .live_settings import LiveSettings
from .pixels import PixelLayout, rgb_from
from .rgb import RgbConverter

FORMATS = {
    "RGB": "rgb24",
    "BGR": "bgr24",
    "NV12": "nv12",
    "I420": "yuv420p",
    "RGBx": "rgba",
    "RGBA": "rgba",
    "BGRx": "bgra",
    "BGRA": "bgra",
    "NV21": "nv21",
    "YUY2": "yuyv422",
    "UYVY": "uyvy422",
    "GRAY8": "gray",
}
"""Pixel formats as GStreamer and as FFmpeg call them, those first that are dear to us."""

ACCEPTED = f"video/x-raw,format=(string){{{','.join(FORMATS)}}}"
"""The caps of the end of a pipeline."""

MATRICES = {1: 0, 2: 4, 3: 1, 4: 6, 5: 7, 6: 9}
"""GstVideoColorMatrix to `MatrixCoefficients` of ISO/IEC 23091-2."""

QUEUED = 4
"""Pictures that wait in GStreamer where none may be dropped; then the pipeline waits."""

_SLICE = 0.1
_NANOSECOND = Fraction(1, 1_000_000_000)


def open_gstreamer(pipeline: GstPipeline | str, settings: LiveSettings | None = None) -> LiveSource:
    """A GStreamer pipeline as a live source.

    `videoconvert` and an `appsink` are added at its end, unless it ends in an `appsink` of its own. Of a live pipeline
    the newest picture is taken (`max-buffers=1 drop=true`, and what GStreamer drops itself is not counted), or every
    one with the policy "every"; a pipeline that is not live, such as one that reads a file, is a recording.

    Args:
        pipeline: What `gst-launch-1.0` takes, also as `gst://PIPELINE`.
        settings: None takes the defaults.

    Raises:
        SourceUnsupportedError: GStreamer's Python bindings, or an element of the pipeline, are not installed.
        SourceError: There is no pipeline in the text.

    `read` raises `SourceUnsupportedError` for a pipeline that cannot be put together.
    """
    where = parse_pipeline(pipeline) if isinstance(pipeline, str) else pipeline
    how = settings or LiveSettings()
    bindings = load_bindings()
    for element in (*where.elements, "videoconvert", "appsink"):
        if bindings.gst.ElementFactory.find(element) is None:
            raise no_element(where, element)
    return LiveSource(where.name, lambda: GstConnection(where, how), how)


class GstConnection(Connection):
    """A running pipeline.

    Pictures are copied out of GStreamer's buffers at once, of which decoders and drivers have few.

    Args:
        pipeline: What to run.
        settings: For their time-outs and policy.

    Raises:
        SourceError: It does not run, or no picture came in time; the subclass says why.
    """

    def __init__(self, pipeline: GstPipeline, settings: LiveSettings) -> None:
        self._text, self._settings = pipeline, settings
        self._gi = load_bindings()
        self._converter = RgbConverter()
        self._pipeline, self._sink = self._built()
        self._bus = self._pipeline.get_bus()
        try:
            self._start()
            self._first = self._pull(settings.connect_timeout)
        except BaseException:
            self.close()
            raise

    def receive(self) -> Sequence[Picture] | None:
        """See `Connection.receive`."""
        sample, self._first = self._first, None
        if sample is None:
            sample = self._pull(self._settings.read_timeout)
        return None if sample is None else [self._picture(sample)]

    def close(self) -> None:
        """See `Connection.close`."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.set_state(self._gi.gst.State.NULL)
        self._sink = self._bus = self._first = None  # which hold descriptors until they are forgotten

    def _built(self) -> tuple[Any, Any]:
        """The pipeline, and the element from which pictures are taken."""
        gst = self._gi.gst
        try:
            pipeline = gst.parse_launch(self._text.description)
        except self._gi.glib.Error as error:  # as the cause it would repeat properties
            raise parse_error(self._text, error) from None
        return pipeline, pipeline.get_by_name(self._text.sink)

    def _start(self) -> None:
        states, returns = self._gi.gst.State, self._gi.gst.StateChangeReturn
        self._sink.set_property("sync", False)
        self._sink.set_property("max-buffers", QUEUED)
        self._sink.set_property("drop", False)
        if self._sink.get_property("caps") is None:
            self._sink.set_property("caps", self._gi.gst.Caps.from_string(ACCEPTED))
        paused = self._pipeline.set_state(states.PAUSED)
        self.finite = paused != returns.NO_PREROLL  # which says that a pipeline is live
        if not self.finite and self._settings.policy == "latest":
            self._sink.set_property("max-buffers", 1)
            self._sink.set_property("drop", True)
        if paused == returns.FAILURE or self._pipeline.set_state(states.PLAYING) == returns.FAILURE:
            self._raise_failure(_SLICE)
            raise SourceUnreadableError(f"{self._text.name}: the pipeline does not start", hint=TRY_IT)

    def _pull(self, limit: float) -> Any:
        """The next sample; None at the end of the stream."""
        deadline = time.monotonic() + limit
        while True:
            sample = self._sink.try_pull_sample(round(_SLICE * 1e9))
            self._raise_failure(0 if sample is not None else 0.01)
            if sample is not None:
                return sample
            if self._sink.is_eos():
                return None
            if time.monotonic() >= deadline:
                raise SourceTimeoutError(
                    f"{self._text.name}: no picture came within {limit:g} s", hint="Is the sender running? " + TRY_IT
                )

    def _raise_failure(self, seconds: float) -> None:
        """Look at the messages of the pipeline, and throw away what is no error: it would pile up."""
        gst = self._gi.gst
        message = self._bus.timed_pop_filtered(round(seconds * 1e9), gst.MessageType.ERROR)
        if message is not None:
            raise running_error(self._text, *message.parse_error())

    def _picture(self, sample: Any) -> Picture:
        buffer = sample.get_buffer()
        captured_ns = time.monotonic_ns()
        info = self._gi.video.VideoInfo.new_from_caps(sample.get_caps())
        if info is None or info.finfo.name not in FORMATS:
            raise SourceUnsupportedError(
                f"{self._text.name}: its appsink gets no pictures of a known pixel format",
                hint="Leave appsink out, or have it get video/x-raw,format=BGR.",
            )
        self.frame_rate = Fraction(info.fps_n, info.fps_d) if info.fps_n > 0 and info.fps_d > 0 else None
        data: bytes = buffer.extract_dup(0, buffer.get_size())
        layout = self._layout(info, self._gi.video.buffer_get_video_meta(buffer), len(data))
        pts = None if buffer.pts == self._gi.gst.CLOCK_TIME_NONE else buffer.pts

        def convert() -> Image:
            return rgb_from(data, layout, self._converter)

        return Picture(layout.width, layout.height, pts, _NANOSECOND, captured_ns, convert, len(data))

    def _layout(self, info: Any, meta: Any, size: int) -> PixelLayout:
        """Where the samples lie: the caps say it, unless the buffer itself does."""
        planes = info.finfo.n_planes
        place = info if meta is None else meta
        ranges = {1: True, 2: False}  # of GstVideoColorRange
        try:
            layout = PixelLayout(
                FORMATS[info.finfo.name],
                info.width,
                info.height,
                tuple(place.stride[:planes]),
                tuple(place.offset[:planes]),
                MATRICES.get(int(info.colorimetry.matrix), 2),
                ranges.get(int(info.colorimetry.range)),
            )
        except InputError as error:
            raise SourceUnreadableError(f"{self._text.name}: {error.message}", hint=TRY_IT) from error
        if size < layout.size:
            raise SourceUnreadableError(
                f"{self._text.name}: a buffer has {size} bytes, its picture {layout.size}", hint=TRY_IT
            )
        return layout
