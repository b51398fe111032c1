"""You own the loop (a camera callback, ROS, GStreamer): push frames, get events.

python examples/own_loop.py video.mp4
"""

import sys

import av
import numpy as np

import vsdk

pipeline = vsdk.Pipeline()
events: list[vsdk.Event] = []
with av.open(sys.argv[1]) as container:
    for frame in container.decode(video=0):
        image = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)  # as OpenCV and most cameras give it
        events += pipeline.push(image, t_ns=round(frame.time * 1e9), color="bgr")
events += pipeline.flush()
pipeline.close()

for event in events:
    if event.type == "scene":
        print(f"scene {event.index}: {event.start:.2f} s to {event.end:.2f} s")
