"""A ROS 2 node: images in, scene events out, as JSON strings.

    source /opt/ros/humble/setup.bash
    python examples/ros2_node.py --ros-args -r image:=/camera/image_raw -r scenes:=/door/scenes
    ros2 topic echo /door/scenes

It needs `rclpy`, `sensor_msgs` and `std_msgs`, which come with ROS. vsdk's tests run it on a machine without ROS: there
a small stand-in for `rclpy`, `tests/cli/ros_stand_in`, takes ROS's place; on a robot it was not tried.
"""

from __future__ import annotations

import signal
import sys
from typing import Literal

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import String

import vsdk
from vsdk.errors import InputError
from vsdk.events import to_json
from vsdk.frame import Image as Pixels

CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1}
NEWEST_ONLY = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)  # what cameras publish with, too


def view_of(message: Image) -> Pixels:
    """The pixels of a message as `[height, width, 3]`, without a copy; rows may have padding at their end.

    Raises:
        InputError: The encoding is not known, or there is less data than the message says.
    """
    if message.encoding not in CHANNELS:
        raise InputError(f"the encoding {message.encoding!r} is not one of {', '.join(CHANNELS)}")
    channels = CHANNELS[message.encoding]
    row = message.width * channels
    if message.step < row or len(message.data) < message.step * (message.height - 1) + row:
        said = f"{message.width}x{message.height} {message.encoding} with rows of {message.step} bytes"
        raise InputError(f"an image of {said} has {len(message.data)} bytes of data")
    strides = message.step, channels, int(channels > 1)  # grey: the same byte three times
    pixels = np.ndarray((message.height, message.width, 3), np.uint8, message.data, strides=strides)
    pixels.flags.writeable = False
    return pixels


class SceneNode(Node):
    """Subscribes to `image`, publishes on `scenes`. Everything happens in the thread that spins it."""

    def __init__(self) -> None:
        super().__init__("vsdk_scenes")
        self.pipeline = vsdk.Pipeline(source="image")
        self.last_ns = -1
        self.scenes = self.create_publisher(String, "scenes", 10)
        self.create_subscription(Image, "image", self.on_image, NEWEST_ONLY)

    def on_image(self, message: Image) -> None:
        stamp = message.header.stamp
        t_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        if t_ns < self.last_ns:  # a bag that starts over, or a clock that was set back
            self.get_logger().warning("time went back: a new stream begins")
            self.finish()
        color: Literal["rgb", "bgr"] = "bgr" if message.encoding == "bgr8" else "rgb"
        try:
            events = self.pipeline.push(view_of(message), t_ns, color)
        except InputError as error:  # one bad message is no reason to stop
            self.get_logger().error(str(error))
            return
        self.last_ns = t_ns
        self.publish(events)

    def finish(self) -> None:
        """Publish the last scene and the end."""
        self.publish(self.pipeline.flush())
        self.last_ns = -1

    def publish(self, events: list[vsdk.Event]) -> None:
        for event in events:
            self.scenes.publish(String(data=to_json(event)))


def main() -> None:
    # With ROS's own signal handlers, nothing could be published after Ctrl-C.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    node = SceneNode()
    try:
        while rclpy.ok():
            rclpy.spin_once(node, timeout_sec=0.1)  # Python hears signals between two of these
    except KeyboardInterrupt:
        pass
    finally:
        node.finish()
        node.pipeline.close()
        node.destroy_node()
        rclpy.shutdown()


if __name__ == "__main__":
    if "--help" in sys.argv:
        print(__doc__)
    else:
        main()
