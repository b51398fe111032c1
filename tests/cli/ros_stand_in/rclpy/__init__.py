"""What of ROS 2's `rclpy` the example uses, for machines without ROS: topics within one process, and a camera.

The camera is the video that the variable `STAND_IN_CAMERA` names: each `spin_once` delivers one of its frames to every
subscription, and at its end the process gets a SIGINT, as from Ctrl-C. What is published is printed, as `TOPIC DATA`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import av
import numpy as np
from sensor_msgs.msg import Image

from .node import Node
from .signals import SignalHandlerOptions

BEGIN_NS = 1_700_000_000_600_000_000
"""Stamp of the first frame."""

_running = False
_camera: Iterator[Image] = iter(())


def init(*, signal_handler_options: SignalHandlerOptions) -> None:
    global _running, _camera
    assert signal_handler_options is SignalHandlerOptions.NO
    _running, _camera = True, _frames(os.environ["STAND_IN_CAMERA"])


def ok() -> bool:
    return _running


def spin_once(node: Node, *, timeout_sec: float) -> None:
    message = next(_camera, None)
    if message is None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(timeout_sec)
    else:
        for callback in node.callbacks.values():
            callback(message)


def shutdown() -> None:
    global _running
    assert _running
    _running = False


def _frames(path: str) -> Iterator[Image]:
    """The frames as a camera publishes them: rows with padding, stamps of the wall clock."""
    with av.open(path) as container:
        for frame in container.decode(video=0):
            pixels = frame.to_ndarray(format="bgr24")
            rows = pixels.reshape(frame.height, -1)
            message = Image(height=frame.height, width=frame.width, encoding="bgr8", step=rows.shape[1] + 20)
            message.data.frombytes(np.pad(rows, ((0, 0), (0, 20)), constant_values=99).tobytes())
            stamp_ns = BEGIN_NS + round((frame.time or 0.0) * 1e9)
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
            yield message
