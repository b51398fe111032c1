"""GStreamer owns the loop: an appsink's callback pushes each picture while its memory is mapped.

    python examples/gstreamer_appsink.py 'videotestsrc num-buffers=250 ! video/x-raw,width=640,height=360'
    python examples/gstreamer_appsink.py 'v4l2src ! queue leaky=downstream max-size-buffers=1'

The callback runs in a thread of GStreamer, which waits for it. Behind a camera, a leaky queue as above keeps the newest
picture and drops what there is no time for.

The bindings come from the distribution, see docs/sources.md. With the package `python3-gst-1.0`, the pixels that the
callback sees are GStreamer's own memory; without it, PyGObject gives a copy. (vsdk opens pipelines by itself, too:
`vsdk run 'gst://PIPELINE'`. This is for programs that have a pipeline of their own.)
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

import vsdk
from vsdk.errors import SourceUnreadableError
from vsdk.frame import Image
from vsdk.sources.gst_bindings import GstBindings, load_bindings
from vsdk.sources.gst_errors import parse_error, running_error
from vsdk.sources.gst_pipeline import parse_pipeline

APPSINK = "videoconvert ! video/x-raw,format=BGR ! appsink emit-signals=true sync=false"
SLICE_NS = 100_000_000


class SceneFinder:
    """Pushes what an appsink gets, and prints the scenes."""

    def __init__(self, gi: GstBindings) -> None:
        self.gi = gi
        self.pipeline = vsdk.Pipeline(source="appsink")
        self.failure: BaseException | None = None

    def on_new_sample(self, appsink: Any) -> Any:
        """Called by GStreamer for each picture. An exception must not leave it: nobody would hear of it."""
        try:
            self.push(appsink.emit("pull-sample"))
        except Exception as error:
            self.failure = error
            return self.gi.gst.FlowReturn.ERROR
        return self.gi.gst.FlowReturn.OK

    def push(self, sample: Any) -> None:
        buffer = sample.get_buffer()
        info = self.gi.video.VideoInfo.new_from_caps(sample.get_caps())
        place = self.gi.video.buffer_get_video_meta(buffer) or info  # a buffer may differ from its caps
        if buffer.pts == self.gi.gst.CLOCK_TIME_NONE:
            raise SourceUnreadableError("a picture without a time stamp", hint="v4l2src do-timestamp=true adds them.")
        succeeded, mapped = buffer.map(self.gi.gst.MapFlags.READ)
        if not succeeded:
            raise SourceUnreadableError("a picture whose memory cannot be mapped")
        try:
            # No name holds on to the array: once it is unmapped, the memory is GStreamer's, and NumPy does not notice.
            events = self.pipeline.push(
                view_of(mapped.data, info.width, info.height, place.offset[0], place.stride[0]), buffer.pts, "bgr"
            )
        finally:
            buffer.unmap(mapped)
        self.report(events)

    def report(self, events: list[vsdk.Event]) -> None:
        for event in events:
            if event.type == "scene":
                print(f"scene {event.index}: {event.start:.2f} s to {event.end:.2f} s", flush=True)


def view_of(data: Any, width: int, height: int, offset: int, stride: int) -> Image:
    """Mapped BGR memory as `[height, width, 3]`, without a copy; rows are `stride` bytes apart."""
    return np.ndarray((height, width, 3), np.uint8, data, offset, (stride, 3, 1))


def run(description: str) -> None:
    gi = load_bindings()
    finder = SceneFinder(gi)
    text = parse_pipeline(f"gst://{description} ! {APPSINK}")
    try:
        pipeline = gi.gst.parse_launch(text.description)
    except gi.glib.Error as error:
        raise parse_error(text, error) from None  # ours repeat no passwords
    pipeline.get_by_name(text.sink).connect("new-sample", finder.on_new_sample)
    bus, kinds = pipeline.get_bus(), gi.gst.MessageType
    pipeline.set_state(gi.gst.State.PLAYING)
    try:
        message = None
        while message is None:  # in slices, so that Python hears Ctrl-C
            message = bus.timed_pop_filtered(SLICE_NS, kinds.EOS | kinds.ERROR)
    except KeyboardInterrupt:
        message = None
    finally:
        pipeline.set_state(gi.gst.State.NULL)  # returns when no callback runs any more
    finder.report(finder.pipeline.flush())
    finder.pipeline.close()
    if message is not None and message.type == kinds.ERROR:
        raise finder.failure or running_error(text, *message.parse_error())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print the scenes of a GStreamer pipeline.")
    parser.add_argument("pipeline", help="as for gst-launch-1.0, without the sink")
    try:
        run(parser.parse_args().pipeline)
    except vsdk.Error as error:
        sys.exit(str(error))
